use axum::{
    Json,
    http::header,
    response::{IntoResponse, Response},
};
use ocipfs_oci::Tag;
use serde_json::json;

use super::{
    Registry,
    error::{Refusal, Wanted},
    stale,
};
use crate::names::Meaning;

/// `tags/list`, in pages where `n` asks for them.
pub async fn list(registry: &Registry, name: &str, query: Option<&str>) -> Result<Response, Refusal> {
    let refusal = |error| Refusal::names(error, Wanted::Manifest);
    let meaning = Meaning::parse(name).map_err(refusal)?;
    let tags = meaning.tags(&registry.resolver).await.map_err(refusal)?;
    let (page, next) = page(&tags, query.unwrap_or_default());
    let link = next.map(|query| [(header::LINK, format!("</v2/{name}/tags/list?{query}>; rel=\"next\""))]);
    Ok((stale(registry, &meaning), link, Json(json!({ "name": name, "tags": page }))).into_response())
}

/// The tags after `last`, `n` at most, and the query of the next page if there is one.
fn page<'a>(tags: &'a [Tag], query: &str) -> (&'a [Tag], Option<String>) {
    let value = |key| {
        query.split('&').filter_map(|pair| pair.split_once('=')).find(|(k, _)| *k == key).map(|(_, v)| v)
    };
    let start = value("last").map_or(0, |last| tags.partition_point(|tag| tag.as_str() <= last));
    let rest = &tags[start..];
    match value("n").and_then(|n| n.parse::<usize>().ok()) {
        Some(n) if n < rest.len() => {
            let page = &rest[..n];
            (page, page.last().map(|last| format!("n={n}&last={last}")))
        }
        _ => (rest, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_come_in_pages() {
        let tags: Vec<Tag> = ["a", "b", "c"].iter().map(|tag| tag.parse().unwrap()).collect();
        for (query, from, to, next) in [
            ("", 0, 3, None),
            ("ns=example.org", 0, 3, None),
            ("n=2", 0, 2, Some("n=2&last=b")),
            ("n=2&last=b", 2, 3, None),
            ("n=3", 0, 3, None),
            ("n=0", 0, 0, None),
            ("n=x", 0, 3, None),
            ("last=bb", 2, 3, None),
            ("last=z", 3, 3, None),
        ] {
            assert_eq!(page(&tags, query), (&tags[from..to], next.map(String::from)), "{query}");
        }
    }
}
