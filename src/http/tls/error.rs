use std::io;

/// Why TLS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read {path}: {why}")]
    Read {
        /// The file.
        path: String,
        /// Error of the operating system.
        why: io::Error,
    },
    /// A file does not have what it is named for.
    #[error("{path} has no {what} in PEM")]
    Missing {
        /// The file.
        path: String,
        /// A certificate, or a private key.
        what: &'static str,
    },
    /// A file is not PEM, or its certificate is not X.509.
    #[error("invalid certificate in {path}: {why}")]
    Certificate {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// A key of an unknown kind.
    #[error("the private key in {path} cannot be used: {why}")]
    Key {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// The key belongs to another certificate.
    #[error("the private key in {key} does not belong to the certificate in {certificate}")]
    OtherKey {
        /// File of the key.
        key: String,
        /// File of the certificate.
        certificate: String,
    },
    /// Clients would refuse it.
    #[error("the certificate in {path} expired on {when}")]
    Expired {
        /// The file.
        path: String,
        /// The end of its validity.
        when: String,
    },
    /// The authorities of clients cannot be used.
    #[error("cannot verify client certificates by {path}: {why}")]
    Authorities {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// The library has none of the versions of TLS.
    #[error("no version of TLS: {0}")]
    Versions(rustls::Error),
}

impl Error {
    /// What helps the user who named the files.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Read { .. } => "the user that runs the node must be able to read it",
            Self::Missing { .. } | Self::Key { .. } => {
                "a certificate file begins with -----BEGIN CERTIFICATE-----, a key file with -----BEGIN PRIVATE KEY-----; \
                 keys with a passphrase are decrypted first: `openssl pkey -in KEY -out PLAIN`"
            }
            Self::Certificate { .. } | Self::Authorities { .. } => {
                "`openssl x509 -in FILE -text` shows what it is"
            }
            Self::OtherKey { .. } => {
                "give --tls-cert and --tls-key in the same order; `openssl x509 -pubkey` and `openssl pkey -pubout` show which belong together"
            }
            Self::Expired { .. } => "renew it, or let --acme DOMAIN do so",
            Self::Versions(_) => "report this as a bug",
        }
    }
}
