//! Model test of followed names: a publisher, and followers without a swarm. Records and blocks are carried to each follower in
//! random order, some of them late or not at all; each follower restarts, collects garbage, and has a clock of its own. Once a
//! root was complete at a follower, the newest complete one is served there from then on.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use ocipfs_node::{Block, CarriedRecord, Cid, IpnsName, Keypair, Node};
use ocipfs_oci::{Digest, Manifest};
use proptest::prelude::*;
use tempfile::TempDir;

use super::{Prefetch, Resolver, fetch_newest_root};
use crate::{
    content::{Content, Extent, Profile, Settings, Store},
    images::{
        published::{Published, tests::Pusher},
        repository::Repositories,
    },
    names::{BlobSource, NameKind, followed::Followed},
};

const FOLLOWERS: usize = 3;
const REPOSITORIES: [&str; 3] = ["app", "team/app", "team/tool"];
const TTL: Duration = Duration::from_secs(60);
/// Longer than the tasks of an instance that ended hold its files.
const SOON: Duration = Duration::from_secs(30);

#[derive(Clone, Debug)]
enum Step {
    Push {
        repository: usize,
    },
    /// An earlier root is published again.
    Revert {
        version: usize,
    },
    /// A record arrives, of the newest version or of one of those before. Its validity ends so many hours after the time that
    /// the follower's clock tells, or before it.
    Hear {
        follower: usize,
        before_newest: usize,
        hours: i64,
    },
    /// Blocks of the newest root that was heard of arrive, and the root is fetched.
    Fetch {
        follower: usize,
        arrival: Arrival,
    },
    Collect {
        follower: usize,
    },
    Restart {
        follower: usize,
    },
}

#[derive(Clone, Debug)]
enum Arrival {
    All,
    AllBut(Vec<usize>),
    Nothing,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let arrival = prop_oneof![
        3 => Just(Arrival::All),
        3 => prop::collection::vec(0..1000_usize, 1..4).prop_map(Arrival::AllBut),
        1 => Just(Arrival::Nothing),
    ];
    let follower = 0..FOLLOWERS;
    let step = prop_oneof![
        4 => (0..REPOSITORIES.len()).prop_map(|repository| Step::Push { repository }),
        1 => (0..1000_usize).prop_map(|version| Step::Revert { version }),
        6 => (follower.clone(), 0..3_usize, -60_i64..60).prop_map(|(follower, before_newest, hours)| {
            Step::Hear { follower, before_newest, hours }
        }),
        6 => (follower.clone(), arrival).prop_map(|(follower, arrival)| Step::Fetch { follower, arrival }),
        2 => follower.clone().prop_map(|follower| Step::Collect { follower }),
        1 => follower.prop_map(|follower| Step::Restart { follower }),
    ];
    prop::collection::vec(step, 1..40)
}

/// Returns a directory in memory if possible: of many short histories each commit would wait for a disk.
fn directory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// A root as it was published. Its place in the list of all is the sequence of its records.
#[derive(Clone)]
struct Version {
    root: Cid,
    blocks: Vec<Block>,
    /// The image of each repository.
    images: BTreeMap<&'static str, Digest>,
}

struct Publisher {
    content: Content,
    pusher: Pusher,
    published: Published,
    _dir: TempDir,
}

impl Publisher {
    fn new() -> Self {
        let dir = directory();
        let (store, node) = (Store::open(dir.path()).unwrap(), Node::offline(dir.path()).unwrap());
        let content = Content::new(store.clone(), node, Settings::default()).unwrap();
        let repositories = Repositories::open(&store).unwrap();
        let published = Published::new(store.clone(), repositories.clone(), Profile::UnixfsV1);
        Self { content, pusher: Pusher { store, repositories }, published, _dir: dir }
    }

    /// Pushes an image, and returns its digest and the new root with all blocks below it.
    async fn push(&self, repository: &str, text: &str) -> (Digest, Cid, Vec<Block>) {
        let image = self.pusher.push(repository, text, Some("latest"));
        let mut root = None;
        while let Some(advanced) = self.published.advance().unwrap() {
            root = Some(advanced.version.root.cid);
        }
        let root = root.expect("a push changes the root");
        let (mut blocks, mut dag) = (Vec::new(), self.content.stored_dag(vec![root], Extent::default()));
        while let Some(found) = dag.recv().await {
            blocks.push(found.unwrap().block);
        }
        (image.digest, root, blocks)
    }
}

