use std::{fmt, sync::Arc};

use super::policy::Policies;

/// Where the policies are, which may be others at each look.
#[derive(Clone, Default)]
pub struct PolicySource(Option<Arc<dyn Fn() -> Arc<Policies> + Send + Sync>>);

impl PolicySource {
    /// One that asks each time.
    pub fn new(current: impl Fn() -> Arc<Policies> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(current)))
    }

    /// The policies as they are now; none where nothing has to be signed.
    pub fn current(&self) -> Option<Arc<Policies>> {
        self.0.as_ref().map(|current| current()).filter(|policies| policies.cover_anything())
    }

    /// The policies as they are now, if content of a repository has to be signed.
    pub fn of(&self, repository: &str) -> Option<Arc<Policies>> {
        self.current().filter(|policies| policies.covers(repository))
    }

    /// Whether there is a file of policies.
    pub fn is_set(&self) -> bool {
        self.0.is_some()
    }
}

impl fmt::Debug for PolicySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PolicySource").field(&self.0.is_some()).finish()
    }
}
