mod key;

use clap::{Args, Subcommand};

use super::{Exit, Global, ask, output, output::printable, unexpected};
use crate::control::{NameRequest, Reply, Request};

/// Publish, resolve and follow IPNS names
#[derive(Debug, Subcommand)]
pub enum NameCommand {
    Publish(Publish),
    Resolve(Resolve),
    /// List the names of this node: its own, then those of its keys
    #[command(after_help = "\
Examples:
  ocipfs name ls
  ocipfs name ls --json")]
    Ls,
    /// Follow an IPNS name and serve its repositories under their original names
    #[command(after_help = "\
Examples:
  ocipfs name follow k51...
  ocipfs name follow k51... --wait               return once its newest root is complete
  docker pull 127.0.0.1:5050/app:1               the publisher's repository `app`")]
    Follow {
        /// Name (k51...), as `ocipfs name ls` prints it first on the publisher
        name: String,
        /// Wait until everything is here that `serve --prefetch` fetches of its newest known root; fail if nothing moves for `--stall-timeout`
        #[arg(long)]
        wait: bool,
    },
    /// Stop following a name, and release its content
    #[command(after_help = "\
Examples:
  ocipfs name unfollow k51...")]
    Unfollow {
        /// Name (k51...)
        name: String,
    },
    #[command(subcommand)]
    Key(key::Key),
}

const EXAMPLES: &str = "\
Examples:
  ocipfs name publish --key releases bafy.../images
  ocipfs name publish --key latest /ipns/k51.../stable
  docker pull 127.0.0.1:5050/ipns/<the name printed>/app:1";

/// Publish a CID or a path under the name of a key, and print the name
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Publish {
    /// Name of the key; it is created if it does not exist
    #[arg(long, value_name = "NAME")]
    key: String,
    /// How long others may cache the record
    #[arg(long, value_name = "TIME", default_value = "5m")]
    ttl: humantime::Duration,
    /// /ipfs/<cid>[/path], /ipns/<name>[/path], or a CID
    target: String,
}

/// Resolve a name to a path below a CID
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ocipfs name resolve k51...
  ocipfs name resolve example.org                a domain with a DNSLink record
  ocipfs name resolve releases                   the name of a key of this node")]
pub struct Resolve {
    /// Name (k51...), domain, key of this node, or a path that begins with a name
    name: String,
}

pub async fn run(global: &Global, name: NameCommand) -> Result<(), Exit> {
    let request = match name {
        NameCommand::Publish(Publish { key, ttl, target }) => {
            NameRequest::Publish { key, target, ttl: ttl.as_secs() }
        }
        NameCommand::Resolve(Resolve { name }) => NameRequest::Resolve { name },
        NameCommand::Ls => NameRequest::Ls,
        NameCommand::Follow { name, wait } => NameRequest::Follow { name, wait },
        NameCommand::Unfollow { name } => NameRequest::Unfollow { name },
        NameCommand::Key(key) => return key::run(global, key).await,
    };
    let waits = matches!(request, NameRequest::Follow { wait: true, .. });
    match ask(global, Request::Name(request)).await? {
        // A node of an earlier version does not wait.
        Reply::Followed { root: None, .. } if waits => Err(unexpected()),
        Reply::Published(published) => output::print(global, &published, &published.name, || {
            outln!("{} (sequence {})", printable(&published.value), published.sequence);
        }),
        Reply::Resolved(target) => {
            if target.stale && !global.quiet {
                eprintln!("warning: no answer from the network; this is the last known value");
            }
            output::print(global, &target, &printable(&target.value), || {})
        }
        Reply::Names { names } => output::print_all(global, &names, || {
            for name in &names {
                outln!("{}  {:12}  {}", name.name, name.key, printable(name.value.as_deref().unwrap_or("-")));
            }
        }),
        Reply::Followed { name, changed, root } => {
            let result = serde_json::json!({ "name": name, "changed": changed, "root": root });
            output::print(global, &result, &name, || {})
        }
        _ => Err(unexpected()),
    }
}
