use axum::{
    Json,
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::{
    Registry,
    error::{ApiError, ResourceKind},
    query::Query,
    stale,
};
use crate::names::NameKind;

/// `tags/list`, in pages of `n` entries; of 1,000 where `n` is larger or absent.
pub async fn list(registry: &Registry, name: &str, query: &Query) -> Result<Response, ApiError> {
    let refusal = |error| ApiError::names(error, ResourceKind::Manifest);
    let kind = NameKind::parse(name).map_err(refusal)?;
    let tags = kind.tags_after(&registry.resolver, query.last(), query.to_read());
    let mut tags = tags.await.map_err(refusal)?;
    let link = query.page(&format!("/v2/{name}/tags/list"), &mut tags);
    Ok((stale(registry, &kind), link, Json(json!({ "name": name, "tags": tags }))).into_response())
}
