mod notify;
mod operations;
mod rpc;
mod security;
mod signals;
mod stopping;

use std::{
    io::{self, Write, stdout},
    time::Instant,
};

use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{
    Exit, Global, log, open, secrets,
    settings::{Settings, loopback, peer_list},
};
use crate::{
    allocator,
    control::{Failure, Instance, Network, Reply, Request, server::Server},
    http::tls::Tls,
    registry::{self, Access},
};
use operations::Operations;
use rpc::BoundRpc;
use security::Security;
use signals::{Hangups, Signals};
use stopping::transfer_time;

/// More than all connections of clients and peers need.
const MAX_OPEN_FILES: u64 = 1 << 16;

/// Run the node and its registry in the foreground
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Serve {
    #[command(flatten)]
    settings: Settings,
    /// Move the node directory to another network. Its peer id and the names that it follows become visible there; stored content stays hidden until it is pushed or added again, or removed and pulled again
    #[arg(long)]
    change_network: bool,
}

const EXAMPLES: &str = "\
Every setting has one name in three places: --find-timeout, OCIPFS_FIND_TIMEOUT (lists separated by
commas) and find-timeout in the TOML file. Flags override the environment, which overrides the file.
An empty variable counts as unset.

Examples:
  ocipfs serve                                        on the public IPFS network
  ocipfs serve --bootstrap none                       alone, or with the peers that dial it
  ocipfs swarm key swarm.key
  ocipfs serve --swarm-key swarm.key --peer /ip4/10.0.0.1/tcp/4001/p2p/12D3KooW...
                                                      in a private swarm";

pub async fn run(global: &Global, serve: Serve) -> Result<(), Exit> {
    let hangups = Hangups::listen()?;
    let settings = serve.settings.or_file(global)?;
    log::start(global, settings.log_format(), settings.access_log());
    let address = settings.listen();
    // What makes no sense is said before anything is bound or written.
    let mut options = settings.online()?;
    options.change_network = serve.change_network;
    if let Some(swarm) = &options.swarm {
        Network::of(swarm).check(&options.data_dir, serve.change_network).map_err(Exit::Usage)?;
    }
    let (access, tls) = (settings.access()?, security::tls(&settings)?);
    options.access_rules = access.access_rules().cloned();
    options.policies = settings.policies()?;
    let access = access.with_policies(options.policies.as_ref());
    raise_open_files();
    let listener = TcpListener::bind(address).await.map_err(|e| {
        let hint = match e.kind() {
            io::ErrorKind::AddrInUse => {
                "is another registry running there? choose another address with --listen"
            }
            io::ErrorKind::AddrNotAvailable => {
                "this machine has no such address: choose another with --listen"
            }
            _ => "choose another address with --listen",
        };
        Failure::new(format!("cannot listen on {address} for the registry: {e}")).hint(hint)
    })?;
    let rpc = rpc::bind(&settings).await?;
    let operations = Operations::start(&settings).await?;
    let shown = loopback(listener.local_addr().map_err(Failure::new)?);
    secrets::check(&options.data_dir, settings.keys());
    options.registry = tls.as_ref().map_or_else(|| shown.to_string(), |tls| tls.shown_at(shown));
    if let Some(swarm) = &mut options.swarm {
        swarm.listed_peers.extend(peer_list::fetch(settings.bootstrap_from()).await);
    }
    let instance = open(options).await?;
    // Before `ready` is printed: its reader may stop the process at once.
    let mut signals = Signals::listen(hangups)?;
    let listening = (listener, access, tls, rpc);
    let outcome = run_in(global, &instance, &settings, listening, (&operations, &mut signals)).await;
    tokio::select! {
        () = instance.close() => {}
        () = signals.next() => {}
    }
    operations.close().await;
    tracing::info!("stopped");
    outcome
}

async fn run_in(
    global: &Global,
    instance: &Instance,
    settings: &Settings,
    (listener, access, tls, rpc): (TcpListener, Access, Option<Tls>, Option<BoundRpc>),
    (operations, signals): (&Operations, &mut Signals),
) -> Result<(), Exit> {
    let stop = CancellationToken::new();
    let security = Security::open(settings, tls, instance.registry(), &stop)?;
    let audit = security.events.audit().cloned();
    let listening = (listener, access, security, rpc);
    let outcome =
        serve_until_stopped(global, instance, settings, listening, (operations, signals), &stop).await;
    // What was done until now has its line, also where the start failed half-way.
    stop.cancel();
    if let Some(audit) = audit {
        audit.close().await;
    }
    outcome
}

