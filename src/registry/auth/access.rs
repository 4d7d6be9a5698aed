//! Access control: with users, they decide; without, clients on this machine may push and delete, and all may
//! pull.

use std::{str::FromStr, time::Instant};

use axum::http::{Method, request::Parts};
use serde::Deserialize;

use super::{
    challenge,
    credentials::Credentials,
    tokens::{Holder, Tokens},
};
use crate::{
    gateway::Visibility,
    http::{PublicUrl, Users, basic, htpasswd::LoginError, origin::RegistryPlace, reloaded::Reload},
    registry::{endpoint::Endpoint, error::ApiError},
};

/// Clients that may pull.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Pull {
    /// Every client that reaches the registry.
    #[default]
    Everybody,
    /// Users only.
    Users,
}

impl FromStr for Pull {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "everybody" => Ok(Self::Everybody),
            "users" => Ok(Self::Users),
            _ => Err(format!("invalid value {text:?}: expected `everybody` or `users`")),
        }
    }
}

impl TryFrom<String> for Pull {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// Rules for pushes, deletions and pulls.
#[derive(Clone, Default)]
pub struct Access {
    users: Option<(Users, Tokens)>,
    /// Whether the certificate of a client makes it a user.
    certificates: bool,
    pull: Pull,
    public_url: Option<PublicUrl>,
}

impl Access {
    /// Access for these users. Without users a program on this machine may push, unless clients come through `public_url`.
    pub fn new(users: Option<Users>, pull: Pull, public_url: Option<PublicUrl>) -> Self {
        let users = users.map(|users| (users, Tokens::default()));
        Self { users, certificates: false, pull, public_url }
    }

    /// The same, where the certificate of a client makes it a user.
    pub fn with_certificates(self) -> Self {
        Self { certificates: true, ..self }
    }

    /// Where clients reach the registry, if a proxy stands before it.
    pub fn public_url(&self) -> Option<&PublicUrl> {
        self.public_url.as_ref()
    }

    /// The users and their tokens, if there are users.
    pub(in crate::registry) fn users(&self) -> Option<&(Users, Tokens)> {
        self.users.as_ref()
    }

    /// Returns the files that are read again on SIGHUP.
    pub(crate) fn files(&self) -> Vec<Box<dyn Reload>> {
        self.users.iter().map(|(users, _)| users.file()).collect()
    }

    /// Whether there are users.
    pub fn has_users(&self) -> bool {
        self.users.is_some() || self.certificates
    }

    /// Returns the user of a client's certificate, or that a request shows a password or a token of, whether or not the password
    /// is right.
    pub(in crate::registry) fn claimed_user(&self, shown: Credentials<'_>) -> Option<String> {
        if let Some(user) = shown.certificate_user() {
            return Some(user.into());
        }
        let (_, tokens) = self.users.as_ref()?;
        let shown = shown.authorization()?;
        if let Some((user, _)) = basic::credentials(shown) {
            return Some(user);
        }
        match tokens.holder(shown.split_once(' ')?.1.trim(), Instant::now())? {
            Holder::User(login) => Some(login.user().into()),
            Holder::Anonymous => None,
        }
    }

    /// Refuses a request that would change something and may not.
    pub(in crate::registry) async fn check_write(
        &self,
        place: &RegistryPlace,
        request: &Parts,
        endpoint: Option<&Endpoint<'_>>,
    ) -> Result<(), ApiError> {
        if !self.has_users() {
            return place.local(request).map_err(|why| ApiError::needs_users(&why));
        }
        let scope = endpoint.and_then(|endpoint| endpoint.scope("pull,push"));
        self.admit_user(Credentials::of(request), scope.as_deref()).await
    }

    /// Refuses a pull without a login where only users pull.
    pub(in crate::registry) async fn check_read(
        &self,
        shown: Credentials<'_>,
        endpoint: &Endpoint<'_>,
    ) -> Result<(), ApiError> {
        match self.pull {
            Pull::Users => self.admit_user(shown, endpoint.scope("pull").as_deref()).await,
            Pull::Everybody => Ok(()),
        }
    }

    /// Refuses a request for content that is of no repository, without a login where only users pull.
    pub(in crate::registry) async fn check_pull(&self, shown: Credentials<'_>) -> Result<(), ApiError> {
        match self.pull {
            Pull::Users => self.admit_user(shown, None).await,
            Pull::Everybody => Ok(()),
        }
    }

    /// Returns the user that a request shows, by a certificate, a password or a token.
    pub(in crate::registry) async fn visiting_user(
        &self,
        request: &Parts,
    ) -> Result<Option<String>, ApiError> {
        let shown = Credentials::of(request);
        if let Some(user) = shown.certificate_user() {
            return Ok(Some(user.into()));
        }
        let Some((users, tokens)) = &self.users else { return Ok(None) };
        Ok(match holder(users, tokens, shown).await? {
            Some(Holder::User(login)) => Some(login.user().into()),
            Some(Holder::Anonymous) | None => None,
        })
    }

    /// Whether clients may pull without a login.
    pub(in crate::registry) fn everybody_pulls(&self) -> bool {
        self.pull == Pull::Everybody || !self.has_users()
    }

    /// Which caches may keep what is pulled.
    pub(in crate::registry) fn visibility(&self) -> Visibility {
        match self.pull {
            Pull::Users => Visibility::Private,
            Pull::Everybody => Visibility::Public,
        }
    }

    /// Refuses a client that sends neither a password nor a token, where there are users: so it learns that it can log in.
    pub(in crate::registry) async fn greet(&self, shown: Credentials<'_>) -> Result<(), ApiError> {
        let Some((users, tokens)) = &self.users else { return Ok(()) };
        if shown.certificate_user().is_some() {
            return Ok(());
        }
        match holder(users, tokens, shown).await? {
            Some(_) => Ok(()),
            None => Err(self.unauthorized(shown, None)),
        }
    }

    /// Requires a certificate, or a user's password or token, where there are users.
    async fn admit_user(&self, shown: Credentials<'_>, scope: Option<&str>) -> Result<(), ApiError> {
        if !self.has_users() || shown.certificate_user().is_some() {
            return Ok(());
        }
        let Some((users, tokens)) = &self.users else { return Err(ApiError::needs_certificate()) };
        match holder(users, tokens, shown).await? {
            Some(Holder::User(_)) => Ok(()),
            Some(Holder::Anonymous) | None => Err(self.unauthorized(shown, scope)),
        }
    }

    fn unauthorized(&self, shown: Credentials<'_>, scope: Option<&str>) -> ApiError {
        ApiError::unauthorized(challenge::bearer(self.public_url(), shown, scope))
    }
}

/// Whether a method only reads.
pub fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// Returns the user or the token that a request sends; none where it sends nothing valid.
async fn holder(users: &Users, tokens: &Tokens, shown: Credentials<'_>) -> Result<Option<Holder>, ApiError> {
    let Some(shown) = shown.authorization() else { return Ok(None) };
    users.refresh().await;
    if let Some((user, password)) = basic::credentials(shown) {
        return match users.login(&user, &password).await {
            Ok(login) => Ok(Some(Holder::User(login))),
            Err(LoginError::Wrong) => Ok(None),
            Err(error @ (LoginError::Busy | LoginError::TooLong(_))) => Err(error.into()),
        };
    }
    let Some((scheme, token)) = shown.split_once(' ') else { return Ok(None) };
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Ok(None);
    }
    let holder = tokens.holder(token.trim(), Instant::now());
    Ok(holder.filter(|holder| match holder {
        Holder::User(login) => users.still_has(login),
        Holder::Anonymous => true,
    }))
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
