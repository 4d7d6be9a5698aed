//! What peers get of repositories, by the access rules: the duty that is handed down to the store.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::Instance;
use crate::{
    content::{Readers, Store},
    http::AccessRules,
    names::publish::Publisher,
};

/// Between two looks at the file of rules.
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

/// Has a store ask the rules, before anything of it is served or announced.
pub fn install(store: &Store, rules: Option<&AccessRules>, peers_see_all: bool) {
    if let Some(rules) = rules {
        store.set_readers(Arc::new(RuledReaders { rules: rules.clone(), peers_see_all }));
    }
}

/// Looks at the file of rules, and publishes by those that changed, until `stop`.
pub async fn watch(rules: AccessRules, publisher: Publisher, stop: CancellationToken) {
    let mut changed = rules.changed();
    let work = async {
        loop {
            tokio::time::sleep(REFRESH_INTERVAL).await;
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
        self.0.access_rules.as_ref()
    }
}
