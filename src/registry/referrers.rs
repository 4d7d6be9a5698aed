use std::collections::HashSet;

use axum::{
    http::header,
    response::{IntoResponse, Response},
};
use ocipfs_oci::{Descriptor, Digest, Index, Reference, Tag, media_type};

use super::{
    Registry,
    error::{Refusal, Wanted},
    query::{Query, link},
};
use crate::names::Meaning;

/// Read of the rows at once.
const ROWS: usize = 500;
/// Bytes of an answer: clients take no larger index than registries take manifests.
const MOST_BYTES: usize = 3 << 20;

/// `referrers/<digest>`: an empty index where nothing refers to it, whether the repository is there or not.
pub async fn list(registry: &Registry, name: &str, digest: &str, query: &Query) -> Result<Response, Refusal> {
    let digest: Digest = digest.parse()?;
    let refusal = |error| Refusal::names(error, Wanted::Manifest);
    let meaning = Meaning::parse(name).map_err(refusal)?;
    let kind = query.value("artifactType");
    let wanted = |referrer: &Descriptor| match kind {
        Some(kind) => referrer.artifact_type.as_ref().is_some_and(|own| own == kind),
        None => true,
    };
    let mut page = Page { entries: Vec::new(), bytes: 0, seen: HashSet::new(), next: None };
    let pushed = match &meaning {
        Meaning::Local { name } => {
            let of = name.clone();
            registry.ask(move |all| all.has(&of)).await?.then_some(name)
        }
        _ => None,
    };
    if let Some(name) = pushed {
        let mut last = query.last().to_string();
        while page.next.is_none() {
            let (of, subject, after) = (name.clone(), digest.clone(), last.clone());
            let rows = registry.ask(move |all| all.referrers(&of, &subject, &after, ROWS)).await?;
            let Some(end) = rows.last() else { break };
            last = end.digest.to_string();
            page.add(rows, wanted, query.most());
        }
    } else {
        let mut all = meaning.referrers(&registry.resolver, &digest).await.map_err(refusal)?;
        all.retain(|referrer| referrer.digest.to_string().as_str() > query.last());
        page.add(all, wanted, query.most());
    }
    if page.next.is_none() {
        let tagged = tagged(registry, &meaning, &digest).await;
        page.add(tagged, wanted, None);
    }
    Ok(answer(page, name, &digest, query))
}

/// One answer of several.
struct Page {
    entries: Vec<Descriptor>,
    bytes: usize,
    seen: HashSet<Digest>,
    /// After which the next begins.
    next: Option<Digest>,
}

impl Page {
    fn add(&mut self, all: Vec<Descriptor>, wanted: impl Fn(&Descriptor) -> bool, most: Option<usize>) {
        for referrer in all.into_iter().filter(wanted) {
            let length = serde_json::to_vec(&referrer).map_or(0, |json| json.len());
            let is_full =
                self.bytes + length > MOST_BYTES || most.is_some_and(|most| self.entries.len() >= most);
            if is_full {
                self.next = self.entries.last().map(|last| last.digest.clone());
                return;
            }
            if self.seen.insert(referrer.digest.clone()) {
                self.bytes += length;
                self.entries.push(referrer);
            }
        }
    }
}

/// What clients that know no referrers keep under a tag that is made of the digest ("Referrers Tag Schema").
async fn tagged(registry: &Registry, meaning: &Meaning, digest: &Digest) -> Vec<Descriptor> {
    let hex: String = digest.hex().chars().take(64).collect();
    let Ok(tag) = format!("{}-{hex}", digest.algorithm()).parse::<Tag>() else { return Vec::new() };
    match meaning.manifest(&registry.resolver, &Reference::Tag(tag)).await {
        Ok(document) if document.media_type.is_index() => {
            Index::parse(&document.bytes).map(|index| index.manifests).unwrap_or_default()
        }
        _ => Vec::new(),
    }
}

fn answer(page: Page, name: &str, digest: &Digest, query: &Query) -> Response {
    let applied = query.value("artifactType").map(|_| [("oci-filters-applied", "artifactType")]);
    let next = page.next.map(|last| {
        let last = last.to_string();
        let mut pairs = vec![("last", last.as_str())];
        pairs.extend(["n", "artifactType"].into_iter().filter_map(|key| Some((key, query.value(key)?))));
        link(&format!("/v2/{name}/referrers/{digest}"), &pairs)
    });
    let kind = [(header::CONTENT_TYPE, media_type::OCI_INDEX)];
    // An index of descriptors always has a JSON form.
    let json = serde_json::to_vec(&Index::new(page.entries)).unwrap_or_default();
    (applied, next, kind, json).into_response()
}
