//! Errors of the HTTP listeners: the gateway, users, and where a request comes from.

use super::{at, path, refused, why};
use crate::{
    access,
    content::{self, car::ByteSpan},
    gateway, http, memory, rpc, signatures,
};

/// All groups of this file.
pub fn all(text: &mut String) {
    gateway_errors(text);
    user_errors(text);
    tls_errors(text);
    event_errors(text);
    acme_errors(text);
    access_errors(text);
    remote_errors(text);
    setting_errors(text);
}

fn gateway_errors(text: &mut String) {
    use gateway::Error as E;
    let outside = ByteSpan { from: 9, to: None }.resolve(5).unwrap_err();
    instances!(text, gateway::Error,
        E::Invalid(_) => E::Invalid(why()),
        E::NotAcceptable(_) => E::NotAcceptable(why()),
        E::Absent(_) => E::Absent(at()),
        E::Outside(_) => E::Outside(outside),
        E::Busy => E::Busy,
        E::Content(_) => E::Content(content::Error::Full),
    );
}

fn user_errors(text: &mut String) {
    {
        use http::UsersError as E;
        let users = || "/etc/ocipfs/users".to_string();
        instances!(text, http::UsersError,
            E::Read { .. } => E::Read { path: users(), why: refused() },
            E::Line { .. } => E::Line { path: users(), line: 3 },
            E::Empty(_) => E::Empty(users()),
        );
    }
    {
        use rpc::AuthorizationsError as E;
        let file = || "/etc/ocipfs/clients".to_string();
        instances!(text, rpc::AuthorizationsError,
            E::Read { .. } => E::Read { path: file(), why: refused() },
            E::Json { .. } => E::Json { path: file(), why: why() },
            E::Secret { .. } => E::Secret { path: file(), name: "monitor".into() },
            E::Empty(_) => E::Empty(file()),
        );
    }
    use http::htpasswd::LoginError as E;
    instances!(text, http::htpasswd::LoginError,
        E::Wrong => E::Wrong,
        E::TooLong(_) => E::TooLong(100),
        E::Busy => E::Busy,
    );
}

fn tls_errors(text: &mut String) {
    let (certificate, key) = (|| "/etc/ocipfs/cert.pem".to_string(), || "/etc/ocipfs/key.pem".to_string());
    {
        use http::tls::Error as E;
        instances!(text, http::tls::Error,
            E::Read { .. } => E::Read { path: certificate(), why: refused() },
            E::Missing { .. } => E::Missing { path: key(), what: "private key without a passphrase" },
            E::Certificate { .. } => E::Certificate { path: certificate(), why: why() },
            E::Key { .. } => E::Key { path: key(), why: why() },
            E::OtherKey { .. } => E::OtherKey { key: key(), certificate: certificate() },
            E::Expired { .. } => E::Expired { path: certificate(), when: "2026-01-01T00:00:00Z".into() },
            E::Authorities { .. } => E::Authorities { path: "/etc/ocipfs/ca.pem".into(), why: why() },
            E::Versions(_) => E::Versions(rustls::Error::General(why())),
        );
    }
    use http::tls::HandshakeRefused as E;
    instances!(text, http::tls::HandshakeRefused,
        E::Closed(_) => E::Closed(refused()),
        E::Slow => E::Slow,
        E::Crowded => E::Crowded,
        E::Plain => E::Plain,
        E::Challenge(_) => E::Challenge("registry.example".into()),
        E::Handshake(_) => E::Handshake(rustls::Error::NoCertificatesPresented),
    );
}

fn event_errors(text: &mut String) {
    {
        use http::events::audit::AuditError;
        let no_log = AuditError::new(std::path::Path::new("/var/log/ocipfs/audit"), refused());
        instances!(text, AuditError, AuditError { .. } => no_log,);
    }
    use http::events::webhook::WebhookError as E;
    let secret = || "/etc/ocipfs/secret".to_string();
    ocipfs_node::install_cryptography();
    let no_client = || reqwest::Client::new().get("http://").build().unwrap_err();
    instances!(text, http::events::webhook::WebhookError,
        E::Secret { .. } => E::Secret { path: secret(), why: refused() },
        E::Length { .. } => E::Length { path: secret(), length: 0 },
        E::Client(_) => E::Client(no_client()),
    );
}

