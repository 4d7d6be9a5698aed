//! TLS of a listener: certificates by server name, client certificates as users, and a new configuration whenever a file changes.
//!
//! ```text
//! handshake        one connection: a deadline, a bound, the challenge of an ACME server
//!   ├─► turns      the bound, for all clients and for those of one source
//!   ├─► files      certificates, keys and authorities, read again when they change
//!   │     └─► certificate   one of them, and which names it is for
//!   ├─► client     the user whom a client certificate names
//!   └─► challenges answers to an ACME server
//! logins             open connections whose client certificate is not accepted any more
//! ```

mod certificate;
mod challenges;
mod client;
mod error;
mod files;
mod handshake;
mod login;
mod logins;
mod turns;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use futures::future::BoxFuture;
use rustls::{
    CipherSuite, ServerConfig,
    crypto::{CryptoProvider, ring},
    server::{ClientHello, NoServerSessionStorage},
};
use tokio::sync::watch;

use super::{lock::locked, reloaded::Reload};
pub use certificate::Certificate;
use certificate::Certificates;
pub use challenges::Challenges;
pub use client::Secure;
pub use error::Error;
use files::{Current, Files};
pub use handshake::HandshakeRefused;
use login::Verification;
use turns::Turns;

/// What clients may speak after the handshake, the preferred one first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];
/// Port that references leave out.
const HTTPS_PORT: u16 = 443;

/// Whether clients show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificates {
    /// They are not asked for one.
    #[default]
    Ignored,
    /// They may.
    Optional,
    /// Without one, there is no connection.
    Required,
}

/// The files of TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// A certificate with its chain, and its key.
    pub pairs: Vec<(PathBuf, PathBuf)>,
    /// Authorities of client certificates.
    pub client_ca: Option<PathBuf>,
    /// Whether clients show one.
    pub client_certificates: ClientCertificates,
    /// Names whose certificates come later, from an ACME server.
    pub awaited: Vec<String>,
}

/// TLS as a listener serves it now. Clones share it.
#[derive(Clone)]
pub struct Tls(Arc<TlsInner>);

struct TlsInner {
    options: Options,
    files: Files,
    /// Certificates that an ACME server issued, by their names.
    issued: Mutex<BTreeMap<String, Certificate>>,
    /// What connections are made with, and the files that were last tried for it.
    configs: Mutex<(Current, Configs)>,
    challenges: Challenges,
    turns: Turns,
    /// Counts the changes of the authorities of clients.
    verifications: watch::Sender<u64>,
}

/// What connections are made with.
#[derive(Clone)]
struct Configs {
    /// AES with keys of 128 bits first, which is the fastest where processors have it.
    ours: Arc<ServerConfig>,
    /// In the order of the client.
    theirs: Arc<ServerConfig>,
    /// What verifies clients.
    verification: Verification,
}

impl Configs {
    fn new(theirs: ServerConfig, verification: Verification) -> Self {
        let mut ours = theirs.clone();
        ours.ignore_client_order = true;
        Self { ours: Arc::new(ours), theirs: Arc::new(theirs), verification }
    }

    /// A client whose processor has no AES prefers ChaCha20.
    fn choose(&self, hello: &ClientHello<'_>) -> Arc<ServerConfig> {
        let prefers_chacha =
            hello.cipher_suites().first() == Some(&CipherSuite::TLS13_CHACHA20_POLY1305_SHA256);
        if prefers_chacha { self.theirs.clone() } else { self.ours.clone() }
    }
}

/// The cryptography that libp2p uses, too.
fn provider() -> Arc<CryptoProvider> {
    let mut provider = ring::default_provider();
    // Stable: what remains keeps its order, TLS 1.3 first.
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    Arc::new(provider)
}

impl Reload for Tls {
    fn reload(&self) -> BoxFuture<'_, ()> {
        Box::pin(Self::reload(self))
    }
}

