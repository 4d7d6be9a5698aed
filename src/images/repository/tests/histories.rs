//! Random histories of pushes, tags, deletions and sweeps: what stays is what is reached, or young.

use ocipfs_oci::media_type;

use super::*;

const NODES: u8 = 8;
const BLOBS: u8 = 6;
const TAGS: u8 = 4;
const GRACE: u64 = 10;
const KEEP: u64 = 40;

/// A manifest or an index; it references and refers to those before it alone, as digests have it.
#[derive(Clone, Debug)]
struct Node {
    is_index: bool,
    blobs: Vec<u8>,
    children: Vec<u8>,
    subject: Option<u8>,
}

#[derive(Clone, Debug)]
enum Step {
    Blob(u8),
    Head(u8),
    Push(u8, Vec<u8>),
    Untag(u8),
    Delete(u8),
    Image(u8),
    Wait(u64),
    Sweep(bool),
}

fn nodes() -> impl Strategy<Value = Vec<Node>> {
    let node = |n: u8| {
        let earlier = move || vec(0..n.max(1), 0..3);
        (any::<bool>(), vec(0..BLOBS, 0..3), earlier(), prop::option::weighted(0.3, 0..n.max(1))).prop_map(
            move |(is_index, blobs, children, subject)| Node {
                is_index: is_index && n > 0,
                blobs: if is_index { Vec::new() } else { blobs },
                children: if is_index && n > 0 { children } else { Vec::new() },
                subject: subject.filter(|_| n > 0),
            },
        )
    };
    (0..NODES).map(node).collect::<Vec<_>>()
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (0..BLOBS).prop_map(Step::Blob),
        1 => (0..BLOBS).prop_map(Step::Head),
        6 => (0..NODES, vec(0..TAGS, 0..2)).prop_map(|(node, tags)| Step::Push(node, tags)),
        1 => (0..TAGS).prop_map(Step::Untag),
        1 => (0..NODES).prop_map(Step::Delete),
        1 => (0..TAGS).prop_map(Step::Image),
        3 => (0..30u64).prop_map(Step::Wait),
        2 => any::<bool>().prop_map(Step::Sweep),
    ];
    vec(step, 1..30)
}

fn node_blob(n: u8) -> RepositoryBlob {
    blob(100 + n)
}

fn node_tag(n: u8) -> Tag {
    tag(&format!("t{n}"))
}

struct History {
    repositories: Repositories,
    nodes: Vec<Node>,
    now: u64,
    /// When a blob was pushed, or asked for, while no manifest had referenced it.
    waiting: BTreeMap<u8, u64>,
    /// When a manifest lost its last tag.
    lost: BTreeMap<u8, u64>,
    policy: RetentionPolicy,
    _dir: TempDir,
}

/// Content of a repository.
#[derive(Debug)]
struct There {
    nodes: BTreeSet<u8>,
    blobs: BTreeSet<u8>,
    tagged: BTreeSet<u8>,
}

impl History {
    fn new(nodes: Vec<Node>) -> Self {
        // Of many short histories each commit would wait for a disk.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let database = Database::open(&dir.path().join("index.redb")).unwrap();
        let policy = RetentionPolicy {
            upload_grace: std::time::Duration::from_secs(GRACE),
            keep_untagged: std::time::Duration::from_secs(KEEP),
            retention: vec!["a=2,90s".parse().unwrap()],
        };
        let repositories = Repositories::new(Arc::new(database));
        Self {
            repositories,
            nodes,
            now: 1000,
            waiting: BTreeMap::new(),
            lost: BTreeMap::new(),
            policy,
            _dir: dir,
        }
    }

