//! A client of `/routing/v1`: servers that know providers, beside the routing system of the swarm. The user names them; there is
//! none by default. <https://specs.ipfs.tech/routing/http-routing-v1/>

use std::{str::FromStr, time::Duration};

use futures::{FutureExt, future::join_all};
use ocipfs_node::{Cid, Multiaddr, PeerId, RoutedProvider, Router};
use serde::Deserialize;

use super::is_http;

const MAX_BYTES: usize = 1 << 20;
/// A server that is slower does not help the search.
const TIMEOUT: Duration = Duration::from_secs(8);
/// Providers and addresses that are taken of one answer.
const MAX_PROVIDERS: usize = 20;
const MAX_ADDRESSES: usize = 16;

/// The address of a server, without `/routing/v1`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct RouterUrl(String);

impl FromStr for RouterUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_plain = |url: &reqwest::Url| url.query().is_none() && url.fragment().is_none();
        match text.parse::<reqwest::Url>() {
            Ok(url) if is_http(&url) && is_plain(&url) => {
                let base = text.trim_end_matches('/');
                Ok(Self(base.strip_suffix("/routing/v1").unwrap_or(base).into()))
            }
            _ => Err(format!("invalid router {text:?}: expected a URL such as https://router.example")),
        }
    }
}

impl TryFrom<String> for RouterUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    providers: Option<Vec<Record>>,
}

/// A record of any schema; only those of peers are used.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Record {
    schema: String,
    #[serde(default, rename = "ID")]
    id: Option<String>,
    #[serde(default)]
    addrs: Option<Vec<String>>,
}

/// Creates a router that asks all servers at once. One that cannot be asked is logged, and the others go on.
///
/// # Errors
/// Fails if the system's certificates cannot be read.
pub fn router(urls: &[RouterUrl]) -> reqwest::Result<Router> {
    let (client, urls) = (super::new()?, urls.to_vec());
    Ok(Router::new(move |cid| {
        let (client, urls) = (client.clone(), urls.clone());
        async move {
            let answers = urls.iter().map(async |url| {
                let found = tokio::time::timeout(TIMEOUT, ask(&client, url, &cid)).await;
                let found =
                    found.unwrap_or_else(|_| Err(format!("no answer within {} s", TIMEOUT.as_secs())));
                found.unwrap_or_else(|why| {
                    tracing::warn!(url = url.0, %cid, why, "cannot ask a router for providers");
                    Vec::new()
                })
            });
            join_all(answers).await.concat()
        }
        .boxed()
    }))
}

async fn ask(client: &reqwest::Client, url: &RouterUrl, cid: &Cid) -> Result<Vec<RoutedProvider>, String> {
    let reason = |error: reqwest::Error| error.without_url().to_string();
    let request = client.get(format!("{}/routing/v1/providers/{cid}", url.0));
    let mut response =
        request.header(reqwest::header::ACCEPT, "application/json").send().await.map_err(reason)?;
    // A router that knows no provider has not failed.
    if response.status() == reqwest::StatusCode::NOT_FOUND {
        return Ok(Vec::new());
    }
    response = response.error_for_status().map_err(reason)?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(reason)? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_BYTES {
            return Err(format!("its answer is larger than {MAX_BYTES} bytes"));
        }
    }
    providers(&body).map_err(|error| format!("invalid answer: {error}"))
}

fn providers(body: &[u8]) -> Result<Vec<RoutedProvider>, serde_json::Error> {
    let answer: Answer = serde_json::from_slice(body)?;
    let records = answer.providers.unwrap_or_default().into_iter();
    let peers = records.filter(|record| matches!(record.schema.as_str(), "peer" | "bitswap"));
    Ok(peers.filter_map(provider).take(MAX_PROVIDERS).collect())
}

/// Returns the provider of a record; addresses that this version does not know are left out.
fn provider(record: Record) -> Option<RoutedProvider> {
    let peer: PeerId = record.id?.parse().ok()?;
    let addresses = record.addrs.unwrap_or_default();
    let addresses = addresses.iter().filter_map(|text| text.parse::<Multiaddr>().ok());
    Some(RoutedProvider { peer, addresses: addresses.take(MAX_ADDRESSES).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "12D3KooWNdH5vzZ6HK3XTmLz9R82zucX1Jwibw1h3WEejRsVVPWh";

    #[test]
    fn the_address_of_a_router_is_its_base() {
        for text in ["https://one.example", "https://one.example/", "https://one.example/routing/v1/"] {
            assert_eq!(text.parse::<RouterUrl>().unwrap().0, "https://one.example");
        }
        for text in ["one.example", "ftp://one.example", "https://one.example/?a=b", "http://", ""] {
            assert!(text.parse::<RouterUrl>().unwrap_err().contains("https://router.example"), "{text}");
        }
    }

    #[test]
    fn peers_of_an_answer_are_providers_and_unknown_records_are_ignored() {
        let answer = format!(
            r#"{{"Providers": [
                {{"Schema": "peer", "ID": "{PEER}", "Addrs": ["/ip4/192.0.2.1/tcp/4001", "/new/protocol"], "Protocols": ["transport-bitswap"]}},
                {{"Schema": "bitswap", "Protocol": "transport-bitswap", "ID": "{PEER}", "Addrs": null}},
                {{"Schema": "peer", "ID": "nonsense", "Addrs": []}},
                {{"Schema": "other", "Anything": 1}}
            ]}}"#
        );
        let found = providers(answer.as_bytes()).unwrap();
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(|provider| provider.peer.to_string() == PEER));
        assert_eq!(found[0].addresses, ["/ip4/192.0.2.1/tcp/4001".parse().unwrap()]);
        assert!(found[1].addresses.is_empty());
        for none in ["{}", r#"{"Providers": null}"#, r#"{"Providers": []}"#] {
            assert_eq!(providers(none.as_bytes()).unwrap(), []);
        }
        assert!(providers(b"<html>").is_err());
    }
}
