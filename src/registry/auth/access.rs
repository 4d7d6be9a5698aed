//! Access control. Access rules decide where there are some. Otherwise users decide; without users, clients on this machine
//! may push and delete, and all may pull.

use std::sync::Arc;

use axum::http::{Method, request::Parts};

use super::{
    challenge,
    credentials::Credentials,
    identity::{Identity, Shown, Visitor},
    limits::RateLimits,
    logins::Logins,
    pull::Pull,
};
use crate::{
    access::{Action, Rules},
    http::{
        AccessRules, IssuedTokens, PolicyFile, PublicUrl, Users, htpasswd::LoginError, origin::RegistryPlace,
        reloaded::Reload,
    },
    registry::{denial::Denial, endpoint::Endpoint, error::ApiError},
    signatures::PolicySource,
};

/// Rules for pushes, deletions and pulls.
#[derive(Clone, Default)]
pub struct Access {
    logins: Logins,
    pull: Pull,
    public_url: Option<PublicUrl>,
    rules: Option<AccessRules>,
    policies: PolicySource,
    policy_file: Option<PolicyFile>,
    limits: Arc<RateLimits>,
}

/// What is to be done about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Allowed,
    /// A login would help.
    Unauthorized,
    /// The token is for something else than its user may do.
    Scope,
    Denied,
}

impl Access {
    /// Access for these users. Without users a program on this machine may push, unless clients come through `public_url`.
    pub fn new(users: Option<Users>, pull: Pull, public_url: Option<PublicUrl>) -> Self {
        Self { logins: Logins { users, ..Logins::default() }, pull, public_url, ..Self::default() }
    }

    /// The same, where the certificate of a client makes it a user.
    pub fn with_certificates(self) -> Self {
        Self { logins: Logins { certificates: true, ..self.logins }, ..self }
    }

    /// Has rules decide.
    pub fn with_rules(self, rules: Option<AccessRules>) -> Self {
        Self { rules, ..self }
    }

    /// Knows what has to be signed: then it matters who reads.
    pub fn with_policies(self, file: Option<&PolicyFile>) -> Self {
        let policies = file.map(PolicyFile::source).unwrap_or_default();
        Self { policies, policy_file: file.cloned(), ..self }
    }

    pub(super) fn policies(&self) -> &PolicySource {
        &self.policies
    }

    /// Whether every client may pull, where there are no rules.
    pub(super) fn everybody_pulls(&self) -> bool {
        self.pull == Pull::Everybody
    }

    /// Accepts tokens of this node, too.
    pub fn with_tokens(self, issued: IssuedTokens) -> Self {
        Self { logins: Logins { issued: Some(issued), ..self.logins }, ..self }
    }

    /// Where clients reach the registry, if a proxy stands before it.
    pub fn public_url(&self) -> Option<&PublicUrl> {
        self.public_url.as_ref()
    }

    pub(super) fn logins(&self) -> &Logins {
        &self.logins
    }

    /// The rules as they are now, if there are some.
    pub(in crate::registry) fn rules(&self) -> Option<Arc<Rules>> {
        self.rules.as_ref().map(AccessRules::current)
    }

    /// Returns the file of rules, if there is one.
    pub fn access_rules(&self) -> Option<&AccessRules> {
        self.rules.as_ref()
    }

    /// Whether rules decide.
    pub fn has_rules(&self) -> bool {
        self.rules.is_some()
    }

    /// Returns the files that are read again on SIGHUP.
    pub(crate) fn files(&self) -> Vec<Box<dyn Reload>> {
        let users = self.logins.users.iter().map(Users::file);
        let rules = self.rules.iter().map(AccessRules::file);
        users.chain(rules).chain(self.policy_file.iter().map(PolicyFile::file)).collect()
    }

    /// Whether there are users.
    pub fn has_users(&self) -> bool {
        self.logins.has_users()
    }

    /// Whether clients can log in.
    pub(super) fn has_logins(&self) -> bool {
        self.rules().map_or_else(|| self.logins.exist(&[]), |rules| self.logins.exist(&rules.oidc))
    }

    /// Whether a request can show a login in its header.
    pub(super) fn has_logins_by_header(&self) -> bool {
        let exist = |issuers: &[_]| self.logins.exist_by_header(issuers);
        self.rules().map_or_else(|| exist(&[]), |rules| exist(&rules.oidc))
    }

