//! Who sends a request: by a password, a token of this node, one of another issuer, or one of the token endpoint.

use std::time::Instant;

use super::{
    credentials::Credentials,
    identity::{Identity, Visitor},
    tokens::{ANONYMOUS, TokenSession, Tokens},
};
use crate::{
    access::{Oidc, Scopes},
    content::now,
    http::{
        IssuedTokens, Users, basic,
        htpasswd::LoginError,
        issued,
        oidc::{self, OidcVerifier},
    },
    registry::error::ApiError,
};

/// All ways to log in. Clones share them.
#[derive(Clone, Default)]
pub struct Logins {
    pub users: Option<Users>,
    /// Whether the certificate of a client makes it a user.
    pub certificates: bool,
    pub issued: Option<IssuedTokens>,
    pub sessions: Tokens,
    pub oidc: OidcVerifier,
}

impl Logins {
    /// Whether there are users.
    pub fn has_users(&self) -> bool {
        self.users.is_some() || self.certificates
    }

    /// Whether there is any way to log in.
    pub fn exist(&self, issuers: &[Oidc]) -> bool {
        self.certificates || self.exist_by_header(issuers)
    }

    /// Whether a request can show a login in its header.
    pub fn exist_by_header(&self, issuers: &[Oidc]) -> bool {
        let has_issued = self.issued.as_ref().is_some_and(|issued| !issued.is_empty());
        self.users.is_some() || has_issued || !issuers.is_empty()
    }

    /// Returns the sender of a request.
    pub async fn visitor(&self, shown: Credentials<'_>, issuers: &[Oidc]) -> Result<Visitor, ApiError> {
        if let Some(user) = shown.certificate_user() {
            return Ok(Visitor::valid(Identity::Certificate(user.into()), Scopes::default()));
        }
        let Some(shown) = shown.authorization() else { return Ok(Visitor::default()) };
        if let Some((user, password)) = basic::credentials(shown) {
            return match self.login(&user, &password, issuers).await {
                Ok(identity) => Ok(Visitor::valid(identity, Scopes::default())),
                Err(LoginError::Wrong) => Ok(Visitor::wrong()),
                Err(error @ (LoginError::Busy | LoginError::TooLong(_))) => Err(error.into()),
            };
        }
        let Some((scheme, token)) = shown.split_once(' ') else { return Ok(Visitor::wrong()) };
        match scheme.eq_ignore_ascii_case("bearer") {
            true => Ok(self.bearer(token.trim(), issuers).await),
            false => Ok(Visitor::wrong()),
        }
    }

    /// Returns whom a name and a password stand for. A token in place of a password needs no name.
    pub async fn login(&self, user: &str, password: &str, issuers: &[Oidc]) -> Result<Identity, LoginError> {
        if let Some(identity) = self.token(password, issuers).await {
            return identity.ok_or(LoginError::Wrong);
        }
        let users = self.users.as_ref().ok_or(LoginError::Wrong)?;
        users.refresh().await;
        users.login(user, password).await.map(Identity::User)
    }

    /// Returns whom a token of this node or of another issuer stands for; none of a text that is neither.
    async fn token(&self, text: &str, issuers: &[Oidc]) -> Option<Option<Identity>> {
        if text.starts_with(issued::PREFIX) {
            let found = self.issued.as_ref().and_then(|issued| issued.find(text, now()));
            return Some(found.map(Identity::Issued));
        }
        if issuers.is_empty() || !oidc::is_token(text) {
            return None;
        }
        Some(match self.oidc.login(issuers, text, now()).await {
            Ok(login) => Some(Identity::Oidc(login)),
            Err(error) => {
                tracing::warn!("login failed: {error}");
                None
            }
        })
    }

    async fn bearer(&self, token: &str, issuers: &[Oidc]) -> Visitor {
        if token == ANONYMOUS {
            return Visitor::valid(Identity::Anonymous, Scopes::default());
        }
        if let Some(identity) = self.token(token, issuers).await {
            let valid = |identity| Visitor::valid(identity, Scopes::default());
            return identity.map_or_else(Visitor::wrong, valid);
        }
        if let Some(users) = &self.users {
            users.refresh().await;
        }
        let session = self.sessions.find(token, Instant::now());
        match session.filter(|session| self.still_has(&session.identity)) {
            Some(TokenSession { identity, scopes }) => Visitor::valid(identity, scopes),
            None => Visitor::wrong(),
        }
    }

    /// Whether an identity from before is one still.
    fn still_has(&self, identity: &Identity) -> bool {
        match identity {
            // A certificate is shown by the connection: no token of the token endpoint stands for it.
            Identity::Anonymous | Identity::Certificate(_) => true,
            Identity::User(login) => self.users.as_ref().is_some_and(|users| users.still_has(login)),
            Identity::Issued(token) => {
                self.issued.as_ref().is_some_and(|issued| issued.still_has(token, now()))
            }
            Identity::Oidc(login) => now() < login.expires,
        }
    }

    /// Returns the user of a client's certificate, or that a request shows a password or a token of, whether or not it is right.
    pub fn claimed_user(&self, shown: Credentials<'_>) -> Option<String> {
        shown.certificate_user().map(str::to_owned).or_else(|| self.claimed_by_header(shown))
    }

    /// The same without the certificate: the token endpoint looks at the header only.
    pub fn claimed_by_header(&self, shown: Credentials<'_>) -> Option<String> {
        let shown = shown.authorization()?;
        let named = |secret: &str| Some(self.issued.as_ref()?.find(secret, now())?.name.clone());
        if let Some((user, password)) = basic::credentials(shown) {
            return Some(named(&password).unwrap_or(user));
        }
        let token = shown.split_once(' ')?.1.trim();
        let of_session = || {
            let session = self.sessions.find(token, Instant::now())?;
            session.identity.name().map(String::from)
        };
        named(token).or_else(of_session)
    }
}

impl From<LoginError> for ApiError {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::Wrong => Self::unauthorized(None),
            LoginError::TooLong(_) => Self::unauthorized(None).with_message(error),
            LoginError::Busy => Self::busy(error),
        }
    }
}
