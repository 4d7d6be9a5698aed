use axum::{
    Json,
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::{
    Registry,
    error::{ApiError, ResourceKind},
    query::Query,
};

/// `_catalog`: the repositories that were pushed here and those of followed names, in pages as of tags.
pub async fn list(registry: &Registry, query: &Query) -> Result<Response, ApiError> {
    let names = registry.resolver.repository_names(query.last(), query.to_read()).await;
    let mut names = names.map_err(|error| ApiError::content(error, ResourceKind::Manifest))?;
    let link = query.page("/v2/_catalog", &mut names);
    Ok((link, Json(json!({ "repositories": names }))).into_response())
}
