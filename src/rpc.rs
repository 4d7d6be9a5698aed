//! The RPC API of Kubo, for programs that speak to an IPFS daemon: <https://docs.ipfs.tech/reference/kubo/rpc/>.
//!
//! ```text
//! guard            POST only, no pages of browsers, users, authorizations
//!   └─► a file for each family of commands
//!         ├─► args       the query: arguments and options, those of all commands in `common`
//!         ├─► cids       how CIDs are written
//!         ├─► path       /ipfs/ and /ipns/ paths
//!         ├─► upload     files of a multipart body
//!         ├─► reply      one object, a stream of them, or bytes
//!         └─► error      {Message, Code, Type}
//! ```

mod add;
mod api_file;
mod args;
mod authorizations;
mod block;
mod bytes;
mod cids;
mod common;
mod dag;
mod error;
mod get;
mod guard;
mod info;
mod key;
mod list;
mod path;
mod pin;
mod reply;
mod repo;
mod stat;
mod swarm;
mod upload;

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware::{from_fn_with_state, map_response},
    routing::post,
};
use tokio::{
    net::TcpListener,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::sync::CancellationToken;
use tower_http::trace::{DefaultOnFailure, DefaultOnResponse, TraceLayer};
use tracing::Level;

use crate::{
    content::Content,
    http::{
        AccessRules, Users,
        events::Events,
        listener::{self, Limits},
        origin::RegistryPlace,
    },
    names::{Resolver, publish::Publisher},
};

pub use api_file::ApiFile;
pub use authorizations::{Authorizations, AuthorizationsError};

/// Commands at one time that hold blocks or pieces of files in memory; others wait for a turn.
const MAX_TURNS: usize = 16;
/// How long a connection may be idle: clients keep many of them, and do not send a command again.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// Bytes of a body that a connection takes at once: what is added comes in long bodies.
const MAX_BUFFERED: usize = 128 << 10;

/// What the commands work on.
#[derive(Clone)]
pub struct Options {
    /// The content and the names.
    pub resolver: Resolver,
    /// What publishes the pushed repositories: its name is not for clients.
    pub publisher: Publisher,
    /// The access rules: what the repositories of others hold is not there for a user who may not pull from them.
    pub rules: Option<AccessRules>,
    /// The users, where not every client that connects may do everything.
    pub users: Option<Users>,
    /// The clients that may do something by a secret, beside the users.
    pub authorizations: Option<Authorizations>,
    /// What tells of failed logins.
    pub events: Events,
    /// The node directory.
    pub data_dir: PathBuf,
}

/// State shared by all handlers.
#[derive(Clone)]
struct Rpc {
    options: Options,
    place: RegistryPlace,
    started: Instant,
    /// The address of the listener, as a multiaddr.
    api: String,
    turns: Arc<Semaphore>,
}

impl Rpc {
    fn new(options: Options, address: SocketAddr) -> Self {
        let (place, api) = (RegistryPlace::new(address, None), api_file::multiaddr(address));
        Self { options, place, started: Instant::now(), api, turns: Arc::new(Semaphore::new(MAX_TURNS)) }
    }

    /// Waits for the turn of a command that holds much in memory.
    async fn turn(&self) -> Result<OwnedSemaphorePermit, error::Error> {
        self.turns.clone().acquire_owned().await.map_err(error::Error::failed)
    }

    fn content(&self) -> &Content {
        self.options.resolver.content()
    }
}

/// Serves the RPC until `stop`, then finishes what is being answered.
pub async fn serve(listener: TcpListener, options: Options, stop: CancellationToken) -> io::Result<()> {
    let app = router(Rpc::new(options, listener.local_addr()?));
    let limits = Limits { header_timeout: IDLE_TIMEOUT, buffered: MAX_BUFFERED, ..Limits::default() };
    listener::serve(listener, app, limits, stop).await;
    Ok(())
}

/// Commands about files, blocks and pins.
fn content_commands() -> Router<Rpc> {
    Router::new()
        .route("/add", post(add::add))
        .route("/block/get", post(block::get))
        .route("/block/put", post(block::put))
        .route("/block/rm", post(block::rm))
        .route("/block/stat", post(block::stat))
        .route("/cat", post(bytes::cat))
        .route("/dag/export", post(dag::export))
        .route("/dag/get", post(dag::get))
        .route("/dag/import", post(dag::import))
        .route("/dag/resolve", post(dag::resolve))
        .route("/dag/stat", post(dag::stat))
        .route("/files/stat", post(stat::files_stat))
        .route("/get", post(get::get))
        .route("/ls", post(list::ls))
        .route("/pin/add", post(pin::add))
        .route("/pin/ls", post(pin::ls))
        .route("/pin/rm", post(pin::rm))
        .route("/pin/update", post(pin::update))
        .route("/refs", post(list::refs))
        .route("/resolve", post(list::resolve))
}

/// Commands about the node, its peers and its names.
fn node_commands() -> Router<Rpc> {
    Router::new()
        .route("/bitswap/stat", post(repo::bitswap))
        .route("/config/show", post(repo::config))
        .route("/id", post(info::id))
        .route("/key/gen", post(key::generate))
        .route("/key/import", post(key::import))
        .route("/key/list", post(key::list))
        .route("/key/ls", post(key::list))
        .route("/key/rename", post(key::rename))
        .route("/key/rm", post(key::remove))
        .route("/name/publish", post(key::publish))
        .route("/name/resolve", post(key::resolve))
        .route("/repo/gc", post(repo::gc))
        .route("/repo/stat", post(repo::stat))
        .route("/repo/version", post(repo::version))
        .route("/routing/findpeer", post(swarm::find_peer))
        .route("/routing/findprovs", post(swarm::find_providers))
        .route("/stats/bitswap", post(repo::bitswap))
        .route("/stats/bw", post(repo::bandwidth))
        .route("/stats/repo", post(repo::stat))
        .route("/swarm/addrs", post(swarm::addrs))
        .route("/swarm/addrs/listen", post(swarm::listen_addrs))
        .route("/swarm/addrs/local", post(swarm::local_addrs))
        .route("/swarm/connect", post(swarm::connect))
        .route("/swarm/peers", post(swarm::peers))
        .route("/version", post(info::version))
}

fn router(rpc: Rpc) -> Router {
    Router::new()
        .nest("/api/v0", content_commands().merge(node_commands()))
        .fallback(async || error::NotFound)
        .method_not_allowed_fallback(async || error::MethodNotAllowed)
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(rpc.clone(), guard::check))
        .layer(map_response(reply::common_headers))
        .layer(from_fn_with_state(rpc.clone(), guard::log))
        .layer(
            TraceLayer::new_for_http()
                .on_response(DefaultOnResponse::new().level(Level::DEBUG))
                .on_failure(DefaultOnFailure::new().level(Level::DEBUG)),
        )
        .with_state(rpc)
}

#[cfg(test)]
mod tests;
