//! Requests read for their user: content that only repositories hold from which the user may not pull is not there for them,
//! by whatever name or CID they ask.

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
};

/// A user under the rules as they were when the request came.
struct RulesViewer {
    rules: Arc<Rules>,
    user: User,
    token: Option<Arc<IssuedToken>>,
}

impl Viewer for RulesViewer {
    fn sees(&self, repository: &str) -> bool {
        self.rules.allows(&self.user, Action::Pull, repository)
            || self.token.as_ref().is_some_and(|token| token.allows(Action::Pull, repository))
    }
}

/// Returns what a user sees, or a client with a token of this node.
pub fn view(rules: &Arc<Rules>, user: User, token: Option<Arc<IssuedToken>>) -> View {
    if rules.allows_everywhere(&user, Action::Pull) {
        return View::default();
    }
    View::of(Some(Arc::new(RulesViewer { rules: rules.clone(), user, token })))
}

/// Has the body of an answer read for the same viewer: some of it is read when it is sent.
pub fn viewed(view: &View, response: Response) -> Response {
    match view.sees_all() {
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
