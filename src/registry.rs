//! The OCI distribution API on axum: the one place that knows HTTP statuses and OCI error codes.

mod blobs;
mod endpoint;
mod error;
mod manifests;
mod tags;

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderValue, Method, header},
    response::{IntoResponse, Response},
    routing::{any, get},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::trace::{DefaultOnResponse, TraceLayer};
use tracing::Level;

use crate::content::Content;
use endpoint::Endpoint;
use error::Refusal;

/// What every handler works with.
#[derive(Clone)]
pub struct Registry {
    content: Content,
}

/// Serves the registry until `stop`, then finishes what is being sent.
pub async fn serve(listener: TcpListener, content: Content, stop: CancellationToken) -> std::io::Result<()> {
    let app = router(content);
    axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned()).await
}

fn router(content: Content) -> Router {
    // Names hold slashes, so paths are split by `Endpoint`, not by routes.
    Router::new()
        .route("/v2", get(version))
        .route("/v2/", any(version))
        .route("/v2/{*path}", any(dispatch))
        .fallback(async || Refusal::no_endpoint())
        .layer(axum::middleware::map_response(common_headers))
        .layer(TraceLayer::new_for_http().on_response(DefaultOnResponse::new().level(Level::DEBUG)))
        .with_state(Registry { content })
}

async fn version() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], "{}")
}

async fn common_headers(mut response: Response) -> Response {
    const VERSION: &str = "docker-distribution-api-version";
    response.headers_mut().insert(VERSION, HeaderValue::from_static("registry/2.0"));
    response
}

async fn dispatch(State(registry): State<Registry>, request: Request) -> Result<Response, Refusal> {
    let endpoint = Endpoint::parse(request.uri().path()).ok_or_else(Refusal::no_endpoint)?;
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(Refusal::read_only(request.method()));
    }
    let head = *request.method() == Method::HEAD;
    match endpoint {
        Endpoint::Manifest { name, reference } => {
            manifests::get(&registry, name, reference, request.headers()).await
        }
        Endpoint::Blob { name, digest } if head => blobs::head(&registry, name, digest).await,
        Endpoint::Blob { name, digest } => blobs::get(&registry, name, digest, request.headers()).await,
        Endpoint::Tags { name } => tags::list(&registry, name, request.uri().query()).await,
    }
}