struct Follower {
    dir: TempDir,
    /// None while it restarts.
    resolver: Option<Resolver>,
    /// The newest version that it heard of.
    heard: Option<usize>,
    /// The newest version that it tried to fetch.
    tried: usize,
    /// The newest version that it fetched in full.
    complete: Option<usize>,
}

async fn open(dir: &Path, name: IpnsName) -> Resolver {
    let begun = Instant::now();
    let (store, node) = loop {
        match (Store::open(dir), Node::offline(dir)) {
            (Ok(store), Ok(node)) => break (store, node),
            // A task of the instance before has its files open.
            (store, node) => {
                assert!(begun.elapsed() < SOON, "{:?}, {:?}", store.err(), node.err());
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let content = Content::new(store.clone(), node.clone(), Settings::default()).unwrap();
    let followed = Followed::open(&node, store.database(), vec![name], Prefetch::All).await.unwrap();
    Resolver::new(content, Repositories::open(&store).unwrap(), followed)
}

impl Follower {
    async fn new(name: IpnsName) -> Self {
        let dir = directory();
        let resolver = Some(open(dir.path(), name).await);
        Self { dir, resolver, heard: None, tried: 0, complete: None }
    }

    fn resolver(&self) -> &Resolver {
        self.resolver.as_ref().expect("it runs")
    }

    fn content(&self) -> &Content {
        self.resolver().content()
    }

    async fn restart(&mut self, name: IpnsName) {
        let before = self.resolver.take().expect("it runs");
        before.content().close().await;
        drop(before);
        self.resolver = Some(open(self.dir.path(), name).await);
    }

    /// Fetches the newest root that it heard of, with those of its blocks that arrive.
    async fn fetch(&mut self, name: &IpnsName, versions: &[Version], arrival: &Arrival) {
        let Some(heard) = self.heard else { return };
        let Version { blocks, .. } = &versions[heard];
        let is_lost = |n: usize| match arrival {
            Arrival::All => false,
            Arrival::AllBut(lost) => lost.iter().any(|lost| lost % blocks.len() == n),
            Arrival::Nothing => true,
        };
        let arrived = blocks.iter().enumerate().filter(|(n, _)| !is_lost(*n));
        let arrived: Vec<Block> = arrived.map(|(_, block)| block.clone()).collect();
        // What arrives belongs to no root before the walk.
        let _guard = self.content().gc_guard().await;
        self.content().put_blocks(arrived).await.unwrap();
        let is_complete = fetch_newest_root(self.resolver(), name, Prefetch::All).await;
        let fetching = self.resolver().followed().fetching(name);
        assert!(
            is_complete || !matches!(arrival, Arrival::All),
            "all blocks are here, and the root is incomplete: {fetching:?}"
        );
        self.tried = heard;
        if is_complete {
            for Block { cid, .. } in blocks {
                assert!(self.content().is_here(cid).await.unwrap(), "{cid} of a complete root is missing");
            }
            self.complete = Some(heard);
        }
    }

    /// Checks the invariants.
    async fn check(&self, name: &IpnsName, versions: &[Version]) {
        let heard = self.content().node().followed_record(name).map(|record| record.sequence);
        assert_eq!(heard, self.heard.map(|version| version as u64), "the newest record is never lost");
        let served = self.resolver().followed().complete_root(self.content(), name).await.unwrap();
        assert_eq!(
            served.map(|served| (served.directory, served.sequence)),
            self.complete.map(|version| (versions[version].root, version as u64)),
            "the newest complete root is served"
        );
        let Some(complete) = self.complete else { return };
        let since = &versions[complete..=self.tried];
        for repository in versions[complete].images.keys() {
            // A later root may lack the repository, where an earlier one was published again.
            let images = since.iter().map(|version| version.images.get(repository));
            let Some(images) = images.collect::<Option<Vec<&Digest>>>() else { continue };
            let pulled = self.pull(repository).await;
            assert!(images.contains(&&pulled), "{repository}: {pulled} is of an earlier root");
        }
    }

    /// Reads an image with its blobs. There are no peers that could send any of it.
    async fn pull(&self, repository: &str) -> Digest {
        let (kind, resolver) = (NameKind::parse(repository).unwrap(), self.resolver());
        let manifest = match kind.manifest(resolver, &"latest".parse().unwrap()).await {
            Ok(manifest) => manifest,
            Err(error) => panic!("{repository} of a complete root is not served: {error}"),
        };
        let Manifest { config, layers, .. } = Manifest::parse(&manifest.bytes).unwrap();
        for blob in [&config].into_iter().chain(&layers) {
            if let BlobSource::Blob(blob) = kind.locate_blob(resolver, &blob.digest).await.unwrap() {
                self.content().read_blob(&blob, 1 << 20).await.unwrap();
            }
        }
        manifest.digest
    }
}

struct World {
    key: Keypair,
    name: IpnsName,
    publisher: Publisher,
    /// What each repository of the publisher has, whatever root is published.
    pushed: BTreeMap<&'static str, Digest>,
    versions: Vec<Version>,
    followers: Vec<Follower>,
}

impl World {
    async fn new() -> Self {
        let key = Keypair::generate_ed25519();
        let (name, publisher) = (IpnsName::of(&key), Publisher::new());
        let mut followers = Vec::new();
        for _ in 0..FOLLOWERS {
            followers.push(Follower::new(name).await);
        }
        let (pushed, versions) = Default::default();
        Self { key, name, publisher, pushed, versions, followers }
    }

    async fn apply(&mut self, step: &Step) {
        let name = self.name;
        let changed = match step {
            Step::Push { repository } => return self.push(REPOSITORIES[*repository]).await,
            Step::Revert { version } => {
                let again = self.versions.get(version % self.versions.len().max(1)).cloned();
                return self.versions.extend(again);
            }
            Step::Hear { follower, before_newest, hours } => {
                self.hear(*follower, *before_newest, *hours).await;
                *follower
            }
            Step::Fetch { follower, arrival } => {
                self.followers[*follower].fetch(&name, &self.versions, arrival).await;
                *follower
            }
            Step::Collect { follower } => {
                self.followers[*follower].content().collect(false).await.unwrap();
                *follower
            }
            Step::Restart { follower } => {
                self.followers[*follower].restart(name).await;
                *follower
            }
        };
        self.followers[changed].check(&name, &self.versions).await;
    }

    async fn push(&mut self, repository: &'static str) {
        let text = format!("image {}", self.versions.len());
        let (image, root, blocks) = self.publisher.push(repository, &text).await;
        self.pushed.insert(repository, image);
        self.versions.push(Version { root, blocks, images: self.pushed.clone() });
    }

    async fn hear(&mut self, follower: usize, before_newest: usize, hours: i64) {
        let Some(version) = self.versions.len().checked_sub(1 + before_newest) else { return };
        let record = self.record(version, hours);
        let follower = &mut self.followers[follower];
        let carried = follower.content().node().carry_record(self.name, record).await.unwrap();
        assert_ne!(carried, CarriedRecord::Invalid);
        follower.heard = follower.heard.max(Some(version));
    }

    /// Signs a record of a version.
    fn record(&self, version: usize, hours: i64) -> Vec<u8> {
        let (now, by) = (SystemTime::now(), Duration::from_secs(hours.unsigned_abs() * 3600));
        let until = chrono::DateTime::<chrono::Utc>::from(if hours < 0 { now - by } else { now + by });
        let value = format!("/ipfs/{}", self.versions[version].root);
        let record = rust_ipns::Record::new(&self.key, value, until, version as u64, TTL);
        record.and_then(|record| record.encode()).unwrap()
    }

    /// Brings everything to everyone: whatever happened before, the newest root is served then.
    async fn deliver_everything(&mut self) {
        for follower in 0..self.followers.len() {
            self.hear(follower, 0, 48).await;
            let follower = &mut self.followers[follower];
            follower.fetch(&self.name, &self.versions, &Arrival::All).await;
            assert_eq!(follower.complete, self.versions.len().checked_sub(1));
            follower.check(&self.name, &self.versions).await;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 12,
        max_shrink_iters: 100,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_complete_root_is_always_served_and_it_is_the_newest_complete_one(steps in steps()) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let mut world = World::new().await;
            for step in &steps {
                world.apply(step).await;
            }
            world.deliver_everything().await;
        });
    }
}
