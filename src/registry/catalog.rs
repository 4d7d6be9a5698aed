use axum::{
    Json,
    response::{IntoResponse, Response},
};
use ocipfs_oci::Name;
use serde_json::json;

use super::{
    Registry,
    auth::{Credentials, Visitor, is_anonymous},
    error::{ApiError, ResourceKind},
    query::Query,
};
use crate::access::Action;

/// Names that are read at once, of which the client may not see some.
const MIN_READ: usize = 500;

/// `_catalog`: the repositories that were pushed here and those of followed names, in pages as of tags: those that the client
/// may pull from.
pub async fn list(
    registry: &Registry,
    visitor: &Visitor,
    shown: Credentials<'_>,
    query: &Query,
) -> Result<Response, ApiError> {
    let mut names: Vec<Name> = Vec::new();
    let mut last = query.last().to_owned();
    while names.len() < query.to_read() {
        let to_read = query.to_read().max(MIN_READ);
        let read = registry.resolver.repository_names(&last, to_read).await;
        let read = read.map_err(|error| ApiError::content(error, ResourceKind::Manifest))?;
        let is_end = read.len() < to_read;
        last = read.last().map(ToString::to_string).unwrap_or_default();
        names.extend(
            read.into_iter().filter(|name| registry.access.may(visitor, Action::Pull, name.as_str())),
        );
        if is_end {
            break;
        }
    }
    names.truncate(query.to_read());
    // A client that could log in learns so before it takes an empty catalog for all there is.
    if names.is_empty() && is_anonymous(visitor) && registry.access.has_rules() {
        return Err(registry.access.unauthorized(shown, Some("registry:catalog:*")));
    }
    let link = query.page("/v2/_catalog", &mut names);
    Ok((link, Json(json!({ "repositories": names }))).into_response())
}
