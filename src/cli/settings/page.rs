//! Settings of the page for browsers.

use std::net::SocketAddr;

use clap::Args;
use serde::Deserialize;

use super::Settings;

/// Settings as they were given.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PageSettings {
    /// Serve a page for browsers at / of the registry's address and of --admin-listen: repositories, peers, transfers and the store, read-only [default: true; at --admin-listen only on loopback, since it has no login]
    #[arg(long, env = "OCIPFS_PAGE", num_args = 0..=1, default_missing_value = "true", value_name = "true|false")]
    page: Option<bool>,
}

impl PageSettings {
    /// Takes from the file what neither flags nor environment said.
    pub fn or(self, file: Self) -> Self {
        Self { page: self.page.or(file.page) }
    }
}

impl Settings {
    /// Whether the page is served.
    pub fn page(&self) -> bool {
        self.page.page.unwrap_or(true)
    }

    /// Whether the page is served at the address of probes and metrics, too. There is no login: where other machines reach it, it
    /// is served only if that was asked for.
    pub fn admin_page(&self, address: SocketAddr) -> bool {
        self.page.page.unwrap_or(address.ip().to_canonical().is_loopback())
    }
}
