//! What this visitor is shown, and the login.

use axum::response::Redirect;
use serde::Serialize;

use super::{Answer, Extension, LOGIN, Page, PageVisitor, Refusal, Shown, State, answer};

/// What the page asks first.
#[derive(Debug, Serialize)]
pub struct PageSession {
    user: Option<String>,
    /// Where a login begins, if one may show more.
    login: Option<&'static str>,
    /// The registry's address, where the page came from another one.
    pull_from: Option<String>,
    /// The node, where its data is shown.
    node: Option<NodeInfo>,
}

#[derive(Debug, Serialize)]
struct NodeInfo {
    version: &'static str,
}

impl PageSession {
    /// The session of a visitor of the node with this registry.
    pub fn of(visitor: &PageVisitor, registry: &str) -> Self {
        Self {
            user: visitor.user.clone(),
            login: visitor.may_log_in.then_some(LOGIN),
            pull_from: visitor.is_elsewhere.then(|| registry.into()),
            node: visitor.sees_node.then_some(NodeInfo { version: env!("CARGO_PKG_VERSION") }),
        }
    }
}

pub async fn get((State(page), Extension(visitor)): Shown) -> Answer<PageSession> {
    answer(PageSession::of(&visitor, page.instance()?.registry()))
}

/// Has the browser ask for a name and a password, then leads back.
pub async fn log_in(Extension(visitor): Extension<PageVisitor>) -> Result<Redirect, Refusal> {
    match visitor.may_log_in {
        true => Err(Refusal::login()),
        false => Ok(Redirect::to(Page::PATH)),
    }
}
