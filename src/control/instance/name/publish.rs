//! Publication: of repositories in the background, of values on command.

use std::time::Duration;

use crate::{
    control::{Failure, Instance, Publication, Published, Reply, message::ConflictingWriter},
    names::ipns,
};

impl Instance {
    /// Returns the state of publication.
    pub(in crate::control::instance) async fn publication(&self) -> Result<Publication, Failure> {
        let publisher = self.publisher();
        let behind = publisher.behind().await.map_err(Failure::new)?;
        let state = publisher.state();
        let node = self.content().node();
        let writers = node.conflicting_writers().into_iter();
        // The node may have signed it again since: the state tells the first record of a root.
        let signed = state.sequence.and_then(|_| node.published(&publisher.name()));
        Ok(Publication {
            share: publisher.share().to_string(),
            name: publisher.name().to_string(),
            root: state.root.map(|root| root.to_string()),
            sequence: signed.map(|own| own.sequence).or(state.sequence),
            behind,
            failing: state.failing,
            conflicting_writers: writers
                .map(|(name, sequence)| ConflictingWriter { name: name.to_string(), sequence })
                .collect(),
        })
    }

    pub(super) async fn name_publish(
        &self,
        key_name: &str,
        target: &str,
        ttl: Duration,
    ) -> Result<Reply, Failure> {
        let node = self.content().node();
        let path: ipns::Path = target.parse().map_err(|error: ipns::Error| {
            Failure::new(error)
                .hint("give the target of the name: /ipfs/<cid>[/path], a CID, or /ipns/<name>[/path]")
        })?;
        let (key, name) = node.name_key(key_name).await.map_err(Failure::new)?;
        self.publisher().check_manual(&name).map_err(|error| {
            Failure::new(error).hint("publish under another key: `ocipfs name key new` creates one")
        })?;
        let published = node.publish(&key, &path.to_string(), ttl).await.map_err(Failure::new)?;
        let ocipfs_node::Published { value, sequence } = published;
        Ok(Reply::Published(Published { name: name.to_string(), value, sequence }))
    }
}
