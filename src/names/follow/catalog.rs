//! The repositories of followed names, as a list.

use std::collections::BTreeSet;

use ocipfs_oci::Name;

use super::{Prefetch, followed::Followed, prefetch};
use crate::{content, names::Resolver};

impl Followed {
    /// Returns the repositories of all followed names after `last`, sorted, at most `most`. Where nothing is fetched
    /// beforehand, the newest root is read first.
    pub async fn repositories(
        &self,
        resolver: &Resolver,
        last: &str,
        most: usize,
    ) -> Result<BTreeSet<Name>, content::Error> {
        let mut all = BTreeSet::new();
        for name in self.names() {
            if self.policy() == Prefetch::None && !self.failed_lately(&name) {
                prefetch::read_indexes(resolver, &name).await;
            }
            let page = self.page(resolver.content(), &name, last, most).await?;
            all.extend(page.into_iter().map(|(repository, _)| repository));
        }
        Ok(all.into_iter().take(most).collect())
    }
}