    pub(super) async fn login(&self, user: &str, password: &str) -> Result<Identity, LoginError> {
        match self.rules() {
            Some(rules) => self.logins.login(user, password, &rules.oidc).await,
            None => self.logins.login(user, password, &[]).await,
        }
    }

    /// Returns the user of a client's certificate, or that a request shows a password or a token of, whether or not the password
    /// is right.
    pub(in crate::registry) fn claimed_user(&self, shown: Credentials<'_>) -> Option<String> {
        self.has_logins().then(|| self.logins.claimed_user(shown)).flatten()
    }

    /// Returns the user whose password or token a request shows, whatever certificate its connection has.
    pub(in crate::registry) fn claimed_by_header(&self, shown: Credentials<'_>) -> Option<String> {
        self.has_logins().then(|| self.logins.claimed_by_header(shown)).flatten()
    }

    /// Counts a request from its address.
    pub(in crate::registry) fn limit_address(&self, request: &Parts) -> Result<(), ApiError> {
        let Some(rules) = self.rules() else { return Ok(()) };
        self.limits.take_address(request, self.public_url.is_some(), rules.per_address)
    }

    /// Returns who sends a request, within the rate limits. Where it makes no difference, nothing is looked at.
    pub(in crate::registry) async fn admit(&self, request: &Parts) -> Result<Visitor, ApiError> {
        let shown = Credentials::of(request);
        let Some(rules) = self.rules() else {
            let is_open = self.everybody_pulls() && !self.policies.is_set();
            return match is_read(&request.method) && is_open {
                true => Ok(Visitor::default()),
                false => self.logins.visitor(shown, &[]).await,
            };
        };
        self.limits.take_address(request, self.public_url.is_some(), rules.per_address)?;
        let visitor = self.logins.visitor(shown, &rules.oidc).await?;
        if visitor.shown == Shown::Wrong {
            return Err(self.unauthorized(shown, None));
        }
        self.limit_user(&visitor.identity)?;
        Ok(visitor)
    }

    /// Counts a request of a user that has logged in.
    pub(super) fn limit_user(&self, identity: &Identity) -> Result<(), ApiError> {
        let (Some(rules), Some(user)) = (self.rules(), identity.name()) else { return Ok(()) };
        self.limits.take_user(user, rules.per_user)
    }

    /// Refuses a request that would change something and may not. Without rules, one that names no repository as well.
    pub(in crate::registry) fn check_write(
        &self,
        visitor: &Visitor,
        place: &RegistryPlace,
        request: &Parts,
        endpoint: Option<&Endpoint<'_>>,
    ) -> Result<(), ApiError> {
        let has_logins = self.has_logins();
        if self.rules.is_none() && visitor.identity == Identity::Anonymous {
            let is_local = (!self.has_users()).then(|| place.local(request));
            return match is_local {
                Some(Ok(())) => Ok(()),
                Some(Err(why)) if !has_logins => Err(ApiError::needs_users(&why)),
                _ => {
                    let scope = endpoint.and_then(|endpoint| endpoint.scope("pull,push"));
                    Err(self.unauthorized(Credentials::of(request), scope.as_deref()))
                }
            };
        }
        let Some(endpoint) = endpoint else { return Ok(()) };
        let Some(name) = endpoint.name() else { return Ok(()) };
        let is_deletion = request.method == Method::DELETE && !matches!(endpoint, Endpoint::Upload { .. });
        let (action, scope) =
            if is_deletion { (Action::Delete, "delete") } else { (Action::Push, "pull,push") };
        // Clients that sign upload what a signature is made of; `manifests::put` looks at the manifest.
        if action == Action::Push && self.verdict(visitor, Action::Sign, name) == Verdict::Allowed {
            return Ok(());
        }
        self.check(visitor, Credentials::of(request), (action, name), endpoint.scope(scope))
    }

    /// Refuses to read what may not be read.
    pub(in crate::registry) fn check_read(
        &self,
        visitor: &Visitor,
        shown: Credentials<'_>,
        endpoint: &Endpoint<'_>,
    ) -> Result<(), ApiError> {
        match (endpoint.name(), endpoint) {
            // What a client may see of the catalog is looked at entry by entry.
            (None, _) if self.rules.is_some() => Ok(()),
            (None, _) => self.check_pull(visitor, shown, ""),
            (Some(name), Endpoint::Upload { .. }) if self.rules.is_some() => {
                match self.may(visitor, Action::Sign, name) {
                    true => Ok(()),
                    false => self.check(visitor, shown, (Action::Push, name), endpoint.scope("pull,push")),
                }
            }
            (Some(name), _) => self.check(visitor, shown, (Action::Pull, name), endpoint.scope("pull")),
        }
    }

