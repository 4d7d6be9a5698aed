//! What peers get of repositories, by the access rules and the signature policies: the duty that is handed down to the store.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::Instance;
use crate::{
    content::{Readers, Store},
    http::{AccessRules, PolicyFile},
    images::{repository::Repositories, signed::SignedRepositories},
    names::publish::Publisher,
    signatures::PolicySource,
};

/// What says who may read what.
#[derive(Clone, Default)]
pub struct Readable {
    /// The access rules.
    pub rules: Option<AccessRules>,
    /// The signature policies.
    pub policies: Option<PolicyFile>,
}

impl Readable {
    pub(super) fn is_set(&self) -> bool {
        self.rules.is_some() || self.policies.is_some()
    }

    pub(super) fn policies(&self) -> PolicySource {
        self.policies.as_ref().map(PolicyFile::source).unwrap_or_default()
    }
}

/// Between two looks at the files.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// Readers under the rules as they are now.
struct RuledReaders {
    rules: AccessRules,
    peers_see_all: bool,
}

impl Readers for RuledReaders {
    fn all_see(&self, repository: &str) -> bool {
        self.rules.current().everybody_pulls(repository)
    }

    fn hides_nothing(&self) -> bool {
        self.rules.current().hides_nothing()
    }

    fn peers_see_all(&self) -> bool {
        self.peers_see_all
    }
}

/// Has a store ask the rules and the policies, before anything of it is served or announced.
pub fn install(store: &Store, repositories: &Repositories, readable: &Readable, peers_see_all: bool) {
    if let Some(rules) = &readable.rules {
        store.set_readers(Arc::new(RuledReaders { rules: rules.clone(), peers_see_all }));
    }
    if let Some(policies) = &readable.policies {
        let check = SignedRepositories::new(repositories.clone(), policies.source());
        store.set_signature_check(Arc::new(check));
    }
}

/// Looks at the files, and publishes by rules that changed, until `stop`.
pub async fn watch(readable: Readable, publisher: Publisher, stop: CancellationToken) {
    let Readable { rules, policies } = readable;
    let mut changed = rules.as_ref().map(AccessRules::changed);
    let work = async {
        loop {
            tokio::time::sleep(REFRESH_INTERVAL).await;
            if let Some(policies) = &policies {
                policies.refresh().await;
            }
            let (Some(rules), Some(changed)) = (&rules, &mut changed) else { continue };
            rules.refresh().await;
            if changed.has_changed().unwrap_or(false) {
                changed.mark_unchanged();
                publisher.review().await;
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
    }
}

impl Instance {
    /// Returns the access rules, if there are some.
    pub fn access_rules(&self) -> Option<&AccessRules> {
        self.0.readable.rules.as_ref()
    }
}
