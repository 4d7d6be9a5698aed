use std::collections::BTreeSet;

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use ocipfs_oci::Name;
use serde_json::json;

use super::{
    Registry,
    error::{ApiError, ResourceKind},
    query::Query,
};

/// `_catalog`: the repositories that were pushed here and those of followed names, in pages as of tags.
pub async fn list(registry: &Registry, query: &Query) -> Result<Response, ApiError> {
    let (last, most) = (query.last().to_string(), query.to_read());
    let (resolver, after) = (&registry.resolver, last.clone());
    let followed = resolver.followed().repositories(resolver, &last, most).await;
    let mut all: BTreeSet<Name> =
        followed.map_err(|error| ApiError::content(error, ResourceKind::Manifest))?;
    all.extend(registry.ask(move |repositories| repositories.names(&after, most)).await?);
    let mut names: Vec<Name> = all.into_iter().take(most).collect();
    let link = query.page("/v2/_catalog", &mut names);
    Ok((link, Json(json!({ "repositories": names }))).into_response())
}
