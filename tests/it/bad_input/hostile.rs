//! Peers that lie, stall and flood: a pull finishes from an honest peer or fails by name, in bounded memory.

mod dags;
mod floods;
mod layouts;
mod lies;
mod memory;
mod provenance;
mod pubsub;
mod returned;
mod silence;
mod streams;
mod together;
mod unasked;

use std::time::Duration;

use libtest_mimic::Trial;
use ocipfs::content::{Document, Profile};
use ocipfs_node::Cid;
use ocipfs_oci::Digest;
use tempfile::TempDir;

use crate::{
    harness::{Layer, Serve, noise, until, within},
    http::get_found,
    offline::{Offline, layer_manifest},
    peers::hostile::{Answer, Blocks, Hostile},
};
pub use memory::Memory;

/// A reader waits 3 s for a root, and for progress: a pull that lasts longer than this, on a busy machine, hangs.
const PULL_TIMEOUT: Duration = Duration::from_secs(60);

pub fn trials() -> Vec<Trial> {
    [
        dags::trials(),
        floods::trials(),
        layouts::trials(),
        lies::trials(),
        provenance::trials(),
        pubsub::trials(),
        returned::trials(),
        silence::trials(),
        streams::trials(),
        together::trials(),
        unasked::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A layer whose blocks a hostile peer knows.
struct Made {
    layer: Layer,
    blocks: Blocks,
    /// The file's root.
    root: Cid,
}

impl Made {
    /// The DAG that a node makes of these bytes, and a layer manifest that names it.
    fn of(bytes: Vec<u8>) -> Self {
        let file = Document::file(bytes.clone().into(), Profile::UnixfsV1);
        let blocks = file.blocks.into_iter().map(|block| (block.cid, block.data)).collect();
        let manifest = layer_manifest(&bytes, file.root.cid).to_string();
        let digest = Digest::sha256_of(&bytes).to_string();
        Self::named(manifest, digest, bytes, file.root.cid, blocks)
    }

    /// Any blocks, of which a layer manifest says that they are `bytes`.
    fn named(manifest: String, digest: String, bytes: Vec<u8>, root: Cid, mut blocks: Blocks) -> Self {
        let document = Document::file(manifest.into_bytes().into(), Profile::UnixfsV1);
        blocks.extend(document.blocks.into_iter().map(|block| (block.cid, block.data)));
        let name = format!("layer/{}", document.root.cid);
        Self { layer: Layer { name, tag: "latest".into(), digest, bytes }, blocks, root }
    }

    fn manifest(&self) -> Cid {
        self.layer.cid().parse().expect("a CID")
    }
}

/// A reader that knows a hostile peer, and an honest node that it does not know yet.
struct Stage {
    reader: Serve,
    hostile: Hostile,
    honest: Serve,
    /// Nothing of it is at the reader before the end.
    other: Layer,
    memory: Memory,
    _honest_dir: TempDir,
}

impl Stage {
    /// The hostile peer says that it has the layer; the honest node has it too.
    async fn new(made: &Made, answer: Answer) -> Self {
        Self::with_timeout(made, answer, "3s").await
    }

    /// With a reader that gives a peer, and content, up after this time.
    async fn with_timeout(made: &Made, answer: Answer, timeout: &str) -> Self {
        let honest_dir = tempfile::tempdir().expect("a directory");
        let offline = Offline::open(honest_dir.path()).await;
        offline.put(&made.layer.bytes, Profile::UnixfsV1).await;
        let document = made.blocks.get(&made.manifest()).expect("a layer manifest");
        offline.put(document, Profile::UnixfsV1).await;
        drop(offline);
        let honest = Serve::start_in(honest_dir.path(), &[]);
        let other = Layer::add(&honest, &noise(3 << 20)[1..]);
        let hostile = Hostile::start(&[made.manifest(), made.root], answer).await;
        let patience = ["--stall-timeout", timeout, "--find-timeout", timeout];
        let reader = Serve::start(&[&patience[..], &["--peer", hostile.address()]].concat());
        reader.until("the peer is connected", |status| status["peers"] == 1).await;
        let memory = Memory::watch(&reader);
        Self { reader, hostile, honest, other, memory, _honest_dir: honest_dir }
    }

    /// Makes the honest node known to the reader.
    fn meet(&self) {
        assert_eq!(self.reader.command(&["swarm", "connect", self.honest.address()]).code, Some(0));
    }

    /// Waits until the hostile peer was asked for more than the layer manifest and the file's root.
    async fn is_asked(&self) {
        until("the hostile peer is asked", || self.hostile.asked() >= 3).await;
    }

    /// Holds that nothing of it did harm: another pull works, memory was bounded, and nothing panicked.
    async fn ends_well(self) {
        self.meet();
        let answer = get_found(&self.reader.url(&self.other.blob_path())).await;
        assert!(answer.status == 200 && answer.body == self.other.bytes, "another pull works");
        self.memory.was_bounded();
        for node in [&self.reader, &self.honest] {
            assert!(!node.log().contains("panicked"), "{}", node.log());
        }
    }
}

/// Failure of a pull as the client sees it.
enum Failed {
    /// A refusal in the form of the specification: its status and text.
    Refused(u16, String),
    /// The stream was broken off.
    BrokenOff,
}

/// Pulls unavailable content and checks that no client could take the result for the blob.
async fn fails(reader: &Serve, layer: &Layer) -> Failed {
    let pull = async {
        let response = reqwest::get(reader.url(&layer.blob_path())).await.expect("an answer");
        (response.status().as_u16(), response.bytes().await)
    };
    match within(PULL_TIMEOUT, pull).await {
        (200, Err(_)) => Failed::BrokenOff,
        (200, Ok(bytes)) => panic!("{} bytes with a good end", bytes.len()),
        (status, body) => {
            let text = String::from_utf8_lossy(&body.expect("a body")).into_owned();
            assert!(text.contains(r#""errors":[{"code":"#), "{status}: {text}");
            Failed::Refused(status, text)
        }
    }
}
