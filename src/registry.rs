//! The OCI distribution API on axum, with its HTTP statuses and OCI error codes.

mod auth;
mod blobs;
mod body;
mod catalog;
mod denial;
mod documents;
mod endpoint;
mod error;
mod immutable;
mod manifests;
mod multipart;
mod page;
mod query;
mod referrers;
mod request_log;
mod tags;
mod uploads;
mod withheld;

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    body::BodyDataStream,
    extract::{FromRef, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts},
    middleware::{Next, from_fn, from_fn_with_state, map_response_with_state},
    response::{IntoResponse, Response},
    routing::{any, get},
};
use ocipfs_oci::{Digest, Name};
use percent_encoding::percent_decode_str;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::trace::{DefaultOnResponse, TraceLayer};
use tracing::Level;

use crate::{
    content::View,
    gateway,
    http::{
        closing::{Closing, say_close},
        drain,
        events::Events,
        listener::{self, Limits},
        metrics::{HttpMetrics, measure},
        origin::RegistryPlace,
        tls::Tls,
        viewer::viewed,
    },
    names::{
        NameKind, Resolver,
        push::{self, Pushes},
    },
};
use auth::{Credentials, Visitor, is_read};
use documents::ResponseBudget;
use endpoint::Endpoint;
use error::ApiError;
use query::Query;
use withheld::Reader;

pub use auth::{Access, Pull};
pub use page::PageRoutes;

/// State shared by all handlers.
pub struct Registry {
    resolver: Resolver,
    pushes: Pushes,
    access: Access,
    place: RegistryPlace,
    events: Events,
}

impl FromRef<Arc<Registry>> for Access {
    fn from_ref(registry: &Arc<Registry>) -> Self {
        registry.access.clone()
    }
}

/// A repository that a client changes.
#[derive(Clone, Copy)]
struct Target<'a> {
    registry: &'a Registry,
    visitor: &'a Visitor,
    name: &'a Name,
}

/// What clients may do.
#[derive(Clone, Default)]
pub struct Options {
    /// Who may pull and push.
    pub access: Access,
    /// Whether manifests are accepted without some of their blobs.
    pub sparse_images: bool,
    /// Whether the trustless gateway is served beside the registry.
    pub gateway: bool,
    /// The page for browsers, if it is served.
    pub page: Option<PageRoutes>,
    /// What counts requests.
    pub metrics: HttpMetrics,
    /// Told when the node drains.
    pub closing: Closing,
    /// What tells of pushes, deletions and logins.
    pub events: Events,
    /// TLS of the listener, if it has any.
    pub tls: Option<Tls>,
}

/// Why no client may push to a registry that listens at this address; none where some may.
pub fn read_only(access: &Access, address: SocketAddr) -> Option<String> {
    if access.has_users() || access.has_rules() {
        return None;
    }
    RegistryPlace::new(address, access.public_url().cloned()).never_local().map(|remote| remote.to_string())
}

/// Serves the registry until `stop`, then finishes what is being sent.
pub async fn serve(
    listener: TcpListener,
    resolver: Resolver,
    Options { access, sparse_images, gateway, page, metrics, closing, events, tls }: Options,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let place = RegistryPlace::new(listener.local_addr()?, access.public_url().cloned());
    let pushes = Pushes::new(resolver.clone(), sparse_images);
    let registry = Registry { resolver, pushes: pushes.clone(), access, place, events };
    let app = router(Arc::new(registry), gateway, page)
        .layer(from_fn_with_state(closing, say_close))
        .layer(from_fn_with_state(metrics, measure));
    let expiring = stop.clone().run_until_cancelled_owned(async move { pushes.expire_uploads().await });
    let expiring = tokio::spawn(expiring);
    listener::serve_with(listener, app, Limits::default(), tls, stop).await;
    let _ = expiring.await;
    Ok(())
}

