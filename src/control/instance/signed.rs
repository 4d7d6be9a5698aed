//! What of pushed and imported repositories is withheld by the signature policies.

use ocipfs_oci::{Digest, Name};

use super::Instance;
use crate::{
    content::Store,
    control::{Failure, failure::content_failure},
    images::signed::SignedRepositories,
    signatures::Verdict,
};

impl Instance {
    /// Returns for each of these manifests why it is served only to those who may sign it; none for those that pass.
    pub(super) async fn withheld(&self, all: Vec<(Name, Digest)>) -> Result<Vec<Option<String>>, Failure> {
        let source = self.resolver().policies().clone();
        if source.current().is_none() {
            return Ok(vec![None; all.len()]);
        }
        let signed = SignedRepositories::new(self.resolver().repositories().clone(), source.clone());
        let judge = move |store: &Store| {
            let why = |(name, digest): &(Name, Digest)| match source.of(name.as_str()) {
                Some(policies) => match signed.verdict(store, &policies, name, (digest, true))? {
                    Verdict::Passed => Ok(None),
                    Verdict::Withheld(why) => Ok(Some(why.to_string())),
                },
                None => Ok(None),
            };
            all.iter().map(why).collect()
        };
        self.content().store().run(judge).await.map_err(|error| content_failure(error.into()))
    }
}
