//! What of the content a client sees, beside what it may do: by the access rules, and by the signature policies.

use std::sync::Arc;

use super::{
    access::Access,
    credentials::Credentials,
    identity::{Identity, Shown, Visitor},
};
use crate::{access::Action, content::View, gateway::Visibility, http::viewer::Sender};

impl Access {
    /// What a client sees by CIDs and digests. Of the repository that the request names, unsigned content is not hidden here: the
    /// endpoint says why it is not served.
    pub(in crate::registry) fn view(&self, visitor: &Visitor, named: Option<&str>) -> View {
        let sender = Sender { named: named.map(String::from), ..self.sender(visitor) };
        sender.view()
    }

    fn sender(&self, visitor: &Visitor) -> Sender {
        let (token, policies) = (visitor.identity.issued().cloned(), self.policies().current());
        let user = visitor.identity.user();
        let rules = match self.rules() {
            // A token of this node is for its repositories, where not all may pull.
            None if !self.everybody_pulls() && token.is_some() => Some(Arc::default()),
            rules => rules,
        };
        Sender { rules, policies, user, token, named: None }
    }

    /// Whether a client gets unsigned content of a repository. What its token is for does not matter: clients that sign request
    /// tokens that pull.
    pub(in crate::registry) fn signs(&self, visitor: &Visitor, repository: &str) -> bool {
        self.sender(visitor).signs(repository)
    }

    /// Whether a client learns that unsigned content is here: one that may push it, or may sign it. Without users and rules those
    /// push that are on this machine.
    pub(in crate::registry) fn knows_unsigned(
        &self,
        visitor: &Visitor,
        repository: &str,
        is_local: impl FnOnce() -> bool,
    ) -> bool {
        let needs_place = !self.has_rules() && visitor.identity == Identity::Anonymous;
        let pushes = self.may(visitor, Action::Push, repository) && (!needs_place || is_local());
        pushes || self.signs(visitor, repository)
    }

    /// Whether a client might be another one after a login: it shows none, or a wrong one.
    pub(in crate::registry) fn may_log_in(&self, visitor: &Visitor, shown: Credentials<'_>) -> bool {
        let shows_none = shown.authorization().is_none() && visitor.identity == Identity::Anonymous;
        (shows_none || visitor.shown == Shown::Wrong) && self.has_logins_by_header()
    }

    /// Which caches may keep what is pulled.
    pub(in crate::registry) fn visibility(&self) -> Visibility {
        match self.everybody_pulls() && !self.has_rules() && !self.policies().is_set() {
            true => Visibility::Public,
            false => Visibility::Private,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_users_a_client_elsewhere_does_not_learn_what_is_unsigned() {
        let open = Access::default();
        assert!(!open.knows_unsigned(&Visitor::default(), "team/app", || false));
        assert!(open.knows_unsigned(&Visitor::default(), "team/app", || true));
    }
}
