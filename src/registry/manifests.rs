use axum::{
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use ocipfs_oci::Reference;

use super::{
    Registry,
    error::{Refusal, Wanted},
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
    let document = meaning.manifest(&registry.content, &reference).await.map_err(refusal)?;
    let etag = document.digest.etag();
    let known =
        [("docker-content-digest", document.digest.to_string()), (header::ETAG.as_str(), etag.clone())];
    if headers.get(header::IF_NONE_MATCH).is_some_and(|value| value.as_bytes() == etag.as_bytes()) {
        return Ok((StatusCode::NOT_MODIFIED, known).into_response());
    }
    let kind = [
        (header::CONTENT_TYPE, document.media_type),
        (header::CONTENT_LENGTH, document.bytes.len().to_string()),
    ];
    Ok((known, kind, document.bytes).into_response())
}
