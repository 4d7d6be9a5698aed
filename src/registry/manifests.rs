use axum::{
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use ocipfs_oci::Reference;

use super::{
    Registry,
    error::{Refusal, Wanted},
    not_modified, stale,
};
use crate::names::Meaning;

/// `GET` and `HEAD` of a manifest; axum takes the body off where it was a `HEAD`.
pub async fn get(
    registry: &Registry,
    name: &str,
    reference: &str,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    let reference: Reference = reference.parse()?;
    let refusal = |error| Refusal::names(error, Wanted::Manifest);
    let meaning = Meaning::parse(name).map_err(refusal)?;
    let document = meaning.manifest(&registry.resolver, &reference).await.map_err(refusal)?;
    if let Some(answer) = not_modified(headers, &document.digest) {
        return Ok(answer);
    }
    let told = [
        ("docker-content-digest", document.digest.to_string()),
        ("etag", document.digest.etag()),
        ("content-type", document.media_type.to_string()),
        ("content-length", document.bytes.len().to_string()),
    ];
    Ok((stale(registry, &meaning), told, document.bytes).into_response())
}
