//! The log on stderr.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;

use super::{Global, LogFormat};

/// Starts the log. `RUST_LOG` overrides what is logged, `NO_COLOR` turns colours off.
pub fn start(global: &Global, format: LogFormat, access: bool) {
    // connexa logs an error for each connection that fails or is refused: strangers would fill the log.
    // Of peers that cannot be reached rust-ipfs and quinn log, too: those behind NAT tell addresses of their own networks.
    let libraries = "libp2p=error,connexa=off,rust_ipfs=error,rust_ipfs::p2p::addressbook=off,quinn_udp=error,hickory_proto=error";
    let access = if access { "info" } else { "off" };
    let default = match (global.quiet, global.verbose) {
        (true, _) => format!("error,connexa=off,rust_ipfs::p2p::addressbook=off,ocipfs::access={access}"),
        (_, 0) => format!("warn,{libraries},ocipfs=info,ocipfs_node=info,ocipfs::access={access}"),
        (_, 1) => format!("info,{libraries},ocipfs=debug,ocipfs_node=debug,tower_http=debug"),
        _ => "debug".into(),
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let coloured =
        stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr).with_ansi(coloured);
    // A log that cannot be written, because the disk is full, must not cause a panic, as `eprintln` would.
    let log = log.log_internal_errors(false);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
}
