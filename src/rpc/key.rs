//! `key/*` and `name/*`: keys, and publishing under their names.

use std::time::Duration;

use axum::{
    Json,
    body::Body,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use ocipfs_node::{IpnsName, KeyError};
use serde_json::{Value, json};

use super::{
    Rpc,
    args::Args,
    error::Error,
    path,
    reply::{self, Stream},
    upload::UploadedForm,
};
use crate::{
    content::View,
    names::ipns::{self, Path},
};

/// Kubo's key of the node. Here that name is the one under which pushes may be published, so clients have one of their own.
const SELF: &str = "self";
const OWN_KEY: &str = "rpc";
const DEFAULT_TTL: Duration = Duration::from_secs(5 * 60);
const MAX_TTL: Duration = Duration::from_secs(48 * 60 * 60);
const MAX_KEY_BYTES: usize = 16 << 10;

/// Returns the name of a key file for the name of a client's key.
fn key_name(text: &str) -> Result<&str, Error> {
    match text {
        SELF => Ok(OWN_KEY),
        OWN_KEY => Err(Error::failed(format!("the key {OWN_KEY:?} is called {SELF:?} here"))),
        other => Ok(other),
    }
}

/// Refuses to change a key that clients may not change.
fn changeable(text: &str) -> Result<&str, Error> {
    match text {
        SELF => Err(Error::failed(format!("cannot change the key {SELF:?}"))),
        other => key_name(other),
    }
}

fn key(name: &str, id: &IpnsName) -> Value {
    json!({ "Name": name, "Id": id.to_string() })
}

/// Lists the keys.
pub async fn list(State(rpc): State<Rpc>) -> Result<Json<Value>, Error> {
    let node = rpc.content().node();
    let (_, own) = node.name_key(OWN_KEY).await.map_err(Error::failed)?;
    let mut keys = vec![key(SELF, &own)];
    for (name, id) in node.name_keys().await.map_err(Error::failed)? {
        if name != OWN_KEY {
            keys.push(key(&name, &id));
        }
    }
    Ok(Json(json!({ "Keys": keys })))
}

/// Creates a key.
pub async fn generate(State(rpc): State<Rpc>, args: Args) -> Result<Json<Value>, Error> {
    let name = changeable(args.one(0, "name")?)?;
    if let Some(other) = args.text("type").filter(|kind| *kind != "ed25519") {
        return Err(Error::failed(format!("key type {other:?} is not supported: expected ed25519")));
    }
    let id = rpc.content().node().new_key(name).await.map_err(Error::failed)?;
    Ok(Json(key(name, &id)))
}

/// Stores the key in the body.
pub async fn import(
    State(rpc): State<Rpc>,
    args: Args,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Error> {
    let name = || {
        let name = changeable(args.one(0, "name")?)?;
        match args.text("format") {
            None | Some("libp2p-protobuf-cleartext") => Ok(name),
            Some(other) => Err(Error::failed(format!(
                "format {other:?} is not supported: expected libp2p-protobuf-cleartext"
            ))),
        }
    };
    let stall = rpc.content().stall_timeout();
    let (name, mut upload) = UploadedForm::begin(name(), &headers, body, stall).await?;
    let part = upload.next().await?;
    let bytes = part.ok_or_else(|| Error::request("file argument \"key\" is required"))?;
    let bytes = bytes.read(MAX_KEY_BYTES, stall).await?;
    let id = rpc.content().node().import_key(name, &bytes).await.map_err(Error::failed)?;
    Ok(Json(key(name, &id)))
}

/// Returns the name of a key that a client may take away; none where there is no such key.
async fn removable(rpc: &Rpc, key_name: &str) -> Result<Option<IpnsName>, Error> {
    let key = match rpc.content().node().find_key(key_name).await {
        Err(KeyError::NoKey(_)) => return Ok(None),
        found => found.map_err(Error::failed)?,
    };
    let id = IpnsName::of(&key);
    rpc.options.publisher.check_manual(&id).map_err(Error::failed)?;
    Ok(Some(id))
}

/// Renames a key. With `force` it replaces the key that has the new name, which is lost.
pub async fn rename(State(rpc): State<Rpc>, args: Args) -> Result<Json<Value>, Error> {
    let (from, to) = (changeable(args.one(0, "name")?)?, changeable(args.one(1, "newName")?)?);
    let no_key = || Error::failed(KeyError::NoKey(from.into()));
    let id = removable(&rpc, from).await?.ok_or_else(no_key)?;
    let force = args.is_set("force")? && from != to;
    let overwrites = force && removable(&rpc, to).await?.is_some();
    rpc.content().node().rename_key(from, to, overwrites).await.map_err(Error::failed)?;
    Ok(Json(json!({ "Was": from, "Now": to, "Id": id.to_string(), "Overwrite": overwrites })))
}

/// Removes keys.
pub async fn remove(State(rpc): State<Rpc>, args: Args) -> Result<Json<Value>, Error> {
    let node = rpc.content().node();
    let mut keys = Vec::new();
    for name in args.required("name")? {
        let name = changeable(name)?;
        let no_key = || Error::failed(KeyError::NoKey(name.into()));
        let id = removable(&rpc, name).await?.ok_or_else(no_key)?;
        node.remove_key(name).await.map_err(Error::failed)?;
        keys.push(key(name, &id));
    }
    Ok(Json(json!({ "Keys": keys })))
}

/// Publishes a path under the name of a key.
pub async fn publish(State(rpc): State<Rpc>, args: Args) -> Result<Json<Value>, Error> {
    let path = Path::parse_lenient(args.one(0, "ipfs-path")?)?;
    let node = rpc.content().node();
    let given = args.text("key").unwrap_or(SELF);
    // A key is named by its name, or by its ID.
    let by_id = given.parse::<IpnsName>().ok();
    let known = node.name_keys().await.map_err(Error::failed)?;
    let found = known.into_iter().find(|(_, id)| Some(id) == by_id.as_ref()).map(|(name, _)| name);
    let name = match found {
        Some(name) => name,
        None => key_name(given)?.to_owned(),
    };
    let key = match name.as_str() {
        OWN_KEY => node.name_key(OWN_KEY).await.map(|(key, _)| key),
        other => node.find_key(other).await,
    };
    let key = key.map_err(|error| Error::failed(format!("cannot publish under {given:?}: {error}")))?;
    rpc.options.publisher.check_manual(&IpnsName::of(&key)).map_err(Error::failed)?;
    if args.flag("resolve")?.unwrap_or(true) {
        let at = ipns::follow(node, path.clone(), rpc.content().find_timeout()).await?.at;
        rpc.content().entry(&at).await?;
    }
    let ttl = duration(&args, "ttl")?.unwrap_or(DEFAULT_TTL).min(MAX_TTL);
    let published = node.publish(&key, &path.to_string(), ttl).await.map_err(Error::failed)?;
    Ok(Json(json!({ "Name": IpnsName::of(&key).to_string(), "Value": published.value })))
}

/// Reads a duration as Go writes it.
fn duration(args: &Args, name: &str) -> Result<Option<Duration>, Error> {
    let invalid = |text: &str| Error::failed(format!("invalid duration {text:?} of option {name:?}"));
    args.text(name).map(|text| humantime::parse_duration(text).map_err(|_| invalid(text))).transpose()
}

/// Finds out what a name means.
pub async fn resolve(State(rpc): State<Rpc>, args: Args, headers: HeaderMap) -> Result<Response, Error> {
    let node = rpc.content().node();
    let text = match args.get(0) {
        Some(text) if !text.is_empty() => text.to_owned(),
        _ => node.name_key(OWN_KEY).await.map_err(Error::failed)?.1.to_string(),
    };
    let text = if text.starts_with('/') { text } else { format!("/ipns/{text}") };
    let path = match args.flag("recursive")?.unwrap_or(true) {
        true => format!("/ipfs/{}", path::resolve(&rpc, &text).await?),
        false => match Path::parse_lenient(&text)? {
            Path::Name(name, below) if View::current().is_local() => {
                path::own_value(&rpc, &name, &below)?.to_string()
            }
            Path::Name(name, below) => {
                let found = node.resolve(&name, rpc.content().find_timeout()).await.map_err(Error::failed)?;
                if below.is_empty() { found.value } else { format!("{}/{below}", found.value) }
            }
            content => content.to_string(),
        },
    };
    let resolved = json!({ "Path": path });
    if !args.is_set("stream")? {
        return Ok(Json(resolved).into_response());
    }
    reply::stream(Stream::Objects, &headers, |output| async move { output.object(&resolved).await }).await
}
