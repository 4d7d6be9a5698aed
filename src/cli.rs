//! The command line: flags, environment and file become plain options; one file a subcommand.

mod image;
mod layer;
mod name;
mod output;
mod repo;
mod secrets;
mod serve;
mod settings;
mod status;
mod store;
mod swarm;

use clap::{Args, Parser, Subcommand};

use crate::control::{Failure, Instance, Options, Reply, Request, client};
use output::Output;
pub use output::printable_lines;
use settings::Settings;

/// An IPFS peer and an OCI registry in one process.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, after_help = EXAMPLES)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  ocipfs serve                                   run a node and its registry on 127.0.0.1:5050
  ocipfs layer add foo-0.1.0.tar.gz              make a layer that others can pull by its CID
  docker pull 127.0.0.1:5050/layer/<cid>         pull it, here or through any other node
  docker save foo | ocipfs image import -        keep whole images, and give them to others
  ocipfs serve --bootstrap none --peer /ip4/192.0.2.7/tcp/4001/p2p/12D3KooW...
                                                 a swarm of one's own, with no public peers";

/// Options that every command has.
#[derive(Debug, Args)]
struct Global {
    /// The node directory: identity, blocks and index [default: ~/.ocipfs]
    #[arg(long, global = true, value_name = "DIR", env = "OCIPFS_DATA_DIR")]
    data_dir: Option<std::path::PathBuf>,
    /// A TOML file of settings, named as the flags of `serve` are [default: config.toml in the node directory]
    #[arg(long, global = true, value_name = "FILE", env = "OCIPFS_CONFIG")]
    config: Option<std::path::PathBuf>,
    /// Print one JSON document
    #[arg(long, global = true)]
    json: bool,
    /// Print only the result's last line
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Log more; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(Box<serve::Serve>),
    #[command(subcommand)]
    Layer(layer::Layer),
    #[command(subcommand)]
    Image(image::Image),
    #[command(subcommand)]
    Name(name::Name),
    #[command(subcommand)]
    Swarm(swarm::Swarm),
    #[command(subcommand)]
    Repo(repo::Repo),
    #[command(subcommand)]
    Store(store::Store),
    Status(status::Status),
}

/// How a command ends when it does not end well.
#[derive(Debug)]
pub enum Exit {
    /// What was asked makes no sense: exit code 2.
    Usage(Failure),
    /// It was tried and failed: exit code 1.
    Failed(Failure),
}

impl From<Failure> for Exit {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Runs a command to its end.
pub fn run(cli: Cli) -> Result<(), Exit> {
    log(&cli.global);
    let runtime = tokio::runtime::Runtime::new().map_err(|e| Failure::new(format!("no runtime: {e}")))?;
    let outcome = runtime.block_on(dispatch(cli));
    // A thread that still reads a file must not hold up the exit.
    runtime.shutdown_background();
    outcome
}

async fn dispatch(cli: Cli) -> Result<(), Exit> {
    let Cli { global, command } = cli;
    match command {
        Command::Serve(serve) => serve::run(&global, *serve).await,
        Command::Layer(layer) => layer::run(&global, layer).await,
        Command::Image(image) => image::run(&global, image).await,
        Command::Name(name) => name::run(&global, name).await,
        Command::Swarm(swarm) => swarm::run(&global, swarm).await,
        Command::Repo(repo) => repo::run(&global, repo).await,
        Command::Store(store) => store::run(&global, store).await,
        Command::Status(_) => status::run(&global).await,
    }
}

/// Asks the running node, or the node directory where none runs.
async fn ask(global: &Global, request: Request) -> Result<Reply, Exit> {
    let settings = Settings::from_environment()?.or_file(global)?;
    let offline = settings.offline();
    let mut output = Output::new(global);
    let reply = client::ask(request, offline, |note| output.note(note)).await;
    output.finish();
    Ok(reply?)
}

/// A reply of another kind than was asked for: the running node is of another version.
fn unexpected() -> Exit {
    Exit::Failed(
        Failure::new("the running node's answer was not understood").hint("restart it with this version"),
    )
}

fn log(global: &Global) {
    // connexa says an error of each connection that fails or is refused: strangers would fill the log.
    let quiet_libraries = "libp2p=error,connexa=off,rust_ipfs=error,hickory_proto=error";
    let default = match (global.quiet, global.verbose) {
        (true, _) => "error".into(),
        (_, 0) => format!("warn,{quiet_libraries},ocipfs=info,ocipfs_node=info"),
        (_, 1) => format!("info,{quiet_libraries},ocipfs=debug,ocipfs_node=debug,tower_http=debug"),
        _ => "debug".into(),
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    let filter = filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    // A log that cannot be written, for the disk is full, is no reason to panic, as `eprintln` would.
    let log = tracing_subscriber::fmt().log_internal_errors(false);
    log.with_env_filter(filter).with_writer(std::io::stderr).init();
}

/// Opens the instance of a `serve`.
async fn open(options: Options) -> Result<Instance, Exit> {
    Ok(Instance::open(options).await?)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_tree_is_sound() {
        super::Cli::command().debug_assert();
    }
}
