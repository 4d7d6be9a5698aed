use std::collections::HashSet;

use axum::{
    http::header,
    response::{IntoResponse, Response},
};
use ocipfs_oci::{Descriptor, Digest, Index, Reference, Tag, media_type};

use super::{
    Registry,
    error::{ApiError, ResourceKind},
    query::{Query, link},
};
use crate::{images::layout::Referrers, names::NameKind};

/// Bytes of an answer: clients take no larger index than registries take manifests.
const MAX_RESPONSE_BYTES: usize = 3 << 20;

/// `referrers/<digest>`: an empty index where nothing refers to it, whether the repository is there or not.
pub async fn list(
    registry: &Registry,
    name: &str,
    digest: &str,
    query: &Query,
) -> Result<Response, ApiError> {
    let digest: Digest = digest.parse()?;
    let refusal = |error| ApiError::names(error, ResourceKind::Manifest);
    let kind = NameKind::parse(name).map_err(refusal)?;
    let artifact_type = query.value("artifactType");
    let wanted = |referrer: &Descriptor| match artifact_type {
        Some(artifact_type) => referrer.artifact_type.as_ref().is_some_and(|own| own == artifact_type),
        None => true,
    };
    let mut page = Page { entries: Vec::new(), bytes: 0, seen: HashSet::new(), next: None };
    let mut last = query.last().to_string();
    loop {
        let more_after = match kind.referrers(&registry.resolver, &digest, &last).await {
            Ok(Referrers { found, more_after }) => {
                page.add(found, wanted, query.most());
                more_after
            }
            Err(error) if error.is_absence() => None,
            // A 404 would mean that the endpoint does not exist, not that there are no referrers.
            Err(error) => return Err(refusal(error).not_answered()),
        };
        match more_after.filter(|_| page.next.is_none()) {
            // Pushed repositories have rows; elsewhere a page reads one manifest per entry.
            Some(after) if matches!(kind, NameKind::Hosted { .. }) => last = after,
            Some(after) => page.next = Some(after),
            None => break,
        }
        if page.next.is_some() {
            break;
        }
    }
    if page.next.is_none() {
        let tagged = tagged(registry, &kind, &digest).await;
        page.add(tagged, wanted, None);
        // They are of one index, which has no second page.
        page.next = None;
    }
    Ok(answer(page, name, &digest, query))
}

/// One answer of several.
struct Page {
    entries: Vec<Descriptor>,
    bytes: usize,
    seen: HashSet<Digest>,
    /// After which the next begins.
    next: Option<String>,
}

impl Page {
    fn add(&mut self, all: Vec<Descriptor>, wanted: impl Fn(&Descriptor) -> bool, most: Option<usize>) {
        for mut referrer in all.into_iter().filter(wanted) {
            let length_of = |referrer: &Descriptor| serde_json::to_vec(referrer).map_or(0, |json| json.len());
            let mut length = length_of(&referrer);
            if length > MAX_RESPONSE_BYTES {
                referrer.annotations.clear();
                length = length_of(&referrer);
            }
            let is_full = self.bytes + length > MAX_RESPONSE_BYTES
                || most.is_some_and(|most| self.entries.len() >= most);
            if is_full {
                self.next = self.entries.last().map(|last| last.digest.to_string());
                return;
            }
            if self.seen.insert(referrer.digest.clone()) {
                self.bytes += length;
                self.entries.push(referrer);
            }
        }
    }
}

/// Returns the referrers that clients without the referrers API list under a tag made of the digest
/// ("Referrers Tag Schema").
async fn tagged(registry: &Registry, kind: &NameKind, digest: &Digest) -> Vec<Descriptor> {
    let hex: String = digest.hex().chars().take(64).collect();
    let Ok(tag) = format!("{}-{hex}", digest.algorithm()).parse::<Tag>() else { return Vec::new() };
    match kind.manifest(&registry.resolver, &Reference::Tag(tag)).await {
        Ok(document) if document.media_type.is_index() => {
            let _turn = registry.resolver.content().turn_to_parse(document.bytes.len()).await;
            Index::parse(&document.bytes).map(|index| index.manifests).unwrap_or_default()
        }
        _ => Vec::new(),
    }
}

fn answer(page: Page, name: &str, digest: &Digest, query: &Query) -> Response {
    let applied = query.value("artifactType").map(|_| [("oci-filters-applied", "artifactType")]);
    let next = page.next.map(|last| {
        let mut pairs = vec![("last", last.as_str())];
        pairs.extend(["n", "artifactType"].into_iter().filter_map(|key| Some((key, query.value(key)?))));
        link(&format!("/v2/{name}/referrers/{digest}"), &pairs)
    });
    let artifact_type = [(header::CONTENT_TYPE, media_type::OCI_INDEX)];
    // An index of descriptors always has a JSON form.
    let json = serde_json::to_vec(&Index::new(page.entries)).unwrap_or_default();
    (applied, next, artifact_type, json).into_response()
}
