//! Privately pushed content stays private by provenance: a peer cannot reach it through a DAG of its own.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use futures::AsyncWriteExt;
use libp2p::Stream;
use libtest_mimic::Trial;
use multihash_codetable::{Code, MultihashDigest};
use ocipfs_bitswap::wire::{Message, Version};
use ocipfs_node::Cid;

use super::{Made, PULL_TIMEOUT, dags::Dag};
use crate::{
    following::push,
    harness::{Serve, noise, trials, within},
    http::get,
    names::image::Image,
    peers::hostile::{Answer, Answered, Hostile, honest, want},
};

const RAW: u64 = 0x55;
const FILLER: usize = 1000;

pub fn trials() -> Vec<Trial> {
    trials![
        a_private_push_is_not_shown_to_a_peer_whose_file_embeds_its_blocks,
        a_private_push_is_not_shown_because_a_client_pulls_by_its_cid,
        a_pushed_block_that_also_came_from_a_peer_is_shared_with_peers,
    ]
}

fn raw(bytes: &[u8]) -> Cid {
    Cid::new_v1(RAW, Code::Sha2_256.digest(bytes))
}

/// A node that shares added content, has a private image and knows one hostile peer.
struct Private {
    node: Serve,
    hostile: Hostile,
    stream: Stream,
}

impl Private {
    async fn start(dir: &Path, hostile: Hostile) -> Self {
        let arguments = ["--share", "added", "--stall-timeout", "2s", "--find-timeout", "2s"];
        let node = Serve::start_in(dir, &[&arguments[..], &["--peer", hostile.address()]].concat());
        node.until("the peer is connected", |status| status["peers"] == 1).await;
        let stream = hostile.open(node.peer()).await;
        Self { node, hostile, stream }
    }

    async fn restart(self, dir: &Path) -> Self {
        drop(self.stream);
        self.node.stop();
        Self::start(dir, self.hostile).await
    }

    async fn want(&mut self, cids: &[Cid]) {
        let wants = cids.iter().map(|cid| want(*cid)).collect();
        for piece in (Message { wants, ..Message::default() }).encode(Version::V1_2) {
            self.stream.write_all(&piece).await.unwrap();
        }
        self.stream.flush().await.unwrap();
    }

    /// Returns the answers up to a block that the peer may have; all earlier answers have arrived by then.
    async fn answers_until(&mut self, public: &Bytes) -> Answered {
        self.want(&[raw(public)]).await;
        let mut all = Answered::default();
        let answers = async {
            while !all.blocks.contains(public) {
                let more = self.hostile.take_answered();
                all.blocks.extend(more.blocks);
                all.presences.extend(more.presences);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        within(PULL_TIMEOUT, answers).await;
        all
    }

    /// Holds that the peer learns nothing of these blocks.
    async fn hides(&mut self, secrets: &[Cid], public: &Bytes) {
        self.want(secrets).await;
        let answered = self.answers_until(public).await;
        assert!(answered.blocks.iter().all(|block| !secrets.contains(&raw(block))), "a block was sent");
        assert!(answered.presences.iter().all(|(cid, has)| !has || !secrets.contains(cid)), "HAVE was said");
    }
}

/// A file that embeds the blobs of an image, and a leaf that its peer keeps back.
fn embedding(image: &Image) -> (Made, Cid) {
    let (mut dag, mut bytes) = (Dag::default(), Vec::new());
    let filler = noise(FILLER)[1..].to_vec();
    let mut children = Vec::new();
    for blob in [&image.manifest, &image.config, &image.layer, &filler] {
        children.push((dag.leaf(blob.clone()), blob.len() as u64));
        bytes.extend_from_slice(blob);
    }
    let root = dag.node(&children);
    let filler = children[3].0;
    (dag.layer(root, bytes.len() as u64, bytes), filler)
}

/// A peer that has everything of a file but these blocks, and never says so.
async fn start_peer_without(made: &Made, kept_back: Vec<Cid>) -> Hostile {
    let blocks = made.blocks.clone();
    let answer: Answer = Box::new(move |want| match kept_back.contains(&want.cid) {
        true => Vec::new(),
        false => honest(&blocks, want),
    });
    Hostile::start(&[made.manifest(), made.root], answer).await
}

async fn a_private_push_is_not_shown_to_a_peer_whose_file_embeds_its_blocks() {
    let image = Image::of("secret", 300_000);
    let secrets = image.blobs().map(raw).into_iter().chain([raw(&image.manifest)]);
    let secrets: Vec<Cid> = secrets.collect();
    let (made, filler) = embedding(&image);
    let hostile = start_peer_without(&made, [&secrets[..], &[filler]].concat()).await;
    let document = made.blocks.get(&made.manifest()).unwrap().clone();
    let dir = tempfile::tempdir().unwrap();
    let mut private = Private::start(dir.path(), hostile).await;
    push(&private.node, "app", "1", &image).await;
    private.want(&secrets).await;
    let refused = within(PULL_TIMEOUT, get(&private.node.url(&made.layer.blob_path()))).await;
    assert!(refused.status == 504 || refused.status == 404, "{refused:?}");
    private.hides(&secrets, &document).await;
    let mut private = private.restart(dir.path()).await;
    private.hides(&secrets, &document).await;
    // Its own clients are served as before.
    let path = format!("/v2/app/manifests/{}", image.digest());
    assert_eq!(get(&private.node.url(&path)).await.body, image.manifest);
}

async fn a_private_push_is_not_shown_because_a_client_pulls_by_its_cid() {
    let image = Image::of("secret", 300_000);
    let secrets: Vec<Cid> = image.blobs().map(raw).into_iter().chain([raw(&image.manifest)]).collect();
    let public = Made::of(noise(1000));
    let hostile = start_peer_without(&public, Vec::new()).await;
    let dir = tempfile::tempdir().unwrap();
    let mut private = Private::start(dir.path(), hostile).await;
    push(&private.node, "app", "1", &image).await;
    let document = public.blocks.get(&public.manifest()).unwrap().clone();
    assert_eq!(get(&private.node.url(&public.layer.blob_path())).await.status, 200);
    for kind in ["ipfs", "layer"] {
        for cid in &secrets {
            get(&private.node.url(&format!("/v2/{kind}/{cid}/manifests/latest"))).await;
            get(&private.node.url(&format!("/v2/{kind}/{cid}/manifests/{}", image.digest()))).await;
        }
    }
    // A descriptor that is no longer needed is asked for by its manifest too.
    private.hides(&secrets, &document).await;
    let mut private = private.restart(dir.path()).await;
    private.hides(&secrets, &document).await;
}

async fn a_pushed_block_that_also_came_from_a_peer_is_shared_with_peers() {
    let image = Image::of("known", 300_000);
    let (made, _) = embedding(&image);
    let hostile = start_peer_without(&made, Vec::new()).await;
    let dir = tempfile::tempdir().unwrap();
    let private = Private::start(dir.path(), hostile).await;
    push(&private.node, "app", "1", &image).await;
    let pulled = within(PULL_TIMEOUT, get(&private.node.url(&made.layer.blob_path()))).await;
    assert!(pulled.status == 200 && pulled.body == made.layer.bytes, "{}", pulled.status);
    let mut private = private.restart(dir.path()).await;
    private.want(&[raw(&image.manifest)]).await;
    private.answers_until(&image.config.clone().into()).await;
    private.answers_until(&image.layer.clone().into()).await;
}
