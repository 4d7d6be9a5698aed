//! Push here, pull there: machines on loopback, each with all but the HTTP around it.

mod work;

use std::time::{Duration, Instant};

use ocipfs_node::{Node, Options};
use ocipfs_oci::Digest;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    content::{Content, Settings, SharePolicy, Shared, Store},
    images::{published::tests::Pusher, repository::Repositories},
    names::{BlobSource, Document, Error, NameKind, Prefetch, Resolver, prefetch, publish::Publisher},
};

/// Longer than something takes on a busy machine.
const SOON: Duration = Duration::from_secs(30);

struct Machine {
    node: Node,
    pusher: Pusher,
    publisher: Publisher,
    resolver: Resolver,
    stop: CancellationToken,
    _dir: tempfile::TempDir,
}

impl Machine {
    async fn start(share: SharePolicy, follow: &[&Machine]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
        let options = Options { listen, ..Options::new(dir.path()) };
        let shared = Shared { store: store.clone(), share };
        let node = Node::start(options, Arc::new(shared)).await.unwrap();
        let settings = Settings { find_timeout: Duration::from_secs(2), ..Settings::default() };
        let content = Content::new(store.clone(), node.clone(), settings).unwrap();
        let repositories = Repositories::open(&store).unwrap();
        let key = node.own_key().clone();
        let publisher = Publisher::new(content.clone(), repositories.clone(), key, share);
        let names = follow.iter().map(|machine| machine.publisher.name()).collect();
        let followed = Followed::open(&node, store.database(), names, Prefetch::Manifests).await.unwrap();
        let resolver = Resolver::new(content, repositories.clone(), followed);
        let stop = CancellationToken::new();
        tokio::spawn(publisher.clone().run(stop.clone()));
        tokio::spawn(prefetch::run(resolver.clone(), Prefetch::Manifests, stop.clone()));
        for machine in follow {
            node.connect(&machine.node.listen_addresses().await[0]).await.unwrap();
        }
        let pusher = Pusher { store, repositories };
        Self { node, pusher, publisher, resolver, stop, _dir: dir }
    }

    async fn end(&self) {
        self.stop.cancel();
        self.node.shutdown().await;
    }

    async fn manifest(&self, name: &str, reference: &str) -> Result<Document, Error> {
        NameKind::parse(name).unwrap().manifest(&self.resolver, &reference.parse().unwrap()).await
    }

    /// Waits until a tag is this manifest here.
    async fn until(&self, name: &str, tag: &str, digest: &Digest) -> Duration {
        let start = Instant::now();
        loop {
            match self.manifest(name, tag).await {
                Ok(found) if found.digest == *digest => return start.elapsed(),
                other => assert!(start.elapsed() < SOON, "{:?}", other.map(|d| d.digest)),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Reads the layer of an image, again where a search of two seconds was too short.
    async fn layer(&self, name: &str, manifest: &[u8]) -> bytes::Bytes {
        let start = Instant::now();
        loop {
            match self.try_layer(name, manifest).await {
                Ok(bytes) => return bytes,
                Err(error) => assert!(start.elapsed() < SOON, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn try_layer(&self, name: &str, manifest: &[u8]) -> Result<bytes::Bytes, Error> {
        let manifest = ocipfs_oci::Manifest::parse(manifest).unwrap();
        let meaning = NameKind::parse(name).unwrap();
        match meaning.locate_blob(&self.resolver, &manifest.layers[0].digest).await? {
            BlobSource::Blob(blob) => Ok(self.resolver.content().read_blob(&blob, 1 << 20).await?),
            BlobSource::Inline(bytes) => Ok(bytes),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_is_pulled_by_followers_even_after_its_publisher_is_gone() {
    let publisher = Machine::start(SharePolicy::All, &[]).await;
    let follower = Machine::start(SharePolicy::All, &[&publisher]).await;
    let one = publisher.pusher.push("team/app", "one", Some("1"));
    follower.until("team/app", "1", &one.digest).await;
    let two = publisher.pusher.push("team/app", "two", Some("1"));
    follower.until("team/app", "1", &two.digest).await;
    // Who began with the one before goes on with it.
    let before = follower.manifest("team/app", &one.digest.to_string()).await.unwrap();
    assert_eq!(follower.layer("team/app", &before.bytes).await, "one");
    let now = follower.manifest("team/app", "1").await.unwrap();
    assert_eq!(follower.layer("team/app", &now.bytes).await, "two");
    assert_eq!(NameKind::parse("team/app").unwrap().tags(&follower.resolver).await.unwrap().len(), 1);
    for (name, tag) in [("team/app", "2"), ("team", "1"), ("other", "1")] {
        let error = follower.manifest(name, tag).await.unwrap_err();
        assert!(error.is_absence(), "{error}");
    }
    publisher.end().await;
    assert_eq!(follower.manifest("team/app", "1").await.unwrap().digest, two.digest);
    assert_eq!(follower.layer("team/app", &now.bytes).await, "two");
    // And it tells others, who never knew the publisher.
    let late = Machine::start(SharePolicy::All, &[]).await;
    late.node.follow_persistently(publisher.publisher.name()).await.unwrap();
    late.resolver.followed().refresh(&late.node).await.unwrap();
    late.node.connect(&follower.node.listen_addresses().await[0]).await.unwrap();
    late.until("team/app", "1", &two.digest).await;
    assert_eq!(late.layer("team/app", &now.bytes).await, "two");
    follower.end().await;
    late.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_followed_name_that_has_a_repository_serves_it() {
    let [first, second] =
        [Machine::start(SharePolicy::All, &[]).await, Machine::start(SharePolicy::All, &[]).await];
    let reader = Machine::start(SharePolicy::All, &[&first, &second]).await;
    let both = [&first, &second]
        .map(|machine| machine.pusher.push("both", &machine.publisher.name().to_string(), Some("1")));
    let alone = second.pusher.push("alone", "alone", Some("1"));
    reader.until("alone", "1", &alone.digest).await;
    reader.until("both", "1", &both[0].digest).await;
    for machine in [first, second, reader] {
        machine.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unshared_push_is_not_published_or_served() {
    let publisher = Machine::start(SharePolicy::Added, &[]).await;
    let follower = Machine::start(SharePolicy::All, &[&publisher]).await;
    publisher.pusher.push("app", "secret", Some("1"));
    let root = loop {
        match publisher.publisher.state().root {
            Some(root) => break root,
            None => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    assert_eq!(publisher.publisher.state().sequence, None);
    assert!(follower.node.followed_record(&publisher.publisher.name()).is_none());
    let error = follower.resolver.content().look(&root.into()).await.unwrap_err();
    assert!(matches!(error, content::Error::Node(_)), "{error}");
    publisher.end().await;
    follower.end().await;
}

/// Figures for a person: `cargo test -- --ignored --nocapture a_push_is_pullable`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures"]
async fn a_push_is_pullable_at_a_follower_after() {
    let publisher = Machine::start(SharePolicy::All, &[]).await;
    let follower = Machine::start(SharePolicy::All, &[&publisher]).await;
    let mut took = Vec::new();
    for n in 0..100 {
        let image = publisher.pusher.push("app", &format!("image {n}"), Some("latest"));
        took.push(follower.until("app", "latest", &image.digest).await);
    }
    took.sort();
    println!("median {:?}, worst {:?}", took[50], took[99]);
}