    /// Refuses a pull of what is below a name, such as `ipfs/<cid>`.
    pub(in crate::registry) fn check_pull(
        &self,
        visitor: &Visitor,
        shown: Credentials<'_>,
        name: &str,
    ) -> Result<(), ApiError> {
        let scope = name.is_empty().then(|| "registry:catalog:*".into());
        self.check(visitor, shown, (Action::Pull, name), scope)
    }

    fn check(
        &self,
        visitor: &Visitor,
        shown: Credentials<'_>,
        (action, name): (Action, &str),
        scope: Option<String>,
    ) -> Result<(), ApiError> {
        match self.verdict(visitor, action, name) {
            Verdict::Allowed => Ok(()),
            Verdict::Unauthorized => Err(self.unauthorized(shown, scope.as_deref())),
            Verdict::Scope => {
                let message = format!("the token is not for {action} of {name}: request one with this scope");
                let refusal = self.unauthorized(shown, scope.as_deref()).with_message(message);
                Err(refusal.with_denial(Denial::Scope))
            }
            Verdict::Denied => {
                let user = visitor.identity.name();
                let message = format!(
                    "{} may not {action} {name}: no rule or token allows it",
                    user.unwrap_or("anonymous")
                );
                Err(ApiError::denied(message).with_denial(Denial::rules(user, action, name)))
            }
        }
    }

    /// Whether a client may do something.
    pub(in crate::registry) fn may(&self, visitor: &Visitor, action: Action, name: &str) -> bool {
        self.verdict(visitor, action, name) == Verdict::Allowed
    }

    fn verdict(&self, visitor: &Visitor, action: Action, name: &str) -> Verdict {
        let Some(rules) = self.rules() else { return self.verdict_of_users(visitor, action, name) };
        if rules.allows(&Default::default(), action, name) {
            return Verdict::Allowed;
        }
        let is_allowed = match &visitor.identity {
            Identity::Anonymous => return Verdict::Unauthorized,
            Identity::Issued(token) => token.allows(action, name),
            Identity::User(_) | Identity::Certificate(_) | Identity::Oidc(_) => {
                rules.allows(&visitor.identity.user(), action, name)
            }
        };
        match (is_allowed, visitor.scopes.allows(action, name)) {
            (false, _) => Verdict::Denied,
            (true, false) => Verdict::Scope,
            (true, true) => Verdict::Allowed,
        }
    }

    /// Without rules a user may do everything, and a token of this node what it is for.
    fn verdict_of_users(&self, visitor: &Visitor, action: Action, name: &str) -> Verdict {
        match &visitor.identity {
            _ if action == Action::Pull && self.pull == Pull::Everybody => Verdict::Allowed,
            Identity::User(_) | Identity::Certificate(_) | Identity::Oidc(_) => Verdict::Allowed,
            Identity::Issued(token) if name.is_empty() || token.allows(action, name) => Verdict::Allowed,
            Identity::Issued(_) => Verdict::Denied,
            // `check_write` has let clients on this machine pass.
            Identity::Anonymous if action != Action::Pull && !self.has_users() => Verdict::Allowed,
            Identity::Anonymous => Verdict::Unauthorized,
        }
    }

    /// Refuses a client that sends neither a password nor a token, where there are users: so it learns that it can log in.
    pub(in crate::registry) async fn greet(&self, request: &Parts) -> Result<(), ApiError> {
        if !self.has_logins_by_header() {
            return Ok(());
        }
        self.limit_address(request)?;
        let shown = Credentials::of(request);
        let issuers = self.rules().map(|rules| rules.oidc.clone()).unwrap_or_default();
        match self.logins.visitor(shown, &issuers).await?.shown {
            Shown::Valid => Ok(()),
            Shown::Nothing | Shown::Wrong => Err(self.unauthorized(shown, None)),
        }
    }

    /// The refusal of a client that may log in and ask again.
    pub(in crate::registry) fn unauthorized(&self, shown: Credentials<'_>, scope: Option<&str>) -> ApiError {
        if !self.has_logins_by_header() {
            return ApiError::needs_certificate();
        }
        ApiError::unauthorized(challenge::bearer(self.public_url(), shown, scope))
    }
}

/// Whether a method only reads.
pub fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

#[cfg(test)]
mod tests;
