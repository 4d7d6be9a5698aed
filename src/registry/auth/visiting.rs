//! Visitors of the page: what they may pull, and who sees the data of the node itself.

use std::sync::Arc;

use axum::http::request::Parts;

use super::{
    Access, Credentials,
    identity::{Identity, Visitor},
};
use crate::{
    access::Action,
    http::{origin::RegistryPlace, page_visitor::PageVisitor},
    registry::error::ApiError,
};

impl Access {
    /// Returns the sender of a request for the page, whose credentials are looked at also where everybody may pull: users see
    /// more.
    pub(in crate::registry) async fn admit_to_page(&self, request: &Parts) -> Result<Visitor, ApiError> {
        match self.rules() {
            Some(_) => self.admit(request).await,
            None => self.logins().visitor(Credentials::of(request), &[]).await,
        }
    }

    /// Returns what the page shows to the sender of a request.
    pub(in crate::registry) fn page_visitor(
        &self,
        visitor: &Visitor,
        place: &RegistryPlace,
        request: &Parts,
    ) -> PageVisitor {
        let is_anonymous = visitor.identity == Identity::Anonymous;
        let (access, puller) = (self.clone(), visitor.clone());
        let (signing, signer) = (self.clone(), visitor.clone());
        PageVisitor {
            user: visitor.identity.name().map(String::from),
            may_log_in: is_anonymous && self.has_logins_by_header(),
            sees_node: self.sees_node(visitor, place, request),
            signs: Arc::new(move |name| signing.signs(&signer, name)),
            ..PageVisitor::new(move |name| access.may(&puller, Action::Pull, name))
        }
    }

    /// Rules have to allow everything; without rules, those who may push see the node: users, or where there are none, programs
    /// on this machine.
    fn sees_node(&self, visitor: &Visitor, place: &RegistryPlace, request: &Parts) -> bool {
        if let Some(rules) = self.rules() {
            return rules.allows_everywhere(&visitor.identity.user(), Action::Admin);
        }
        match &visitor.identity {
            Identity::Anonymous => !self.has_users() && place.local(request).is_ok(),
            Identity::Issued(_) => false,
            Identity::User(_) | Identity::Oidc(_) | Identity::Certificate(_) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;
    use crate::{
        http::{AccessRules, origin::ClientAddress},
        registry::Pull,
    };

    fn request(client: &str) -> Parts {
        let request = Request::get("/page/data/session.json").header("host", "localhost:5050").body(());
        let mut parts = request.unwrap().into_parts().0;
        parts.extensions.insert(ClientAddress(client.parse().unwrap()));
        parts
    }

    /// What a client without a login is shown: whether it may pull `a`, sees the node, and is told of a login.
    async fn shown(access: &Access, listener: &str, client: &str) -> [bool; 3] {
        let (place, request) = (RegistryPlace::new(listener.parse().unwrap(), None), request(client));
        let visitor = access.admit_to_page(&request).await.unwrap();
        let visitor = access.page_visitor(&visitor, &place, &request);
        [visitor.may_pull("a"), visitor.sees_node, visitor.may_log_in]
    }

    #[tokio::test]
    async fn without_users_only_clients_on_this_machine_see_the_node() {
        let access = Access::new(None, Pull::Everybody, None);
        for (listener, client, sees_node) in [
            ("127.0.0.1:5050", "127.0.0.1:9", true),
            ("127.0.0.1:5050", "192.0.2.1:9", false),
            ("0.0.0.0:5050", "127.0.0.1:9", false),
        ] {
            assert_eq!(
                shown(&access, listener, client).await,
                [true, sees_node, false],
                "{listener} {client}"
            );
        }
    }

    #[tokio::test]
    async fn with_users_or_rules_a_client_without_a_login_sees_no_data_of_the_node() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("me:{}\n", bcrypt::hash("x", 4).unwrap())).unwrap();
        let users = crate::http::Users::read(file.path()).unwrap();
        let near = ("127.0.0.1:5050", "127.0.0.1:9");
        let open = Access::new(Some(users.clone()), Pull::Everybody, None);
        assert_eq!(shown(&open, near.0, near.1).await, [true, false, true]);
        let closed = Access::new(Some(users.clone()), Pull::Users, None);
        assert_eq!(shown(&closed, near.0, near.1).await, [false, false, true]);
        let rules = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(
            rules.path(),
            "[[rule]]\nusers = ['anonymous']\nrepositories = ['a']\nactions = ['pull', 'push']\n",
        )
        .unwrap();
        let rules = AccessRules::read(rules.path(), None).unwrap();
        let ruled = open.with_rules(Some(rules));
        assert_eq!(shown(&ruled, near.0, near.1).await, [true, false, true]);
    }
}