impl Tls {
    /// Reads the files.
    pub fn open(options: Options) -> Result<Self, Error> {
        let files = Files::open(&options)?;
        let current = files.current();
        let configs = configure(&current, &BTreeMap::new(), options.client_certificates, 0)?;
        Ok(Self(Arc::new(TlsInner {
            options,
            files,
            issued: Mutex::default(),
            configs: Mutex::new((current, configs)),
            challenges: Challenges::default(),
            turns: Turns::default(),
            verifications: watch::Sender::default(),
        })))
    }

    /// Answers that an ACME server waits for.
    pub fn challenges(&self) -> &Challenges {
        &self.0.challenges
    }

    /// Serves a certificate that an ACME server has issued for a name, in place of an earlier one.
    pub fn set_issued(&self, name: &str, certificate: Certificate) -> Result<(), Error> {
        locked(&self.0.issued).insert(name.into(), certificate);
        self.install()
    }

    /// The certificate that an ACME server has issued for a name.
    pub fn issued(&self, name: &str) -> Option<Certificate> {
        locked(&self.0.issued).get(name).cloned()
    }

    /// Reads the files again if they were changed; looks at most once a second.
    pub async fn refresh(&self) {
        self.0.files.refresh().await;
        self.install_changed();
    }

    /// Reads the files again at once.
    pub async fn reload(&self) {
        self.0.files.reload().await;
        self.install_changed();
    }

    fn install_changed(&self) {
        let is_new = !self.0.files.current().is(&locked(&self.0.configs).0);
        if is_new && let Err(error) = self.install() {
            tracing::warn!("cannot use the certificates, the previous ones stay: {error}");
        }
    }

    /// Makes a configuration for the connections that come: sessions of earlier ones are not resumed by it, so that a client whose
    /// authority is gone shows its certificate again.
    fn install(&self) -> Result<(), Error> {
        let mut configs = locked(&self.0.configs);
        let current = self.0.files.current();
        let is_same = current.has_authorities_of(&configs.0);
        let generation = configs.1.verification.generation + u64::from(!is_same);
        configs.0 = current;
        let mode = self.0.options.client_certificates;
        configs.1 = configure(&configs.0, &locked(&self.0.issued), mode, generation)?;
        drop(configs);
        self.0.verifications.send_if_modified(|last| std::mem::replace(last, generation) != generation);
        Ok(())
    }

    fn configs(&self) -> Configs {
        locked(&self.0.configs).1.clone()
    }

    /// The host and the port by which clients reach a listener at `address`: a name that a certificate is for.
    pub fn shown_at(&self, address: SocketAddr) -> String {
        let files = self.0.files.current();
        let is_covered = |host: &str| files.certificates().any(|certificate| certificate.covers(host));
        if is_covered(&address.ip().to_string()) {
            return address.to_string();
        }
        let named = files.certificates().find_map(Certificate::first_name);
        let name = match address.ip().is_loopback() && is_covered("localhost") {
            true => Some("localhost"),
            false => named.or(self.0.options.awaited.first().map(String::as_str)),
        };
        match name {
            Some(name) if address.port() == HTTPS_PORT => name.into(),
            Some(name) => format!("{name}:{}", address.port()),
            None => address.to_string(),
        }
    }
}

fn configure(
    files: &Current,
    issued: &BTreeMap<String, Certificate>,
    mode: ClientCertificates,
    generation: u64,
) -> Result<Configs, Error> {
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = builder.map_err(Error::Versions)?;
    let verifier = files.verifier(mode)?;
    let builder = match &verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier.clone()),
        None => builder.with_no_client_auth(),
    };
    let all = files.certificates().cloned().chain(issued.values().cloned()).collect();
    let mut config = builder.with_cert_resolver(Arc::new(Certificates::new(all)));
    config.alpn_protocols = PROTOCOLS.iter().map(|protocol| protocol.to_vec()).collect();
    if mode != ClientCertificates::Ignored {
        // A resumed session would keep a certificate that has expired in the meantime.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(Configs::new(config, Verification { verifier, generation }))
}

#[cfg(test)]
mod tests;
