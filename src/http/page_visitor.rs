//! The visitor of the page in a browser, as the listener knows it that was reached: the listener decides what is shown.

use std::{fmt, sync::Arc};

/// Whether something may be done with a repository.
pub type May = dyn Fn(&str) -> bool + Send + Sync;

/// What one visitor is shown.
#[derive(Clone)]
pub struct PageVisitor {
    /// The user, after a login.
    pub user: Option<String>,
    /// Whether a login may show more.
    pub may_log_in: bool,
    /// Whether the node's own data is shown: peers, transfers, the store, names.
    pub sees_node: bool,
    /// Whether the listener is another one than the registry's, from which nothing can be pulled.
    pub is_elsewhere: bool,
    /// From which repositories the visitor may pull.
    pub pulls: Arc<May>,
    /// Of which repositories the visitor sees images that are not signed as the signature policies say.
    pub signs: Arc<May>,
}

impl PageVisitor {
    /// A visitor without a login who may pull from the repositories that `pulls` says, and sees nothing else.
    pub fn new(pulls: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        let (user, pulls, signs) = (None, Arc::new(pulls), Arc::new(|_: &str| false));
        Self { user, may_log_in: false, sees_node: false, is_elsewhere: false, pulls, signs }
    }

    /// A visitor of the admin address, who is shown everything.
    pub fn operator() -> Self {
        Self { sees_node: true, is_elsewhere: true, signs: Arc::new(|_| true), ..Self::new(|_| true) }
    }

    /// Whether the visitor may pull from a repository.
    pub fn may_pull(&self, repository: &str) -> bool {
        (self.pulls)(repository)
    }

    /// Whether the visitor sees images of a repository that are not signed as the signature policies say.
    pub fn sees_unsigned(&self, repository: &str) -> bool {
        (self.signs)(repository)
    }
}

impl fmt::Debug for PageVisitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, may_log_in, sees_node, .. } = self;
        f.debug_struct("PageVisitor")
            .field("user", user)
            .field("may_log_in", may_log_in)
            .field("sees_node", sees_node)
            .finish_non_exhaustive()
    }
}
