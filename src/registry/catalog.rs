use axum::{
    Json,
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::{Registry, error::Refusal, query::Query};

/// `_catalog`: the repositories that were pushed here, in pages where `n` asks for them.
pub async fn list(registry: &Registry, query: &Query) -> Result<Response, Refusal> {
    let (last, most) = (query.last().to_string(), query.to_read());
    let mut names = registry.ask(move |repositories| repositories.names(&last, most)).await?;
    let link = query.page("/v2/_catalog", &mut names);
    Ok((link, Json(json!({ "repositories": names }))).into_response())
}
