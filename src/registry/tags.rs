use axum::{
    Json,
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::{
    Registry,
    error::{Refusal, Wanted},
    query::Query,
    stale,
};
use crate::names::Meaning;

/// `tags/list`, in pages of `n` entries; of 1,000 where `n` is larger or absent.
pub async fn list(registry: &Registry, name: &str, query: &Query) -> Result<Response, Refusal> {
    let refusal = |error| Refusal::names(error, Wanted::Manifest);
    let meaning = Meaning::parse(name).map_err(refusal)?;
    let tags = meaning.tags_after(&registry.resolver, query.last(), query.to_read());
    let mut tags = tags.await.map_err(refusal)?;
    let link = query.page(&format!("/v2/{name}/tags/list"), &mut tags);
    Ok((stale(registry, &meaning), link, Json(json!({ "name": name, "tags": tags }))).into_response())
}
