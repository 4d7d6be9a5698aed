//! The command line: flags, environment and file become plain options; one file per subcommand.
//!
//! Results go to stdout, everything else to stderr. Exit codes: 0 success, 1 failure, 2 usage.

#[macro_use]
mod output;

mod bundle;
mod completions;
mod image;
mod join;
mod layer;
mod log;
mod name;
mod progress;
mod repo;
mod secrets;
mod serve;
mod settings;
mod status;
mod store;
mod swarm;
mod token;

use std::{
    cell::RefCell,
    io::{Write, stdout},
    process::ExitCode,
    thread,
};

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, error::ErrorKind};
use tokio::{runtime::Handle, sync::oneshot};

use crate::control::{
    Attachment, Failure, Instance, Options, Reply, Request,
    client::{self, Offline},
};
use output::Output;
use settings::{LogFormat, Settings};

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
  docker push 127.0.0.1:5050/app:1               push to it, as to any registry
  ocipfs name ls                                 print the name that its repositories are published under
  ocipfs name follow k51...                      serve the repositories of another node
  ocipfs layer add foo-0.1.0.tar.gz              make an image of one layer, pulled by CID
  docker save foo | ocipfs image import -        add whole images
  ocipfs bundle export monday.car 'team/*'       carry images to a network without the internet
  ocipfs serve --bootstrap none --peer /ip4/192.0.2.7/tcp/4001/p2p/12D3KooW...
                                                 run a swarm without public peers

Exit codes: 0 success, 1 failure, 2 invalid usage or settings.";

const GLOBAL: &str = "Global options";

/// Options that every command has.
#[derive(Debug, Default, Args)]
struct Global {
    /// Node directory: identity, blocks and index [default: ~/.ocipfs]
    #[arg(long, global = true, value_name = "DIR", env = "OCIPFS_DATA_DIR", help_heading = GLOBAL)]
    data_dir: Option<std::path::PathBuf>,
    /// TOML file of settings, named like the flags of `serve` [default: config.toml in the node directory]
    #[arg(long, global = true, value_name = "FILE", env = "OCIPFS_CONFIG", help_heading = GLOBAL)]
    config: Option<std::path::PathBuf>,
    /// Print the result, or the error, as one JSON document
    #[arg(long, global = true, help_heading = GLOBAL)]
    json: bool,
    /// Print only the last line of the result
    #[arg(short, long, global = true, help_heading = GLOBAL)]
    quiet: bool,
    /// Log more; use twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = GLOBAL)]
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
    Bundle(bundle::Bundle),
    #[command(subcommand)]
    Name(name::NameCommand),
    #[command(subcommand)]
    Swarm(swarm::Swarm),
    Join(join::Join),
    #[command(subcommand)]
    Repo(repo::Repo),
    #[command(subcommand)]
    Store(store::Store),
    #[command(subcommand)]
    Token(token::Token),
    Status(status::Status),
    Completions(completions::Completions),
    Man(completions::Man),
}

/// A command's error.
#[derive(Debug)]
enum Exit {
    /// The command line or a setting is invalid: exit code 2.
    Usage(Failure),
    /// The command failed: exit code 1.
    Failed(Failure),
}

impl From<Failure> for Exit {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<clap::Error> for Exit {
    fn from(error: clap::Error) -> Self {
        let text = match error.kind() {
            // Its text is the help.
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                "a subcommand is missing\n\n`--help` lists them".into()
            }
            _ => error.to_string(),
        };
        let mut parts = text.split("\n\n").map(str::trim);
        let message = parts.next().unwrap_or_default().trim_start_matches("error: ");
        let mut hints = parts.filter(|part| !part.starts_with("For more information"));
        let hint = hints.next().map(|hint| hint.trim_start_matches("tip: ").to_owned());
        Self::Usage(Failure { hint, ..Failure::new(message) })
    }
}

/// Parses the command line, runs the command and reports its error.
pub fn main() -> ExitCode {
    let command = settings::without_empty(Cli::command());
    let parsed = command.try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() && std::env::args().any(|argument| argument == "--json") => {
            return report(true, &error.into());
        }
        Err(error) => error.exit(),
    };
    let json = cli.global.json;
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => report(json, &exit),
    }
}

