mod key;

use clap::{Args, Subcommand};

use super::{Exit, Global, ask, output, output::printable, unexpected};
use crate::control::{NameRequest, Reply, Request};

/// IPNS names: what a key says that it means, changeable, for others to follow; and domains
#[derive(Debug, Subcommand)]
pub enum Name {
    Publish(Publish),
    Resolve(Resolve),
    /// This node's names: its own, then those of its keys
    Ls,
    /// Know the repositories of a name by their own names from now on: `docker pull 127.0.0.1:5050/app:1`
    Follow {
        /// k51..., as `ocipfs name ls` prints it first where it is published
        name: String,
    },
    /// Follow a name no more
    Unfollow {
        /// k51...
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

/// Say what a key's name means from now on; the name is printed last
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Publish {
    /// The key; it is made where there is none of that name
    #[arg(long, value_name = "NAME")]
    key: String,
    /// How long others may use it without asking again
    #[arg(long, value_name = "TIME", default_value = "5m")]
    ttl: humantime::Duration,
    /// /ipfs/<cid>[/path], /ipns/<name>[/path], or a CID
    target: String,
}

/// Tell what a name means: a path below a CID
#[derive(Args, Debug)]
pub struct Resolve {
    /// k51..., a domain, the name of a key of this node, or a path that begins with a name
    name: String,
}

pub async fn run(global: &Global, name: Name) -> Result<(), Exit> {
    let request = match name {
        Name::Publish(Publish { key, ttl, target }) => {
            NameRequest::Publish { key, target, ttl: ttl.as_secs() }
        }
        Name::Resolve(Resolve { name }) => NameRequest::Resolve { name },
        Name::Ls => NameRequest::Ls,
        Name::Follow { name } => NameRequest::Follow { name },
        Name::Unfollow { name } => NameRequest::Unfollow { name },
        Name::Key(key) => return key::run(global, key).await,
    };
    match ask(global, Request::Name(request)).await? {
        Reply::Published(published) => output::print(global, &published, &published.name, || {
            println!("{} (sequence {})", printable(&published.value), published.sequence);
        }),
        Reply::Resolved(target) => {
            if target.stale && !global.quiet {
                eprintln!("warning: nobody answered for it, so this is what was seen last");
            }
            output::print(global, &target, &printable(&target.path), || {})
        }
        Reply::Names { names } => output::print_all(global, &names, || {
            for name in &names {
                println!(
                    "{}  {:12}  {}",
                    name.name,
                    name.key,
                    printable(name.value.as_deref().unwrap_or("-"))
                );
            }
        }),
        Reply::Followed { name, changed } => {
            let result = serde_json::json!({ "name": name, "changed": changed });
            output::print(global, &result, &name, || {})
        }
        _ => Err(unexpected()),
    }
}
