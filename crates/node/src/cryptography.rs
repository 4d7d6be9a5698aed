//! The cryptography of TLS, chosen once for the process.

use std::sync::Once;

static INSTALLED: Once = Once::new();

/// Has rustls use the cryptography that libp2p uses, wherever a client or a server of TLS is built without naming one. The first
/// choice of the process stays: a program that embeds the node may have made another one.
pub fn install_cryptography() {
    INSTALLED.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
}
