//! The certificate authorities of the system, under the name by which libp2p's WebSocket transport knows a list of its own:
//! the same that the HTTP client of this program trusts, with those that an organisation has added.
//!
//! TLS says nothing about a peer here: Noise proves its identity within the connection. The certificate only has to be one that
//! lets the connection pass where all else is blocked.

#![warn(missing_docs)]

mod system;

use std::sync::LazyLock;

use rustls_pki_types::TrustAnchor;

/// The authorities, read from the system once (`SSL_CERT_FILE` and `SSL_CERT_DIR` name others).
pub static TLS_SERVER_ROOTS: LazyLock<Vec<TrustAnchor<'static>>> = LazyLock::new(system::anchors);