fn acme_errors(text: &mut String) {
    use http::acme::Error as E;
    instances!(text, http::acme::Error,
        E::File { .. } => E::File { path: "/var/lib/ocipfs/acme/account.json".into(), why: why() },
        E::Authority { .. } => E::Authority { path: "/etc/ocipfs/ca.pem".into(), why: why() },
        E::Server(_) => E::Server(why()),
        E::NoChallenge(_) => E::NoChallenge("registry.example".parse().unwrap()),
        E::Refused(_) => E::Refused(instant_acme::OrderStatus::Invalid),
        E::Answer(_) => E::Answer(why()),
        E::Certificate(_) => E::Certificate(http::tls::Error::Read { path: "a.pem".into(), why: refused() }),
        E::Slow => E::Slow,
    );
}

fn policy_errors(text: &mut String) {
    let file = || "/etc/ocipfs/policy.toml".to_string();
    let unknown = || signatures::Error::UnknownKey { policy: 1, key: "release".into() };
    {
        use http::PolicyFileError as E;
        instances!(text, http::PolicyFileError,
            E::Read { .. } => E::Read { path: file(), why: refused().to_string() },
            E::Invalid { .. } => E::Invalid { path: file(), why: unknown() },
        );
    }
    {
        use signatures::Error as E;
        instances!(text, signatures::Error,
            E::Toml { .. } => E::Toml { line: 3, why: why() },
            E::Kind(_) => E::Kind("release".into()),
            E::Key { .. } => E::Key { name: "release".into(), why: why() },
            E::UnknownKey { .. } => unknown(),
            E::Empty(_) => E::Empty(1),
            E::TooMany(_) => E::TooMany(65),
        );
    }
    use signatures::KeyError as E;
    instances!(text, signatures::KeyError,
        E::Missing => E::Missing,
        E::Unsupported => E::Unsupported,
    );
}

fn access_errors(text: &mut String) {
    let file = || "/etc/ocipfs/access.toml".to_string();
    let typo = || "\n[[rules]]".parse::<access::Rules>().unwrap_err();
    {
        instances!(text, access::Error, access::Error { .. } => typo(),);
    }
    {
        use http::AccessRulesError as E;
        instances!(text, http::AccessRulesError,
            E::Read { .. } => E::Read { path: file(), why: refused() },
            E::Large { .. } => E::Large { path: file(), bytes: 5 << 20 },
            E::Invalid { .. } => E::Invalid { path: file(), why: typo() },
        );
    }
    policy_errors(text);
    {
        use http::TokensError as E;
        instances!(text, http::TokensError,
            E::File { .. } => E::File { path: path(), why: refused() },
            E::Json { .. } => E::Json { path: path(), why: why() },
            E::Exists(_) => E::Exists("ci".into()),
            E::Unknown(_) => E::Unknown("ci".into()),
            E::Name(_) => E::Name("a b".into()),
            E::TooMany => E::TooMany,
        );
    }
    use http::oidc::Error as E;
    instances!(text, http::oidc::Error,
        E::Invalid(_) => E::Invalid(why()),
        E::UnknownIssuer(_) => E::UnknownIssuer("https://issuer.example".into()),
        E::Keys { .. } => E::Keys { issuer: "https://issuer.example".into(), why: why() },
    );
}

fn remote_errors(text: &mut String) {
    use http::origin::NotLocal as E;
    instances!(text, http::origin::NotLocal,
        E::PublicUrl => E::PublicUrl,
        E::Listener => E::Listener,
        E::Client => E::Client,
        E::Forwarded(_) => E::Forwarded("x-forwarded-for".into()),
        E::Host => E::Host,
    );
}

fn setting_errors(text: &mut String) {
    {
        let no_url = "registry".parse::<http::PublicUrl>().unwrap_err();
        instances!(text, http::NoPublicUrl, http::NoPublicUrl { .. } => no_url,);
    }
    let too_small = memory::Memory::try_from(bytesize::ByteSize::mib(1)).unwrap_err();
    instances!(text, memory::TooSmall, memory::TooSmall { .. } => too_small,);
}
