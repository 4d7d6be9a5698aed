//! Many clients that pull small blobs at once: with access rules, a signature policy and a token of each, and without any of it.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use serde::Deserialize;

use super::{
    Room,
    turns::{Contender, Taken, in_turns},
};
use crate::{
    Failure,
    client::Url,
    report::{Row, Target},
    server::{Ocipfs, Serve},
    tar,
};

const CLIENTS: usize = 64;
/// Of each client, manifest and blob in turns.
const REQUESTS: usize = 100;
const LAYER_BYTES: usize = 64 << 10;

/// The name of the contender without rules.
const FREE: &str = "ocipfs, without";

const RULES: &str = r#"
[[rule]]
users = ["alice"]
repositories = ["layer/*"]
actions = ["pull"]

[limits]
per-user = "1000000/1s"
"#;

/// A policy about other repositories: each request asks it.
const POLICY: &str = r#"
[keys.release]
cosign = "cosign.pub"

[[policy]]
repositories = ["signed/*"]
keys = ["release"]
"#;
const KEY: &str = include_str!("../../../../src/signatures/fixtures/cosign.pub");

/// What `token create` prints.
#[derive(Deserialize)]
struct Created {
    token: String,
}

pub fn run(room: &Room) -> Result<(), Failure> {
    let dir = room.new_dir("rules")?;
    let [rules, policy] = ["access.toml", "policy.toml"].map(|name| dir.join(name));
    for (path, text) in [(&rules, RULES), (&policy, POLICY), (&dir.join("cosign.pub"), KEY)] {
        fs::write(path, text)?;
    }
    let more = ["--access-rules".into(), rules.into_os_string(), "--policy".into(), policy.into_os_string()];
    let ruled = Ocipfs::start(room, &Serve { more: more.to_vec(), ..Serve::default() })?;
    let free = Ocipfs::start(room, &Serve::default())?;
    let layer = dir.join("layer.tar");
    fs::write(&layer, [&tar::entry("data", &vec![7; LAYER_BYTES])[..], &tar::END].concat())?;
    let urls = [added(&ruled, &layer)?, added(&free, &layer)?];
    let token = |client: usize| {
        let create = ["token", "create", &format!("client-{client}"), "--repo", "layer/*"];
        let created: Created = serde_json::from_str(&ruled.ask(&create)?)?;
        Ok(format!("Authorization: Bearer {}\r\n", created.token))
    };
    let tokens = (0..CLIENTS).map(token).collect::<Result<Vec<String>, Failure>>()?;
    let none = vec![String::new(); CLIENTS];
    if urls[0].iter().any(|url| url.get().is_ok()) {
        return Err("the rules do not hold".into());
    }
    let contenders = vec![
        Contender::in_unit("requests/s", "ocipfs", || pull(room, &urls[0], &tokens)),
        Contender::in_unit("requests/s", FREE, || pull(room, &urls[1], &none)),
    ];
    let series = in_turns(room, room.plan.rounds.max(10), contenders);
    let title = format!("{CLIENTS} clients with tokens pull by access rules and a policy");
    room.show(Row::new("rules", title, series).ratio(FREE, Target::at_least(0.9)));
    Ok(())
}

/// Adds a layer; where its manifest and its blob are.
fn added(node: &Ocipfs, layer: &Path) -> Result<[Url; 2], Failure> {
    let added = node.add(&layer.to_string_lossy())?;
    Ok([node.manifest(&added)?, node.blob(&added)?])
}

fn pull(room: &Room, urls: &[Url; 2], headers: &[String]) -> Result<Taken, Failure> {
    let requests = if room.plan.quick { REQUESTS / 10 } else { REQUESTS };
    let start = Instant::now();
    thread::scope(|scope| {
        let client = |headers: &str| {
            (0..requests).try_for_each(|at| urls[at % 2].get_with(headers)).map_err(|error| error.to_string())
        };
        let clients: Vec<_> = headers.iter().map(|headers| scope.spawn(move || client(headers))).collect();
        clients
            .into_iter()
            .try_for_each(|client| client.join().map_err(|_| "a client panicked".to_string())?)
    })?;
    let took: Duration = start.elapsed();
    Ok(Taken::new((headers.len() * requests) as f64 / took.as_secs_f64()))
}
