//! Blobs coming in ("Pushing blobs"): whole, in parts, as a stream, or by mounting what is here.

use axum::{
    body::BodyDataStream,
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
};
use ocipfs_oci::{Algorithm, Digest, Name};
use tokio::sync::OwnedMutexGuard;

use super::{Registry, body, error::ApiError, query::Query};
use crate::{
    content::{StoreError, Stored, Upload},
    images::repository::{Edit, RepositoryBlob},
    names::NameKind,
};

/// Recommended minimum length of an upload chunk; a shorter one is accepted and costs as much.
const CHUNK_MIN_LENGTH: &str = "65536";

/// `POST`: mounts a blob, takes one whole, or begins an upload.
pub async fn begin(
    registry: &Registry,
    name: &Name,
    query: &Query,
    body: &mut BodyDataStream,
) -> Result<Response, ApiError> {
    if let Some(algorithm) = query.value("digest-algorithm") {
        algorithm.parse::<Algorithm>()?;
    }
    if let Some(digest) = query.value("mount") {
        let digest: Digest = digest.parse()?;
        if mount(registry, name, &digest, query.value("from")).await? {
            return Ok(created(name, &digest));
        }
    }
    let digest: Option<Digest> = query.value("digest").map(str::parse).transpose()?;
    let mut upload = registry.resolver.content().uploads().begin(name.as_str())?;
    let Some(digest) = digest else { return Ok(under_way(StatusCode::ACCEPTED, name, &upload)) };
    let id = upload.id().to_string();
    let result = match upload.append(body).await {
        Ok(()) => finish(registry, name, upload, &digest).await,
        Err(error) => Err(error.into()),
    };
    // No request can continue it.
    registry.resolver.content().uploads().forget(&id);
    result
}

/// Adds a blob that is here already; false where it has to be uploaded.
async fn mount(
    registry: &Registry,
    name: &Name,
    digest: &Digest,
    from: Option<&str>,
) -> Result<bool, ApiError> {
    let content = registry.resolver.content();
    let _storing = content.gc_guard().await;
    // Of a repository it has to be a blob, which is fetched where only followed names have it; of another name it is enough
    // that it is here.
    if let Some(Ok(NameKind::Hosted { name: from })) = from.map(NameKind::parse) {
        let (of, name) = (digest.clone(), from.clone());
        let is_pushed = registry.ask(move |all| all.piece(&name, &of)).await?.is_some();
        if !is_pushed && !is_adopted(registry, &from, digest).await {
            return Ok(false);
        }
    }
    let stored = content.stored_blob(digest).await;
    let Some(stored) = stored.map_err(|error| ApiError::content(error, super::error::ResourceKind::Blob))?
    else {
        return Ok(false);
    };
    let add = adding(name, digest);
    match content.store().run(move |store| store.keep(&stored, &[], add)).await {
        // Removed since it was found.
        Err(StoreError::Gone(_)) => return Ok(false),
        kept => kept?,
    }
    registry.resolver.repositories().wake();
    Ok(true)
}

/// Fetches a blob that a followed repository has; false where it cannot be had, so that the client sends it.
async fn is_adopted(registry: &Registry, from: &Name, digest: &Digest) -> bool {
    match registry.resolver.adopt_blob(from, digest).await {
        Ok(adopted) => adopted.piece(digest).is_some(),
        Err(error) => {
            tracing::debug!(repository = %from, %digest, %error, "cannot mount a blob from a followed repository");
            false
        }
    }
}

/// Adds a stored blob to a repository.
fn adding(
    name: &Name,
    digest: &Digest,
) -> impl FnMut(&redb::WriteTransaction, &Stored) -> Result<(), StoreError> + Clone + Send + 'static {
    let (name, digest) = (name.clone(), digest.clone());
    move |write, stored| {
        let piece = RepositoryBlob { digest: digest.clone(), size: stored.size, root: stored.root };
        Edit::new(write).add_piece(&name, &piece)
    }
}

async fn find(registry: &Registry, name: &Name, id: &str) -> Result<OwnedMutexGuard<Upload>, ApiError> {
    let found = registry.resolver.content().uploads().find(name.as_str(), id).await?;
    found.ok_or_else(|| ApiError::unknown_upload(id))
}

/// `GET`: how far an upload is.
pub async fn status(registry: &Registry, name: &Name, id: &str) -> Result<Response, ApiError> {
    let upload = find(registry, name, id).await?;
    Ok(under_way(StatusCode::NO_CONTENT, name, &upload))
}