fn router(registry: Arc<Registry>, has_gateway: bool, page: Option<PageRoutes>) -> Router {
    let gateway = if has_gateway { gateway_routes(&registry) } else { Router::new() };
    let page = page.map_or_else(Router::new, |page| page::routes(page, &registry));
    // Names hold slashes, so paths are split by `Endpoint`, not by routes.
    Router::new()
        .route("/v2", any(version))
        .route("/v2/", any(version))
        .route("/v2/{*path}", any(dispatch))
        .route(auth::TOKEN_PATH, get(auth::get_token))
        .fallback(async || ApiError::no_endpoint())
        .layer(map_response_with_state(ResponseBudget::default(), documents::count))
        .merge(gateway)
        .merge(page)
        .layer(from_fn_with_state(registry.clone(), check_origin))
        .layer(from_fn(move |request, next| common_headers(has_gateway, request, next)))
        .layer(from_fn_with_state(registry.clone(), request_log::log))
        .layer(TraceLayer::new_for_http().on_response(DefaultOnResponse::new().level(Level::DEBUG)))
        .with_state(registry)
}

/// The gateway, for those who may pull.
fn gateway_routes(registry: &Arc<Registry>) -> Router<Arc<Registry>> {
    let visibility = registry.access.visibility();
    gateway::router(registry.resolver.content().clone(), visibility)
        .layer(from_fn_with_state(registry.clone(), admit_to_gateway))
}

async fn admit_to_gateway(State(registry): State<Arc<Registry>>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    match pull_from_gateway(&registry, &parts).await {
        Ok(view) => {
            let answer = view.clone().scope(next.run(Request::from_parts(parts, body))).await;
            viewed(&view, answer)
        }
        Err(refusal) => refusal.into_response(),
    }
}

/// Lets those pass that may pull the repository of the same name: `ipfs/<cid>`.
async fn pull_from_gateway(registry: &Registry, request: &Parts) -> Result<View, ApiError> {
    // As the gateway decodes it, which refuses what is not UTF-8.
    let path = percent_decode_str(request.uri.path()).decode_utf8_lossy();
    let visitor = registry.access.admit(request).await?;
    let name = path.trim_matches('/');
    registry.access.check_pull(&visitor, Credentials::of(request), name)?;
    withheld::check_blocks(registry, &visitor, name)?;
    Ok(registry.access.view(&visitor, None))
}

/// Returns the `Warning` header of a stale answer (RFC 9111, section 5.5; RFC 7234).
fn stale(registry: &Registry, kind: &NameKind) -> Option<[(HeaderName, &'static str); 1]> {
    registry.resolver.is_stale(kind).then_some([(header::WARNING, "110 - \"Response is Stale\"")])
}

/// Where there are users, this is where a client learns that it has to log in.
async fn version(
    State(registry): State<Arc<Registry>>,
    request: Request,
) -> Result<impl IntoResponse, ApiError> {
    let (parts, _) = request.into_parts();
    if !is_read(&parts.method) {
        return Err(ApiError::method(&parts.method, "GET, HEAD"));
    }
    registry.access.greet(&parts).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], "{}"))
}

/// Refuses what a page in a browser sends, before anything is done for it.
async fn check_origin(State(registry): State<Arc<Registry>>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let Err(refusal) = registry.place.check(&parts) else {
        return next.run(Request::from_parts(parts, body)).await;
    };
    if !is_read(&parts.method) {
        drain(&parts.headers, &mut body.into_data_stream()).await;
    }
    ApiError::from(refusal).into_response()
}

async fn common_headers(has_gateway: bool, request: Request, next: Next) -> Response {
    const VERSION: &str = "docker-distribution-api-version";
    let is_of_gateway = has_gateway && request.uri().path().starts_with(gateway::PREFIX);
    let mut response = next.run(request).await;
    if is_of_gateway {
        return response;
    }
    response.headers_mut().insert(VERSION, HeaderValue::from_static("registry/2.0"));
    response
}

/// The answer where `If-None-Match` says that the client has it.
fn not_modified(headers: &HeaderMap, digest: &Digest) -> Option<Response> {
    let known = headers.get(header::IF_NONE_MATCH)?.to_str().ok()?;
    let told = [("docker-content-digest", digest.to_string()), ("etag", digest.etag())];
    digest.is_among(known).then(|| (StatusCode::NOT_MODIFIED, told).into_response())
}

