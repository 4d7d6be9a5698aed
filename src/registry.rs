//! The OCI distribution API on axum: the one place that knows HTTP statuses and OCI error codes.

mod blobs;
mod endpoint;
mod error;
mod manifests;
mod tags;

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::any,
};
use ocipfs_oci::Digest;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::trace::{DefaultOnResponse, TraceLayer};
use tracing::Level;

use crate::names::{Meaning, Resolver};
use endpoint::Endpoint;
use error::Refusal;

/// What every handler works with.
#[derive(Clone)]
pub struct Registry {
    resolver: Resolver,
}

/// Serves the registry until `stop`, then finishes what is being sent.
pub async fn serve(
    listener: TcpListener,
    resolver: Resolver,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let app = router(resolver);
    axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned()).await
}

fn router(resolver: Resolver) -> Router {
    // Names hold slashes, so paths are split by `Endpoint`, not by routes.
    Router::new()
        .route("/v2", any(version))
        .route("/v2/", any(version))
        .route("/v2/{*path}", any(dispatch))
        .fallback(async || Refusal::no_endpoint())
        .layer(axum::middleware::map_response(common_headers))
        .layer(TraceLayer::new_for_http().on_response(DefaultOnResponse::new().level(Level::DEBUG)))
        .with_state(Registry { resolver })
}

/// Tells where an answer is what was seen last, since nobody could be asked: RFC 9111, section 5.5, as RFC 7234 had it.
fn stale(registry: &Registry, meaning: &Meaning) -> Option<[(HeaderName, &'static str); 1]> {
    registry.resolver.is_stale(meaning).then_some([(header::WARNING, "110 - \"Response is Stale\"")])
}

async fn version(method: Method) -> Result<impl IntoResponse, Refusal> {
    Refusal::unless_read(&method)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], "{}"))
}

async fn common_headers(mut response: Response) -> Response {
    const VERSION: &str = "docker-distribution-api-version";
    response.headers_mut().insert(VERSION, HeaderValue::from_static("registry/2.0"));
    response
}

/// The answer where `If-None-Match` says that the client has it.
fn not_modified(headers: &HeaderMap, digest: &Digest) -> Option<Response> {
    let known = headers.get(header::IF_NONE_MATCH)?.to_str().ok()?;
    let told = [("docker-content-digest", digest.to_string()), ("etag", digest.etag())];
    digest.is_among(known).then(|| (StatusCode::NOT_MODIFIED, told).into_response())
}

async fn dispatch(State(registry): State<Registry>, request: Request) -> Result<Response, Refusal> {
    Refusal::unless_read(request.method())?;
    let endpoint = Endpoint::parse(request.uri().path()).ok_or_else(Refusal::no_endpoint)?;
    let head = *request.method() == Method::HEAD;
    match endpoint {
        Endpoint::Manifest { name, reference } => {
            manifests::get(&registry, name, reference, request.headers()).await
        }
        Endpoint::Blob { name, digest } if head => {
            blobs::head(&registry, name, digest, request.headers()).await
        }
        Endpoint::Blob { name, digest } => blobs::get(&registry, name, digest, request.headers()).await,
        Endpoint::Tags { name } => tags::list(&registry, name, request.uri().query()).await,
    }
}