/// Prints an error: to stderr for people, to stdout as JSON.
fn report(json: bool, exit: &Exit) -> ExitCode {
    let (failure, code) = match exit {
        Exit::Usage(failure) => (failure, 2),
        Exit::Failed(failure) => (failure, 1),
    };
    let Failure { message, hint, .. } = failure;
    if json {
        // The exit code says that the command failed, also to a reader that has closed the pipe.
        let _ = writeln!(stdout(), "{:#}", serde_json::json!({ "error": message, "hint": hint }));
    } else {
        eprintln!("error: {}", output::printable_lines(message));
        if let Some(hint) = hint {
            eprintln!("hint: {}", output::printable_lines(hint));
        }
    }
    code.into()
}

fn run(cli: Cli) -> Result<(), Exit> {
    settings::check_environment(&Cli::command())?;
    let runtime = tokio::runtime::Runtime::new().map_err(|e| Failure::new(format!("no runtime: {e}")))?;
    let outcome = runtime.block_on(dispatch(cli));
    // A thread that still reads a file must not hold up the exit.
    runtime.shutdown_background();
    outcome
}

async fn dispatch(cli: Cli) -> Result<(), Exit> {
    let Cli { global, command } = cli;
    if !matches!(command, Command::Serve(_)) {
        log::start(&global, LogFormat::Text, false);
    }
    match command {
        Command::Serve(serve) => serve::run(&global, *serve).await,
        Command::Layer(layer) => layer::run(&global, layer).await,
        Command::Image(image) => image::run(&global, image).await,
        Command::Bundle(bundle) => bundle::run(&global, bundle).await,
        Command::Name(name) => name::run(&global, name).await,
        Command::Swarm(swarm) => swarm::run(&global, swarm).await,
        Command::Join(join) => join::run(&global, &join),
        Command::Repo(repo) => repo::run(&global, repo).await,
        Command::Store(store) => store::run(&global, store).await,
        Command::Token(token) => token::run(&global, token).await,
        Command::Status(_) => status::run(&global).await,
        Command::Completions(completions) => completions::completions(completions),
        Command::Man(man) => completions::man(man),
    }
}

/// Asks the running node, or the node directory where none runs.
async fn ask(global: &Global, request: Request) -> Result<Reply, Exit> {
    ask_with(global, request, Attachment::Nothing).await
}

/// Asks with files that this process opens.
async fn ask_with(global: &Global, request: Request, attachment: Attachment) -> Result<Reply, Exit> {
    let settings = Settings::from_environment()?.or_file(global)?;
    let is_default_dir = global.data_dir.is_none() && settings.is_default_dir();
    let offline = Offline { options: settings.offline(), is_default_dir };
    let output = RefCell::new(Output::new(global));
    let asking = client::ask(request, attachment, offline, |note| output.borrow_mut().note(note));
    let reply = progress::meanwhile(progress::LINE_INTERVAL, asking, || output.borrow().tick()).await;
    output.borrow_mut().finish();
    Ok(reply?)
}

/// A reply of another kind than was asked for: the running node is of another version.
fn unexpected() -> Exit {
    Exit::Failed(
        Failure::new("the running node's answer was not understood").hint("restart it with this version"),
    )
}

/// As the main thread has: it is taken page by page, as far as it is used.
const OPEN_STACK_BYTES: usize = 8 << 20;

/// Opens the instance of a `serve`, on a thread of its own: that takes a far deeper stack than all that follows, and with the thread
/// its memory is returned.
async fn open(options: Options) -> Result<Instance, Exit> {
    let (runtime, (opened, opening)) = (Handle::current(), oneshot::channel());
    let open = move || opened.send(runtime.block_on(Instance::open(options)));
    let thread = thread::Builder::new().name("open".into()).stack_size(OPEN_STACK_BYTES).spawn(open);
    let thread = thread.map_err(|e| Failure::new(format!("no thread to open the node directory: {e}")))?;
    match opening.await {
        Ok(instance) => Ok(instance?),
        Err(_) => std::panic::resume_unwind(thread.join().err().unwrap_or_else(|| Box::new("no instance"))),
    }
}

#[cfg(test)]
mod tests;
