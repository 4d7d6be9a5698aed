//! Asks clients to leave while a node drains.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    extract::{Request, State},
    http::{HeaderValue, Version, header},
    middleware::Next,
    response::Response,
};

/// Whether a listener will be closed soon. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Closing(Arc<AtomicBool>);

impl Closing {
    /// Has each answer close its connection from now on, so that the next request of its client goes to another node.
    pub fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Says `Connection: close` in answers while the listener is closing, as a layer of a router. HTTP/2 has a frame for that, which
/// the listener sends when it stops.
pub async fn say_close(State(closing): State<Closing>, request: Request, next: Next) -> Response {
    let is_http1 = request.version() < Version::HTTP_2;
    let mut response = next.run(request).await;
    if is_http1 && closing.0.load(Ordering::Relaxed) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