/// `PATCH`: the next part, or all of it as a stream. A part that says where it begins is durable when it is acknowledged.
pub async fn part(
    registry: &Registry,
    name: &Name,
    id: &str,
    headers: &HeaderMap,
    body: &mut BodyDataStream,
) -> Result<Response, ApiError> {
    let mut upload = find(registry, name, id).await?;
    // What an earlier part brought was acknowledged, and this one may take long.
    upload.save().await?;
    let says_where = append(name, &mut upload, headers, body).await?;
    match says_where {
        true => upload.save().await?,
        false => registry.resolver.content().save_upload_soon(name.as_str(), id),
    }
    Ok(under_way(StatusCode::ACCEPTED, name, &upload))
}

/// `PUT`: the last part, if there is one, and the digest of all.
pub async fn end(
    registry: &Registry,
    name: &Name,
    id: &str,
    query: &Query,
    headers: &HeaderMap,
    body: &mut BodyDataStream,
) -> Result<Response, ApiError> {
    let digest: Digest = query.value("digest").ok_or_else(ApiError::no_digest)?.parse()?;
    let mut upload = find(registry, name, id).await?;
    append(name, &mut upload, headers, body).await?;
    finish(registry, name, upload, &digest).await
}

/// `DELETE`: cancels an upload.
pub async fn cancel(registry: &Registry, name: &Name, id: &str) -> Result<Response, ApiError> {
    let mut upload = find(registry, name, id).await?;
    upload.cancel().await?;
    registry.resolver.content().uploads().forget(id);
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn finish(
    registry: &Registry,
    name: &Name,
    upload: OwnedMutexGuard<Upload>,
    digest: &Digest,
) -> Result<Response, ApiError> {
    registry.resolver.content().finish_upload(upload, digest, adding(name, digest)).await?;
    registry.resolver.repositories().wake();
    Ok(created(name, digest))
}

/// Takes a body that begins where the upload ends; true where it says so.
async fn append(
    name: &Name,
    upload: &mut Upload,
    headers: &HeaderMap,
    body: &mut BodyDataStream,
) -> Result<bool, ApiError> {
    let range = headers.get(header::CONTENT_RANGE).map(|value| value.to_str().unwrap_or_default());
    let Some(text) = range else {
        if body::length(headers) != Some(0) {
            upload.append(body).await?;
        }
        return Ok(false);
    };
    let (first, last) = content_range(text).ok_or_else(|| ApiError::content_range(text))?;
    let before = upload.length();
    if first != before {
        let refusal =
            ApiError::out_of_order(first, before).with(header::LOCATION, location(name, upload.id()));
        return Err(refusal.with(header::RANGE, range_of(before)));
    }
    let length = last - first + 1;
    if body::length(headers).is_some_and(|said| said != length) {
        return Err(ApiError::size(format!(
            "Content-Range {text} covers {length} bytes, but the body has another length"
        )));
    }
    upload.append(body).await?;
    match upload.length() - before == length {
        true => Ok(true),
        false => {
            let came = upload.length() - before;
            Err(ApiError::size(format!(
                "received {came} bytes for Content-Range {text}: query the offset of the upload and resume"
            )))
        }
    }
}

/// `<first>-<last>`, as the specification has it; some clients write `bytes <first>-<last>/<size>`.
fn content_range(text: &str) -> Option<(u64, u64)> {
    let text = text.trim().trim_start_matches("bytes").trim_start_matches([' ', '=']);
    let (first, last) = text.split('/').next()?.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last && last < u64::MAX).then_some((first, last))
}

/// Both positions are included, so that nothing looks like one byte: as other registries have it.
fn range_of(length: u64) -> String {
    format!("0-{}", length.saturating_sub(1))
}

fn location(name: &Name, id: &str) -> String {
    format!("/v2/{name}/blobs/uploads/{id}")
}

fn under_way(status: StatusCode, name: &Name, upload: &Upload) -> Response {
    let headers = [
        (header::LOCATION, location(name, upload.id())),
        (header::RANGE, range_of(upload.length())),
        (HeaderName::from_static("docker-upload-uuid"), upload.id().into()),
        (HeaderName::from_static("oci-chunk-min-length"), CHUNK_MIN_LENGTH.into()),
    ];
    (status, headers).into_response()
}

fn created(name: &Name, digest: &Digest) -> Response {
    let headers = [
        (header::LOCATION, format!("/v2/{name}/blobs/{digest}")),
        (HeaderName::from_static("docker-content-digest"), digest.to_string()),
    ];
    (StatusCode::CREATED, headers).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_range_of_an_upload_chunk_is_parsed() {
        for (text, range) in [
            ("0-0", Some((0, 0))),
            ("10-19", Some((10, 19))),
            ("bytes 10-19/100", Some((10, 19))),
            ("bytes=10-19", Some((10, 19))),
            ("19-10", None),
            ("10-", None),
            ("-5", None),
            ("0-18446744073709551615", None),
            ("a-b", None),
            ("", None),
        ] {
            assert_eq!(content_range(text), range, "{text}");
        }
    }
}
