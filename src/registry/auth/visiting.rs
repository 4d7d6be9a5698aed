//! Visitors of the page: what they may pull, and who sees the data of the node itself.

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
        PageVisitor {
            user: visitor.identity.name().map(String::from),
            may_log_in: is_anonymous && self.has_logins_by_header(),
            sees_node: self.sees_node(visitor, place, request),
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
