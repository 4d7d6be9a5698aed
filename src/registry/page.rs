//! The page for browsers beside the registry: what its visitors may pull, and who sees the node's own data.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    http::{StatusCode, header::WWW_AUTHENTICATE},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
};

use super::{Registry, error::ApiError, query::Query};

/// The routes of the page, which a layer above makes.
#[derive(Clone)]
pub struct PageRoutes {
    /// The page itself, which says nothing of the node.
    pub files: Router,
    /// The data, whose requests need a visitor among their extensions.
    pub data: Router,
}

/// Returns the routes, with the visitor among the extensions of each request for data.
pub fn routes(page: PageRoutes, registry: &Arc<Registry>) -> Router<Arc<Registry>> {
    let data = page.data.layer(from_fn_with_state(registry.clone(), admit));
    page.files.merge(data).with_state(())
}

async fn admit(State(registry): State<Arc<Registry>>, request: Request, next: Next) -> Response {
    let Registry { access, place, .. } = &*registry;
    let (mut parts, body) = request.into_parts();
    match access.admit_to_page(&parts).await {
        Ok(visitor) => {
            parts.extensions.insert(access.page_visitor(&visitor, place, &parts));
            // Of the repository that is asked for, the page says itself what is not signed.
            let query = Query::parse(parts.uri.query());
            access.view(&visitor, query.value("name")).scope(next.run(Request::from_parts(parts, body))).await
        }
        // A browser asks for a name and a password, and knows nothing of tokens.
        Err(refusal) => with_basic_challenge(refusal.into_response()),
    }
}

fn with_basic_challenge(mut refusal: Response) -> Response {
    if refusal.status() == StatusCode::UNAUTHORIZED {
        let basic = ApiError::unauthorized(None).into_response();
        if let Some(challenge) = basic.headers().get(WWW_AUTHENTICATE) {
            refusal.headers_mut().insert(WWW_AUTHENTICATE, challenge.clone());
        }
    }
    refusal
}
