//! Errors of the HTTP listeners: the gateway, users, and where a request comes from.

use super::{at, path, refused, why};
use crate::{
    access,
    content::{self, car::ByteSpan},
    gateway, http, memory, rpc,
};

/// All groups of this file.
pub fn all(text: &mut String) {
    gateway_errors(text);
    user_errors(text);
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
