//! Requests read for their user: content that only repositories hold from which the user may not pull, or that is not signed as
//! the policies say, is not there for them, by whatever name or CID they ask.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes, HttpBody},
    response::Response,
};
use http_body::{Frame, SizeHint};

use super::issued::IssuedToken;
use crate::{
    access::{Action, Rules, User},
    content::{View, Viewer},
    signatures::Policies,
};

/// The sender of a request, under rules and policies as they were when it came.
#[derive(Clone, Default)]
pub struct Sender {
    /// The access rules; all may pull where there are none.
    pub rules: Option<Arc<Rules>>,
    /// The signature policies.
    pub policies: Option<Arc<Policies>>,
    /// The user.
    pub user: User,
    /// The token of this node.
    pub token: Option<Arc<IssuedToken>>,
    /// The repository that the request names: what of it is served is decided before it is sent.
    pub named: Option<String>,
}

impl Sender {
    /// Whether it gets unsigned content of a repository: users who may sign it, and without rules every user.
    pub fn signs(&self, repository: &str) -> bool {
        let by_rules = match &self.rules {
            Some(rules) => rules.allows(&self.user, Action::Sign, repository),
            None => self.user.name.is_some(),
        };
        by_rules || self.token.as_ref().is_some_and(|token| token.allows(Action::Sign, repository))
    }

    fn sees_everything(&self) -> bool {
        self.rules.as_ref().is_none_or(|rules| rules.allows_everywhere(&self.user, Action::Pull))
    }

    fn signs_everything(&self) -> bool {
        let signs = || match &self.rules {
            Some(rules) => rules.allows_everywhere(&self.user, Action::Sign),
            None => self.user.name.is_some(),
        };
        self.policies.is_none() || signs()
    }

    /// Returns what it sees by CIDs and digests.
    pub fn view(self) -> View {
        match self.sees_everything() && self.signs_everything() {
            true => View::default(),
            false => View::of(Some(Arc::new(self))),
        }
    }
}

impl Viewer for Sender {
    fn sees(&self, repository: &str) -> bool {
        let Some(rules) = &self.rules else { return true };
        rules.allows(&self.user, Action::Pull, repository)
            || self.token.as_ref().is_some_and(|token| token.allows(Action::Pull, repository))
    }

    fn sees_unsigned(&self, repository: &str) -> bool {
        self.policies.as_ref().is_none_or(|policies| !policies.covers(repository))
            || self.named.as_deref() == Some(repository)
            || self.signs(repository)
    }
}

/// Has the body of an answer read for the same viewer: some of it is read when it is sent.
pub fn viewed(view: &View, response: Response) -> Response {
    match view.sees_all() && !view.is_local() {
        true => response,
        false => response.map(|body| Body::new(Viewed { body, view: view.clone() })),
    }
}

struct Viewed {
    body: Body,
    view: View,
}

impl HttpBody for Viewed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let view = self.view.clone();
        view.enter(|| Pin::new(&mut self.body).poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
