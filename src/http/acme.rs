//! Certificates from an ACME server (RFC 8555), which proves the names over the listener itself (`tls-alpn-01`, RFC 8737).
//!
//! Each name has a certificate of its own, so that one that cannot be proven does not hold up the others. The account and the
//! certificates are kept below the node directory.

mod account;
mod domain;
mod files;
mod kept;
mod order;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures::future::join_all;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use super::tls::{self, Tls};
use crate::http_client;
pub use domain::Domain;
use kept::Kept;

/// Where an account is made unless another server is named.
pub const DEFAULT_DIRECTORY: &str = "https://acme-v02.api.letsencrypt.org/directory";
/// Between two tries for a certificate; doubled after each.
const FIRST_RETRY: Duration = Duration::from_secs(5);
const MAX_RETRY: Duration = Duration::from_secs(3600);
/// The clock may be set, so the time to renew is looked at this often.
const LOOK: Duration = Duration::from_secs(3600);
/// One order, with the waits that its server asks for.
const ORDER_TIMEOUT: Duration = Duration::from_secs(180);

/// What is asked of which server.
#[derive(Clone, Debug)]
pub struct Options {
    /// Names to get certificates for.
    pub domains: Vec<Domain>,
    /// URL of the server's directory.
    pub directory: String,
    /// Authority of the server's own certificate, if the system does not trust it.
    pub authority: Option<PathBuf>,
    /// Where the server sends warnings, such as `mailto:me@example.org`.
    pub contacts: Vec<String>,
    /// Directory of the account and of the certificates.
    pub dir: PathBuf,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the account or of a certificate.
    #[error("cannot use {path}: {why}")]
    File {
        /// The file.
        path: String,
        /// Error of the operating system, or of its content.
        why: String,
    },
    /// The authority of the server.
    #[error("cannot trust the ACME server by {path}: {why}")]
    Authority {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// The server, or the way to it.
    #[error("{0}")]
    Server(String),
    /// The server proves names in other ways only.
    #[error("the ACME server does not offer tls-alpn-01 for {0}")]
    NoChallenge(Domain),
    /// The server has not proven the name.
    #[error("the ACME server did not validate the name: the order is {0:?}")]
    Refused(instant_acme::OrderStatus),
    /// The answer to the server cannot be made.
    #[error("cannot answer the ACME server: {0}")]
    Answer(String),
    /// The issued certificate.
    #[error("the issued certificate cannot be used: {0}")]
    Certificate(#[from] tls::Error),
    /// The server takes too long.
    #[error("no certificate within {} s", ORDER_TIMEOUT.as_secs())]
    Slow,
}

impl From<instant_acme::Error> for Error {
    fn from(error: instant_acme::Error) -> Self {
        Self::Server(http_client::with_sources(&error))
    }
}

/// Certificates of a node.
pub struct Acme {
    options: Options,
    client: reqwest::Client,
    account: OnceCell<instant_acme::Account>,
    kept: Kept,
    tls: Tls,
}

impl Acme {
    /// Reads the certificates that are there, and serves them.
    pub fn open(options: Options, tls: Tls) -> Result<Self, Error> {
        let client = account::client(options.authority.as_deref())?;
        files::make_dir(&options.dir)?;
        for domain in &options.domains {
            match files::read(&options.dir, domain) {
                Ok(Some(certificate)) => tls.set_issued(domain.as_str(), certificate)?,
                Ok(None) => {}
                // It may be a good one.
                Err(error @ Error::File { .. }) => return Err(error),
                Err(error) => tracing::warn!(%domain, "a new certificate is requested: {error}"),
            }
        }
        Ok(Self { options, client, account: OnceCell::new(), kept: Kept::default(), tls })
    }

    /// Gets and renews the certificates of all names until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let acme = Arc::new(self);
        let all = acme.options.domains.iter().map(|domain| acme.keep(domain));
        tokio::join!(stop.run_until_cancelled(join_all(all)), acme.kept.clone().run(&stop));
    }

    async fn keep(&self, domain: &Domain) {
        let mut delay = FIRST_RETRY;
        loop {
            if let Some(wait) = self.wait(domain) {
                tokio::time::sleep(wait.min(LOOK)).await;
                continue;
            }
            let ordered = tokio::time::timeout(ORDER_TIMEOUT, self.order(domain)).await;
            match ordered.unwrap_or(Err(Error::Slow)) {
                Ok(()) => {
                    tracing::info!(%domain, "got a certificate");
                    delay = FIRST_RETRY;
                    // By a clock that is ahead it has to be renewed already.
                    if self.wait(domain).is_none() {
                        tokio::time::sleep(LOOK).await;
                    }
                }
                Err(error) => {
                    tracing::warn!(%domain, retry_seconds = delay.as_secs(), "no certificate: {error}");
                    tokio::time::sleep(delay).await;
                    delay = (delay * 2).min(MAX_RETRY);
                }
            }
        }
    }

    /// How long the certificate of a name lasts until it is renewed; none where there is none to wait for.
    fn wait(&self, domain: &Domain) -> Option<Duration> {
        let renewal = self.tls.issued(domain.as_str())?.renewal();
        renewal.duration_since(SystemTime::now()).ok().filter(|wait| !wait.is_zero())
    }
}

#[cfg(test)]
mod tests;
