//! The page for browsers: repositories, the swarm, transfers, the store and followed names. It only reads.
//!
//! ```text
//! /            ─► files          static files in the program, with their headers
//! /page/data/  ─► session        what this visitor is shown
//!                 repositories   a page of names ─┐
//!                 tags           a page of tags   ├─► image   manifests down to layers
//!                 image          one image       ─┘
//!                 node           the swarm, transfers, names, the store ─► cached
//! ```
//!
//! Two listeners serve it: the registry, which says for each request what its visitor may see (`http::page_visitor`), and the
//! admin address, where all is shown.

mod cached;
mod files;
mod image;
mod node;
mod refusal;
mod repositories;
mod session;
mod tags;

#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use axum::{
    Extension, Json, Router,
    body::Bytes,
    extract::{Request, State},
    http::{HeaderValue, header},
    middleware::{Next, from_fn},
    response::Response,
    routing::get,
};
use serde::Serialize;

use crate::{control::Instance, http::page_visitor::PageVisitor};
use cached::Cached;
use refusal::Refusal;

/// The path below which the data is.
const DATA: &str = "/page/data";
/// The address of a login, which leads back to the page.
const LOGIN: &str = "/page/data/login";
/// How old the answers may be that take a walk through the index.
const STATUS_AGE: Duration = Duration::from_secs(4);
const STORE_AGE: Duration = Duration::from_secs(8);
const GARBAGE_AGE: Duration = Duration::from_secs(30);

/// The page of one node. Clones share what was computed.
#[derive(Clone, Default)]
pub struct Page(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// The node, once it is open.
    instance: OnceLock<Instance>,
    /// When the clock of rates began.
    started: OnceLock<Instant>,
    status: Cached<Bytes>,
    store: Cached<Bytes>,
    garbage: Cached<Bytes>,
}

impl Page {
    /// Where the page is.
    const PATH: &str = "/";

    /// Shows this node from now on.
    pub fn open(&self, instance: &Instance) {
        let _ = self.0.instance.set(instance.clone());
    }

    /// Returns the routes of the page itself, which says nothing of the node.
    pub fn files<S: Clone + Send + Sync + 'static>() -> Router<S> {
        files::routes()
    }

    /// Returns the routes of the data. Each request has to have a `PageVisitor` among its extensions.
    pub fn data<S: Clone + Send + Sync + 'static>(&self) -> Router<S> {
        let routes = Router::new()
            .route("/session.json", get(session::get))
            .route("/login", get(session::log_in))
            .route("/repositories.json", get(repositories::list))
            .route("/tags.json", get(tags::list))
            .route("/image.json", get(tags::image))
            .route("/images.json", get(node::images))
            .route("/swarm.json", get(node::swarm))
            .route("/status.json", get(node::status))
            .route("/store.json", get(node::store))
            .route("/garbage.json", get(node::garbage))
            .layer(from_fn(not_stored));
        Router::new().nest(DATA, routes).with_state(self.clone())
    }

    /// Returns all routes, for a listener that shows everything to its visitors.
    pub fn for_operators<S: Clone + Send + Sync + 'static>(&self) -> Router<S> {
        Self::files().merge(self.data().layer(Extension(PageVisitor::operator())))
    }

    fn instance(&self) -> Result<&Instance, Refusal> {
        self.0.instance.get().ok_or_else(Refusal::starting)
    }
}

/// What is shown is for this visitor at this moment.
async fn not_stored(request: Request, next: Next) -> Response {
    let mut answer = next.run(request).await;
    let headers = answer.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// An answer, or why there is none.
type Answer<T> = Result<Json<T>, Refusal>;

/// What handlers are given.
type Shown = (State<Page>, Extension<PageVisitor>);

fn answer<T: Serialize>(value: T) -> Answer<T> {
    Ok(Json(value))
}
