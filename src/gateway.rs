//! The trustless gateway: blocks and CARs over HTTP, for clients that verify them.
//! <https://specs.ipfs.tech/http-gateways/trustless-gateway/>
//!
//! It is not recursive: it serves what is here and what peers may get too, and asks no peer.
//!
//! ```text
//! handlers ──► request      what is requested, in which form
//!    │           ├─► accept        the Accept header
//!    │           └─► entity_bytes  a part of a file
//!    ├─► headers   of answers
//!    └─► error     statuses
//! ```

mod accept;
mod entity_bytes;
mod error;
mod headers;
mod request;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
    routing::get,
};

use crate::content::{
    Content,
    car::{CarOptions, CarRoom, ResolvedPath, SharedBlock},
};
pub use error::Error;
use headers::Headers;
use request::{GatewayRequest, ResponseFormat};

/// The path below which the gateway is.
pub const PREFIX: &str = "/ipfs/";

/// State shared by all requests.
#[derive(Clone)]
struct Gateway {
    content: Content,
    room: CarRoom,
    visibility: Visibility,
}

/// Which caches may keep an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visibility {
    /// All.
    Public,
    /// Those of one client: there is a login.
    Private,
}

/// Returns the routes of the gateway.
pub fn router<S: Clone + Send + Sync + 'static>(content: Content, visibility: Visibility) -> Router<S> {
    let room = CarRoom::new(content.memory().shares().gateway);
    let gateway = Gateway { content, room, visibility };
    Router::new().route("/ipfs/{*path}", get(answer)).with_state(gateway)
}

async fn answer(State(gateway): State<Gateway>, request: Request) -> Result<Response, Error> {
    let is_head = request.method() == Method::HEAD;
    let request = GatewayRequest::parse(request.uri(), request.headers())?;
    let answer = match request.format {
        ResponseFormat::Raw => gateway.raw(&request, is_head).await,
        ResponseFormat::Car(options) => gateway.car(&request, options).await,
    };
    match answer {
        Err(Error::Absent(_)) if request.only_if_cached => {
            Ok(StatusCode::PRECONDITION_FAILED.into_response())
        }
        answer => answer,
    }
}

impl Gateway {
    async fn raw(&self, request: &GatewayRequest, is_head: bool) -> Result<Response, Error> {
        let absent = || Error::Absent(request.at.clone());
        let length = self.content.shared_length(&request.at).await?.ok_or_else(absent)?;
        let headers = Headers::raw(request, length, self.visibility);
        if request.knows(&headers.etag) {
            return Ok(headers.not_modified());
        }
        if is_head {
            return Ok((headers, Body::empty()).into_response());
        }
        match self.content.read_shared(&request.at, &self.room).await? {
            SharedBlock::Here(block) => Ok((headers, Body::from(block)).into_response()),
            SharedBlock::Absent => Err(absent()),
            SharedBlock::Busy => Err(Error::Busy),
        }
    }

    /// The body of the answer to `HEAD` is dropped before anything but the path is read.
    async fn car(&self, request: &GatewayRequest, options: CarOptions) -> Result<Response, Error> {
        let path = match self.content.resolve_shared(&request.at, options.scope, &self.room).await? {
            ResolvedPath::Found(path) => path,
            ResolvedPath::Absent => return Err(Error::Absent(request.at.clone())),
            ResolvedPath::Outside(outside) => return Err(outside.into()),
            ResolvedPath::Busy => return Err(Error::Busy),
        };
        let headers = Headers::car(request, options, &path, self.visibility);
        if request.knows(&headers.etag) {
            return Ok(headers.not_modified());
        }
        let car = self.content.car(path, options, &self.room)?;
        Ok((headers, Body::from_stream(car.into_stream_logged())).into_response())
    }
}
