//! Lists of peers to find the network by: a file or a URL with one multiaddr on each line, or Kubo's AutoConf document.

use std::{convert::Infallible, fs::File, io::Read, path::PathBuf, str::FromStr, time::Duration};

use futures::future::join_all;
use ocipfs_node::Multiaddr;
use serde::Deserialize;
use serde_json::Value;

use super::{Exit, usage};

/// A list with all remembered peers of a node has a tenth of it.
const MAX_BYTES: u64 = 1 << 20;
const MAX_PEERS: usize = 4096;
/// A server that is slower does not delay the start of the node any longer.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
const HINT: &str = "a list has one multiaddr that ends in /p2p/<peer ID> on each line, as `ocipfs swarm export-peers` writes it";

/// Where a list is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub enum PeerList {
    File(PathBuf),
    Url(String),
}

impl From<String> for PeerList {
    fn from(text: String) -> Self {
        match text.starts_with("http://") || text.starts_with("https://") {
            true => Self::Url(text),
            false => Self::File(text.into()),
        }
    }
}

impl FromStr for PeerList {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(text.to_owned().into())
    }
}

/// Reads the lists that are files. A URL is refused in a private swarm.
pub fn read(lists: &[PeerList], private: bool) -> Result<Vec<Multiaddr>, Exit> {
    let mut peers = Vec::new();
    for list in lists {
        match list {
            PeerList::File(path) => {
                let shown = format!("--bootstrap-from {}", path.display());
                let found = read_file(path).and_then(|text| parse(&text));
                peers.extend(found.map_err(|why| usage(format!("{shown}: {why}"), HINT))?);
            }
            PeerList::Url(url) if private => {
                let message = format!("--bootstrap-from {url} leaves the private swarm");
                return Err(usage(message, "name a file: `ocipfs swarm export-peers FILE` writes one"));
            }
            PeerList::Url(_) => {}
        }
    }
    Ok(peers)
}

fn read_file(path: &PathBuf) -> Result<String, String> {
    let mut bytes = Vec::new();
    // A named pipe has no length that could be asked for.
    let read = File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes));
    read.map_err(|error| error.to_string())?;
    text(bytes)
}

fn text(bytes: Vec<u8>) -> Result<String, String> {
    match bytes.len() as u64 > MAX_BYTES {
        true => Err(format!("it is larger than {MAX_BYTES} bytes")),
        false => String::from_utf8(bytes).map_err(|_| "it is not text".into()),
    }
}

/// Fetches the lists at URLs. One that cannot be had is logged: the node may find its network without it.
pub async fn fetch(lists: &[PeerList]) -> Vec<Multiaddr> {
    let urls = lists.iter().filter_map(|list| match list {
        PeerList::Url(url) => Some(url),
        PeerList::File(_) => None,
    });
    let fetched = join_all(urls.map(async |url| {
        let peers = fetch_one(url).await.and_then(|text| parse(&text));
        peers.unwrap_or_else(|why| {
            tracing::warn!(url, why, "cannot fetch a list of peers; starting without it");
            Vec::new()
        })
    }));
    fetched.await.concat()
}

async fn fetch_one(url: &str) -> Result<String, String> {
    let reason = |error: reqwest::Error| error.without_url().to_string();
    let client = crate::http_client::new().map_err(reason)?;
    let fetched = tokio::time::timeout(FETCH_TIMEOUT, async {
        let mut response = client.get(url).send().await?.error_for_status()?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await?
            && body.len() as u64 <= MAX_BYTES
        {
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    });
    let body = fetched.await.map_err(|_| format!("no answer within {} s", FETCH_TIMEOUT.as_secs()))?;
    text(body.map_err(reason)?)
}

/// Returns the peers of a list.
fn parse(text: &str) -> Result<Vec<Multiaddr>, String> {
    let texts = match text.trim_start().starts_with('{') {
        true => bootstrap_of(&serde_json::from_str(text).map_err(|error| error.to_string())?),
        false => lines(text).map(|(number, line)| (format!("line {number}"), line.to_owned())).collect(),
    };
    if texts.len() > MAX_PEERS {
        return Err(format!("it has {} peers, and {MAX_PEERS} are the most", texts.len()));
    }
    texts
        .iter()
        .map(|(place, text)| {
            let address: Multiaddr = text.parse().map_err(|error| format!("{place}: {text:?}: {error}"))?;
            match text.contains("/p2p/") {
                true => Ok(address),
                false => Err(format!("{place}: {text} does not end in /p2p/<peer ID>")),
            }
        })
        .collect()
}

/// Returns the lines that are neither empty nor comments.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    numbered.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// Returns the bootstrap peers of all systems in an AutoConf document: the arrays named `Bootstrap`.
fn bootstrap_of(document: &Value) -> Vec<(String, String)> {
    match document {
        Value::Object(members) => members
            .iter()
            .flat_map(|(name, member)| match (name.as_str(), member) {
                ("Bootstrap", Value::Array(peers)) => {
                    let texts = peers.iter().filter_map(Value::as_str);
                    texts.map(|text| ("Bootstrap".to_owned(), text.to_owned())).collect()
                }
                _ => bootstrap_of(member),
            })
            .collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "/ip4/192.0.2.1/tcp/4001/p2p/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";

    #[test]
    fn a_list_of_peers_has_one_on_each_line() {
        let peers = parse(&format!("# a comment\n\n  {ONE}  \n{ONE}\n")).unwrap();
        assert_eq!(peers, [ONE.parse().unwrap(), ONE.parse().unwrap()]);
        assert_eq!(parse("").unwrap(), []);
    }

    #[test]
    fn a_malformed_line_of_a_list_of_peers_is_named() {
        let error = parse(&format!("{ONE}\nnonsense\n")).unwrap_err();
        assert!(error.contains("line 2"), "{error}");
        let error = parse("/ip4/192.0.2.1/tcp/4001\n").unwrap_err();
        assert!(error.contains("line 1") && error.contains("/p2p/"), "{error}");
        assert!(parse(&format!("{ONE}\n").repeat(MAX_PEERS + 1)).is_err());
    }

    #[test]
    fn the_bootstrap_peers_of_an_autoconf_document_are_read() {
        let document = serde_json::json!({
            "AutoConfVersion": 2025072901,
            "SystemRegistry": {
                "AminoDHT": { "NativeConfig": { "Bootstrap": [ONE] }, "DelegatedConfig": { "Read": ["/x"] } },
                "IPNI": { "DelegatedConfig": {} },
            },
        });
        assert_eq!(parse(&document.to_string()).unwrap(), [ONE.parse().unwrap()]);
        assert!(parse("{").is_err());
    }

    #[test]
    fn a_url_is_no_list_of_peers_in_a_private_swarm() {
        let lists = [PeerList::from("https://example.org/peers".to_owned())];
        assert!(matches!(read(&lists, true), Err(Exit::Usage(_))));
        assert_eq!(read(&lists, false).unwrap(), []);
    }
}
