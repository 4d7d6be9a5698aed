use std::time::{Duration, UNIX_EPOCH};

use clap::{Args, Subcommand};

use super::{Exit, Global, ask, output, unexpected};
use crate::{
    access::{Action, Pattern},
    control::{Reply, Request, TokenReply, TokenRequest},
    http::IssuedToken,
};

/// Create, list and revoke tokens, which stand in place of passwords at the registry
#[derive(Debug, Subcommand)]
pub enum Token {
    Create(Create),
    /// List the tokens: what each is for, and when it expires
    #[command(after_help = "\
Examples:
  ocipfs token ls
  ocipfs -q token ls                             names only, one per line
  ocipfs token ls --json")]
    Ls,
    /// Revoke a token: requests with it are refused from now on
    #[command(after_help = "\
Examples:
  ocipfs token revoke ci")]
    Revoke {
        /// Name of the token
        name: String,
    },
}

/// Create a token, and print it: it is shown only once
#[derive(Args, Debug)]
#[command(after_help = "\
The token is a password for `docker login` under any user name, and a bearer token. The node keeps its hash.

Examples:
  ocipfs token create ci --repo 'team/*' --actions pull,push --expires 90d
  ocipfs -q token create ci --repo app | docker login --username ci --password-stdin 127.0.0.1:5050")]
pub struct Create {
    /// Name of the token: letters, digits, `-`, `_` and `.`; the log has it as the user
    name: String,
    /// Repositories that the token is for; `*` stands for any text, with slashes too
    #[arg(long, value_name = "PATTERN", value_delimiter = ',', required = true)]
    repo: Vec<Pattern>,
    /// What may be done: pull, push, delete, sign, admin
    #[arg(long, value_name = "ACTION", value_delimiter = ',', default_value = "pull", value_parser = parse_action)]
    actions: Vec<Action>,
    /// How long the token is valid [default: until it is revoked]
    #[arg(long, value_name = "TIME")]
    expires: Option<humantime::Duration>,
}

fn parse_action(text: &str) -> Result<Action, String> {
    text.parse()
}

pub async fn run(global: &Global, token: Token) -> Result<(), Exit> {
    let request = match token {
        Token::Create(Create { name, repo, actions, expires }) => TokenRequest::Create {
            name,
            repositories: repo.into_iter().map(String::from).collect(),
            actions: actions.iter().map(ToString::to_string).collect(),
            seconds: expires.map(|time| time.as_secs()),
        },
        Token::Ls => TokenRequest::Ls,
        Token::Revoke { name } => TokenRequest::Revoke { name },
    };
    let Reply::Token(reply) = ask(global, Request::Token(request)).await? else { return Err(unexpected()) };
    match reply {
        TokenReply::Created(created) => output::print(global, &created, &created.token, || {
            outln!("{}", described(&created.of));
        }),
        TokenReply::Listed { tokens } => output::print_all(global, &tokens, || {
            for token in &tokens {
                match global.quiet {
                    true => outln!("{}", token.name),
                    false => outln!("{}", described(token)),
                }
            }
        }),
        TokenReply::Revoked { name } => {
            output::print(global, &serde_json::json!({ "name": name }), &name, || {})
        }
    }
}

fn described(token: &IssuedToken) -> String {
    let IssuedToken { name, repositories, actions, expires, .. } = token;
    let repositories: Vec<&str> = repositories.iter().map(Pattern::as_str).collect();
    let until = match expires.and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds))) {
        Some(time) => format!("expires {}", humantime::format_rfc3339_seconds(time)),
        None => "does not expire".into(),
    };
    format!("{name}  {actions}  {}  {until}", repositories.join(","))
}