async fn serve_until_stopped(
    global: &Global,
    instance: &Instance,
    settings: &Settings,
    (listener, access, mut security, rpc): (TcpListener, Access, Security, Option<BoundRpc>),
    (operations, signals): (&Operations, &mut Signals),
    stop: &CancellationToken,
) -> Result<(), Exit> {
    let control = Server::bind(&settings.data_dir())?;
    let control = tokio::spawn(control.run(instance.clone(), security.events.clone(), stop.clone()));
    let trimming = tokio::spawn(allocator::trim(stop.clone()));
    let read_only = listener.local_addr().ok().and_then(|address| registry::read_only(&access, address));
    let (tls, events, of_rpc) = (security.tls.clone(), security.events.clone(), security.events.clone());
    let files =
        access.files().into_iter().chain(security.files()).chain(rpc.iter().flat_map(BoundRpc::files));
    let reloading = signals.reload(files.collect(), operations.notifier());
    let reloading = tokio::spawn(stop.clone().run_until_cancelled_owned(reloading));
    let beside = security.start(stop);
    // The webhooks end when nothing can send them events any more.
    drop(security);
    let (metrics, closing) = (operations.http(), operations.closing());
    let access = access.with_tokens(instance.tokens().clone());
    let (gateway, page) = (settings.gateway(), operations.page(instance));
    let sparse_images = settings.sparse_images();
    let options = registry::Options { access, sparse_images, gateway, page, metrics, closing, events, tls };
    let registry =
        tokio::spawn(registry::serve(listener, instance.resolver().clone(), options, stop.clone()));
    let rpc = rpc.map(|rpc| rpc.serve(instance, settings, of_rpc, stop.clone())).transpose()?;
    let rpc = async move {
        if let Some(rpc) = rpc {
            let _ = rpc.await;
        }
    };
    operations.ready(instance).await;
    say_ready(global, instance, read_only).await?;
    signals.next().await;
    let signalled = Instant::now();
    tracing::info!("stopping; a second signal stops at once");
    let has_time = operations.drain(signals).await;
    stop.cancel();
    tokio::select! {
        drained = tokio::time::timeout(transfer_time(signalled.elapsed()), async { tokio::join!(registry, rpc, control, trimming, reloading, beside.wait()) }) => {
            if drained.is_err() {
                tracing::warn!("some transfers were broken off");
            }
        }
        () = signals.next() => {}
        () = std::future::ready(()), if !has_time => {}
    }
    instance.content().uploads().save_all().await;
    Ok(())
}

/// Lets the process open more files than the usual 1,024: connections, peers, blobs and the database need one each.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(MAX_OPEN_FILES, |most| most.min(MAX_OPEN_FILES));
    if limit.current.is_some_and(|current| current < wanted)
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit })
    {
        tracing::debug!("the limit of open files stays as it is: {error}");
    }
}

/// Says what a person needs next, and why nothing can be pushed where that is so.
async fn say_ready(global: &Global, instance: &Instance, read_only: Option<String>) -> Result<(), Exit> {
    if let Some(why) = &read_only {
        tracing::warn!("the registry is read-only ({why}); with --htpasswd FILE users can push");
    }
    let (notes, _) = tokio::sync::mpsc::unbounded_channel();
    let Reply::Status(status) = instance.handle(Request::Status, notes).await? else { return Ok(()) };
    if global.json {
        let status = serde_json::to_string(&status).map_err(Failure::new)?;
        // The node runs on where nothing reads its stdout.
        let _ = writeln!(stdout(), "{status}");
        return Ok(());
    }
    let identity = &status.identity;
    let address = identity.announced.first().or(identity.listen.first()).unwrap_or(&identity.peer);
    let _ = writeln!(
        stdout(),
        "ready: registry {scheme}://{registry}{}, peer {address}, sharing {}; try: docker pull {registry}/layer/<cid>",
        read_only.map(|why| format!(" (read-only until --htpasswd names users: {why})")).unwrap_or_default(),
        super::status::shared(&status.published.share),
        registry = status.registry,
        scheme = if status.tls { "https" } else { "http" },
    );
    Ok(())
}
