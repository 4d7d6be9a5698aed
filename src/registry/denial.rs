//! Why the access rules refuse a request of a user, as an extension of the answer: for the log of what clients did.

use crate::{access::Action, http::access_log::shortened};

/// Why a user who has logged in is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// No rule or token allows it.
    Rules { user: Option<String>, wanted: Action, repository: String },
    /// The token is for something else than its user may do: clients request another one then.
    Scope,
}

impl Denial {
    /// No rule allows a user an action. The name of the repository may be of any length.
    pub fn rules(user: Option<&str>, wanted: Action, repository: &str) -> Self {
        Self::Rules { user: user.map(shortened), wanted, repository: shortened(repository) }
    }
}
