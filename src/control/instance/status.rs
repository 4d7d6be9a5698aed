use super::Instance;
use crate::control::{Failure, Reply, Status, failure::content_failure};

impl Instance {
    pub(super) async fn status(&self) -> Result<Reply, Failure> {
        let node = self.content().node();
        let announcing = node.announcing();
        let counts = self.content().retained_counts().await.map_err(content_failure)?;
        let traffic = node.traffic();
        let (seeds, clock) = (node.seeds(), node.clock_difference());
        let identity = self.identity().await;
        let (published, followed) = (self.publication().await?, self.followed_names().await?);
        Ok(Reply::Status(Box::new(Status {
            version: env!("CARGO_PKG_VERSION").into(),
            registry: self.0.registry.clone(),
            tls: self.0.tls,
            reachable: !identity.announced.is_empty(),
            reachability: node.reachability(),
            identity,
            network: self.0.network.as_ref().map_or("own", |network| network.word()).into(),
            admission_list: self.list_info(),
            peers: node.peers().len(),
            bootstrap_peers: seeds.configured,
            unreachable_bootstrap_peers: seeds.unreachable,
            remembered_peers: seeds.remembered,
            http_providers: node.http_providers(),
            rejected_handshakes: node.rejected_handshakes(),
            clock_ahead_seconds: clock.is_own().then_some(clock.ahead_seconds),
            peers_with_other_clocks: clock.differing,
            announced: announcing.announced,
            announcing: announcing.pending,
            sent_bytes: traffic.sent_bytes,
            sent_blocks: traffic.sent_blocks,
            received_bytes: traffic.received_bytes,
            received_blocks: traffic.received_blocks,
            announce_lag_seconds: announcing.lag.as_secs(),
            layers: counts.layers as usize,
            images: counts.images as usize,
            cached_layers: counts.pulled as usize,
            withheld: self.withheld_tags().await?,
            room: self.room().await?,
            max_memory: self.content().memory().bytes(),
            published,
            followed,
            seconds: self.0.started.elapsed().as_secs(),
        })))
    }
}
