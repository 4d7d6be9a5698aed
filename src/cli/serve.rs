use std::time::Duration;

use clap::Args;
use tokio::{net::TcpListener, signal::unix};
use tokio_util::sync::CancellationToken;

use super::{Exit, Global, open, settings::Settings};
use crate::{
    allocator,
    control::{Failure, House, Reply, Request, server::Server},
    registry::{self, Access},
};

/// What is being sent or answered gets this long to end.
const DRAIN: Duration = Duration::from_secs(5);

/// Run the node and the registry in the foreground
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Serve {
    #[command(flatten)]
    settings: Settings,
}

const EXAMPLES: &str = "\
Every setting has one name in three places: --find-timeout, OCIPFS_FIND_TIMEOUT (lists separated by
commas) and find-timeout in the TOML file. Flags win over the environment, which wins over the file.

Examples:
  ocipfs serve                                        on the public IPFS network
  ocipfs serve --bootstrap none                       alone, or with those who dial it
  ocipfs swarm key > swarm.key
  ocipfs serve --swarm-key swarm.key --peer /ip4/10.0.0.1/tcp/4001/p2p/12D3KooW...
                                                      in a private swarm";

pub async fn run(global: &Global, serve: Serve) -> Result<(), Exit> {
    let settings = serve.settings.or_file(global)?;
    let address = settings.listen();
    // What makes no sense is said before anything is bound or written.
    settings.online(String::new())?;
    let access = settings.access()?;
    let listener = TcpListener::bind(address).await.map_err(|e| {
        Failure::new(format!("cannot listen on {address} for the registry: {e}"))
            .hint("is another registry running there? choose another address with --listen")
    })?;
    let mut shown = listener.local_addr().map_err(Failure::new)?;
    if shown.ip().is_unspecified() {
        // Nobody can pull from 0.0.0.0; from this machine, loopback is right.
        shown.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    let house = open(settings.online(shown.to_string())?).await?;
    // Before it is said to be ready: whoever reads that may stop it at once.
    let mut signals = Signals::listen()?;
    let outcome = run_in(global, &house, &settings, (listener, access), &mut signals).await;
    tokio::select! {
        () = house.close() => {}
        () = signals.next() => {}
    }
    outcome
}

async fn run_in(
    global: &Global,
    house: &House,
    settings: &Settings,
    (listener, access): (TcpListener, Access),
    signals: &mut Signals,
) -> Result<(), Exit> {
    let stop = CancellationToken::new();
    let control = Server::bind(&settings.data_dir())?;
    let control = tokio::spawn(control.run(house.clone(), stop.clone()));
    let trimming = tokio::spawn(allocator::trim(stop.clone()));
    let registry = tokio::spawn(registry::serve(listener, house.resolver().clone(), access, stop.clone()));
    say_ready(global, house).await?;
    signals.next().await;
    tracing::info!("stopping; a second signal stops at once");
    stop.cancel();
    tokio::select! {
        drained = tokio::time::timeout(DRAIN, async { tokio::join!(registry, control, trimming) }) => {
            if drained.is_err() {
                tracing::warn!("some transfers were broken off");
            }
        }
        () = signals.next() => {}
    }
    house.content().uploads().save_all().await;
    Ok(())
}

/// Says what a person needs next.
async fn say_ready(global: &Global, house: &House) -> Result<(), Exit> {
    let (notes, _) = tokio::sync::mpsc::unbounded_channel();
    let Reply::Status(status) = house.handle(Request::Status, notes).await? else { return Ok(()) };
    if global.json {
        println!("{}", serde_json::to_string(&status).map_err(Failure::new)?);
        return Ok(());
    }
    let identity = &status.identity;
    let address = identity.announced.first().or(identity.listen.first()).unwrap_or(&identity.peer);
    println!(
        "ready: registry http://{registry}, peer {address}, sharing {}; try: docker pull {registry}/layer/<cid>",
        super::status::shared(&status.published.share),
        registry = status.registry,
    );
    Ok(())
}

/// SIGINT and SIGTERM, from the moment that it is made.
struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
}

impl Signals {
    fn listen() -> Result<Self, Exit> {
        let listen = |kind| unix::signal(kind).map_err(|e| Failure::new(format!("no signal handler: {e}")));
        let (interrupt, terminate) = (unix::SignalKind::interrupt(), unix::SignalKind::terminate());
        Ok(Self { interrupt: listen(interrupt)?, terminate: listen(terminate)? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
