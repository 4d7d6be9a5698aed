//! The certificates of the system.

use rustls_pki_types::TrustAnchor;

/// Reads the authorities that the system trusts; a certificate that cannot be read is left out.
pub(crate) fn anchors() -> Vec<TrustAnchor<'static>> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::debug!(%error, "cannot read certificates of the system");
    }
    // A system's list may have certificates that are none of an authority; TLS would not trust them either.
    let anchors =
        found.certs.iter().filter_map(|certificate| webpki::anchor_from_trusted_cert(certificate).ok());
    anchors.map(|anchor| anchor.to_owned()).collect()
}