    fn edit<T: Send + 'static>(
        &self,
        with: impl FnMut(&Edit) -> Result<T, StoreError> + Send + 'static,
    ) -> T {
        let now = self.now;
        self.repositories.edit_at(move || now, with).unwrap()
    }

    fn there(&self) -> There {
        let of = name("a");
        let blobs = self.repositories.blobs(&of, "", 99).unwrap();
        let blobs = blobs.iter().map(|found| (0..BLOBS).find(|n| blob(*n) == *found).unwrap());
        let node = |digest: &Digest| (0..NODES).find(|n| node_blob(*n).digest == *digest).unwrap();
        let manifests = self.repositories.manifests(&of, "", 99).unwrap();
        let tags = self.repositories.tags(&of, "", 99).unwrap();
        There {
            nodes: manifests.iter().map(|manifest| node(&manifest.blob.digest)).collect(),
            blobs: blobs.collect(),
            tagged: tags.iter().map(|(_, digest)| node(digest)).collect(),
        }
    }

    /// Returns the nodes that tags lead to: by references, to referrers and to subjects.
    fn live(&self, there: &There) -> BTreeSet<u8> {
        let mut live: BTreeSet<u8> = there.tagged.clone();
        let mut waiting: Vec<u8> = live.iter().copied().collect();
        while let Some(next) = waiting.pop() {
            let node = &self.nodes[next as usize];
            let referrers = (0..NODES).filter(|n| self.nodes[*n as usize].subject == Some(next));
            let reached = node.children.iter().copied().chain(node.subject).chain(referrers);
            waiting.extend(reached.filter(|n| there.nodes.contains(n) && live.insert(*n)));
        }
        live
    }

    fn push(&mut self, n: u8, tags: &[u8]) {
        let node = self.nodes[n as usize].clone();
        for blob in &node.blobs {
            self.apply(&Step::Blob(*blob));
        }
        let subject = node.subject.map(|n| node_blob(n).digest);
        let kind = if node.is_index { media_type::OCI_INDEX } else { media_type::OCI_MANIFEST };
        let kind = MediaType::from_static(kind);
        let pushed = Pushed {
            blob: node_blob(n),
            media_type: kind.clone(),
            subject: subject.clone(),
            artifact_type: None,
            at: self.now,
        };
        let descriptor = Descriptor::new(kind, node_blob(n).digest, 1);
        let children = node.children.iter().map(|n| node_blob(*n).digest);
        let references: Vec<Digest> = node.blobs.iter().map(|n| blob(*n).digest).chain(children).collect();
        let tags: Vec<Tag> = tags.iter().map(|n| node_tag(*n)).collect();
        self.edit(move |edit| {
            let referrer = subject.is_some().then_some(&descriptor);
            edit.put_manifest(&name("a"), &pushed, &tags, referrer, &references)
        });
    }

    fn apply(&mut self, step: &Step) {
        let before = self.there();
        let now = self.now;
        match step {
            Step::Blob(n) => {
                let blob = blob(*n);
                self.edit(move |edit| edit.add_blob(&name("a"), &blob));
                self.waiting.insert(*n, now);
            }
            Step::Head(n) => {
                let digest = blob(*n).digest;
                self.edit(move |edit| edit.renew_blob(&name("a"), &digest));
                self.waiting.entry(*n).and_modify(|since| *since = now);
            }
            Step::Push(n, tags) => self.push(*n, tags),
            Step::Untag(n) => {
                let tag = node_tag(*n);
                self.edit(move |edit| edit.remove_tag(&name("a"), &tag));
            }
            Step::Delete(n) => {
                let digest = node_blob(*n).digest;
                self.edit(move |edit| edit.remove_manifest(&name("a"), &digest));
                assert!(!self.there().nodes.contains(n));
            }
            Step::Image(n) => {
                let tag = node_tag(*n);
                self.edit(move |edit| edit.remove_image(&name("a"), &tag));
            }
            Step::Wait(seconds) => self.now += seconds,
            Step::Sweep(untagged) => self.sweep(*untagged),
        }
        self.note_lost(&before, step);
    }

    fn note_lost(&mut self, before: &There, step: &Step) {
        let after = self.there();
        self.lost.retain(|n, _| after.nodes.contains(n) && !after.tagged.contains(n));
        // What is removed by command does not stay for its age.
        if matches!(step, Step::Image(_)) {
            return;
        }
        for n in before.tagged.iter().filter(|n| after.nodes.contains(n) && !after.tagged.contains(n)) {
            self.lost.insert(*n, self.now);
        }
    }

    fn sweep(&mut self, untagged: bool) {
        let sweep = if untagged { Sweep::untagged } else { Sweep::due };
        let sweep = sweep(&self.policy, self.now);
        let before = self.there();
        let removed = |dry| {
            let mut removed = Vec::new();
            self.repositories.sweep(&sweep, dry, |one| removed.push(one)).unwrap();
            removed
        };
        let dry = removed(true);
        assert_eq!(format!("{:?}", self.there()), format!("{before:?}"), "a dry run changes nothing");
        let real = removed(false);
        assert_eq!(dry, real, "a dry run tells what the sweep removes");
        self.check(&before, untagged);
    }

    fn check(&self, before: &There, untagged: bool) {
        let after = self.there();
        let live = self.live(&There { nodes: before.nodes.clone(), ..self.there() });
        assert!(live.is_subset(&after.nodes), "a tag, an index or a subject leads to {live:?}: {after:?}");
        for n in &after.nodes {
            let blobs = self.nodes[*n as usize].blobs.iter().filter(|blob| before.blobs.contains(blob));
            assert!(blobs.into_iter().all(|blob| after.blobs.contains(blob)), "{n}: {after:?}");
        }
        let is_referenced =
            |blob: &u8| after.nodes.iter().any(|n| self.nodes[*n as usize].blobs.contains(blob));
        for blob in after.blobs.iter().filter(|blob| !is_referenced(blob)) {
            let since = self.waiting.get(blob).copied().unwrap_or(0);
            assert!(since + GRACE > self.now, "blob {blob} is unreferenced: {after:?}");
        }
        match untagged {
            true => assert_eq!(after.nodes, live, "nothing that is not reached is left"),
            false => {
                for n in before.nodes.difference(&after.nodes) {
                    let lost = self.lost.get(n).copied().unwrap_or(0);
                    assert!(lost + KEEP <= self.now, "{n} lost its tag at {lost}");
                }
            }
        }
    }

    /// Holds that the bytes are retained that are there, and no others.
    fn check_holders(&self) {
        let there = self.there();
        for n in 0..BLOBS {
            assert_eq!(is_retained(&self.repositories, blob(n).root), there.blobs.contains(&n));
        }
        for n in 0..NODES {
            assert_eq!(is_retained(&self.repositories, node_blob(n).root), there.nodes.contains(&n));
        }
        assert_eq!(self.repositories.has(&name("a")).unwrap(), !there.nodes.is_empty());
    }

    /// Much later: rules expire tags, then manifests are untagged for long enough, whatever was evaluated before.
    fn end(&mut self) {
        for _ in 0..6 {
            self.now += KEEP;
            self.sweep(false);
        }
        let there = self.there();
        assert_eq!(self.live(&there), there.nodes, "what nothing leads to goes by itself");
        self.check_holders();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn garbage_collection_keeps_reachable_content_and_matches_its_dry_run(
        nodes in nodes(),
        steps in steps(),
    ) {
        let mut history = History::new(nodes);
        steps.iter().for_each(|step| history.apply(step));
        history.check_holders();
        history.end();
    }
}