async fn dispatch(State(registry): State<Arc<Registry>>, request: Request) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    if is_read(&parts.method) {
        return read(&registry, &parts).await;
    }
    // `request_log::log` has made a task of it, so a write is completed even if its client disconnects.
    let mut body = body.into_data_stream();
    let answer = write(&registry, &parts, &mut body).await.map_err(ApiError::of_push);
    if answer.is_err() {
        drain(&parts.headers, &mut body).await;
    }
    answer
}

async fn read(registry: &Registry, parts: &Parts) -> Result<Response, ApiError> {
    let path = endpoint::decode(parts.uri.path()).ok_or_else(ApiError::no_endpoint)?;
    let endpoint = Endpoint::parse(&path).ok_or_else(ApiError::no_endpoint)?;
    let (head, headers) = (parts.method == Method::HEAD, &parts.headers);
    let query = Query::parse(parts.uri.query());
    let visitor = registry.access.admit(parts).await?;
    registry.access.check_read(&visitor, Credentials::of(parts), &endpoint)?;
    let reader = Reader { registry, visitor: &visitor, request: parts, head };
    let view = registry.access.view(&visitor, endpoint.name());
    let answer = view
        .clone()
        .scope(async {
            match endpoint {
                Endpoint::Manifest { name, reference } => {
                    manifests::get(&reader, name, reference, headers).await
                }
                Endpoint::Blob { name, digest } if head => blobs::head(&reader, name, digest, headers).await,
                Endpoint::Blob { name, digest } => blobs::get(&reader, name, digest, headers).await,
                Endpoint::Tags { name } => tags::list(registry, name, &query).await,
                Endpoint::Referrers { name, digest } => referrers::list(registry, name, digest, &query).await,
                Endpoint::Catalog => catalog::list(registry, &visitor, Credentials::of(parts), &query).await,
                Endpoint::Upload { name, id } => {
                    uploads::status(registry, &push::parse_target(name)?, id).await
                }
                Endpoint::Uploads { .. } => Err(ApiError::method(&parts.method, endpoint.methods())),
            }
        })
        .await;
    let answer = answer.map_err(|error| if head { error.without_body() } else { error });
    answer.map(|answer| viewed(&view, answer))
}

async fn write(registry: &Registry, parts: &Parts, body: &mut BodyDataStream) -> Result<Response, ApiError> {
    let path = endpoint::decode(parts.uri.path()).unwrap_or_default();
    let endpoint = Endpoint::parse(&path);
    let visitor = registry.access.admit(parts).await?;
    registry.access.check_write(&visitor, &registry.place, parts, endpoint.as_ref())?;
    let endpoint = endpoint.ok_or_else(ApiError::no_endpoint)?;
    let not_taken = || ApiError::method(&parts.method, endpoint.methods());
    let name = push::parse_target(endpoint.name().ok_or_else(not_taken)?)?;
    let query = Query::parse(parts.uri.query());
    let (headers, target) = (&parts.headers, Target { registry, visitor: &visitor, name: &name });
    let answer = async {
        match (endpoint, parts.method.as_str()) {
            (Endpoint::Manifest { reference, .. }, "PUT") => {
                manifests::put(&target, reference, &query, headers, body).await
            }
            (Endpoint::Manifest { reference, .. }, "DELETE") => manifests::delete(&target, reference).await,
            (Endpoint::Blob { digest, .. }, "DELETE") => blobs::delete(&target, digest).await,
            (Endpoint::Uploads { .. }, "POST") => uploads::begin(&target, &query, body).await,
            (Endpoint::Upload { id, .. }, "PATCH") => uploads::part(registry, &name, id, headers, body).await,
            (Endpoint::Upload { id, .. }, "PUT") => {
                uploads::end(registry, &name, id, &query, headers, body).await
            }
            (Endpoint::Upload { id, .. }, "DELETE") => uploads::cancel(registry, &name, id).await,
            _ => Err(not_taken()),
        }
    };
    // What the client may not pull is not there to be mounted.
    registry.access.view(&visitor, None).scope(answer).await
}
