use std::{path::Path, sync::Arc, time::Instant};

use tempfile::TempDir;

use super::*;
use crate::{Multiaddr, Options, no_blocks::NoBlocks};

const SOON: Duration = Duration::from_secs(20);

async fn start(dir: &Path, key: &SwarmKey, admin: Option<PeerId>, peers: &[&Node]) -> Node {
    let mut addresses = Vec::<Multiaddr>::new();
    for peer in peers {
        addresses.extend(peer.listen_addresses().await.into_iter().take(1));
    }
    let options = Options {
        listen: vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()],
        swarm_key: Some(key.clone()),
        swarm_admin: admin,
        peers: addresses,
        ..Options::new(dir)
    };
    Node::start(options, Arc::new(NoBlocks)).await.unwrap()
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    within(SOON, what, holds).await;
}

async fn within(limit: Duration, what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < limit, "still waiting: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn sees(node: &Node, other: &Node) -> bool {
    node.peers().iter().any(|peer| peer.id == other.peer_id())
}

fn knows(node: &Node, members: &[&Node]) -> bool {
    let list = node.admission_list().unwrap().unwrap_or_default();
    list.members == members.iter().map(|node| node.peer_id()).collect()
}

/// Dials once, for a connection that must not come about.
async fn connect(from: &Node, to: &Node) -> bool {
    let address = to.listen_addresses().await.swap_remove(0);
    let _ = from.connect(&address).await;
    // A refused dialler hears of it after its own part of the handshake.
    tokio::time::sleep(Duration::from_millis(200)).await;
    sees(to, from)
}

/// Dials until the connection has come about, which may take a while on a busy machine.
async fn connects(from: &Node, to: &Node) -> bool {
    let address = to.listen_addresses().await.swap_remove(0);
    let dialling = async {
        while !sees(to, from) {
            let _ = from.connect(&address).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, dialling).await.is_ok()
}

fn dirs<const N: usize>() -> [TempDir; N] {
    [(); N].map(|()| tempfile::tempdir().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_member_is_disconnected_by_all_at_once() {
    let (dirs, key) = (dirs::<4>(), SwarmKey::generate());
    let admin = start(dirs[0].path(), &key, None, &[]).await;
    let id = admin.init_admin().await.unwrap();
    let one = start(dirs[1].path(), &key, Some(id), &[&admin]).await;
    let other = start(dirs[2].path(), &key, Some(id), &[&admin]).await;
    for node in [&one, &other] {
        assert!(!connect(node, &admin).await, "not admitted");
        assert!(admin.allow(node.peer_id()).await.unwrap());
    }
    until("all are connected to the admin", || sees(&admin, &one) && sees(&admin, &other)).await;
    until("all have the list", || [&one, &other].iter().all(|node| knows(node, &[&admin, &one, &other])))
        .await;
    assert!(connects(&other, &one).await);
    let stranger = start(dirs[3].path(), &key, None, &[]).await;
    assert!(!connect(&stranger, &one).await && !connect(&one, &stranger).await);

    let begun = Instant::now();
    assert!(admin.remove_member(other.peer_id()).await.unwrap());
    until("it is disconnected", || !sees(&admin, &other) && !sees(&one, &other)).await;
    eprintln!("a removed member is disconnected after {:?}", begun.elapsed());
    assert!(!connect(&other, &one).await && !connect(&one, &other).await && !connect(&admin, &other).await);
    assert!(knows(&one, &[&admin, &one]) && sees(&admin, &one));
    for node in [admin, one, other, stranger] {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_dial_with_either_key_during_a_rollover() {
    // Longer than two changes of the list and four connections take on a busy machine.
    const OVERLAP: Duration = Duration::from_secs(20);
    let (dirs, key) = (dirs::<4>(), SwarmKey::generate());
    let admin = start(dirs[0].path(), &key, None, &[]).await;
    let id = admin.init_admin().await.unwrap();
    let one = start(dirs[1].path(), &key, Some(id), &[&admin]).await;
    admin.allow(one.peer_id()).await.unwrap();
    // It hears of the new key only when it connects.
    let with_old = start(dirs[2].path(), &key, Some(id), &[]).await;
    admin.allow(with_old.peer_id()).await.unwrap();
    until("the member has the list", || knows(&one, &[&admin, &one, &with_old])).await;
    let new = admin.rekey(OVERLAP).await.unwrap().key;
    until("the member has the new key", || one.swarm_key().as_ref() == Some(&new)).await;
    let with_new = start(dirs[3].path(), &new, Some(id), &[]).await;
    admin.allow(with_new.peer_id()).await.unwrap();
    until("it is admitted", || knows(&one, &[&admin, &one, &with_old, &with_new])).await;
    assert!(connects(&with_old, &admin).await && connects(&with_new, &admin).await);
    assert!(connects(&with_new, &one).await && connects(&with_old, &one).await);
    let accepts_old =
        |node: &Node| node.members().unwrap().ring().keys().all().any(|bytes| *bytes == key.bytes());
    assert!(accepts_old(&admin), "the overlap ended before the test had used it");
    let has_ended = || ![&admin, &one, &with_old, &with_new].into_iter().any(accepts_old);
    within(OVERLAP + SOON, "the overlap has ended", has_ended).await;
    until("the one with the old key has the new one", || with_old.swarm_key().as_ref() == Some(&new)).await;
    assert!(sees(&admin, &with_old) && sees(&admin, &with_new), "open connections go on");
    let late_dirs = self::dirs::<2>();
    let stranger = start(late_dirs[0].path(), &key, Some(id), &[]).await;
    let invited = start(late_dirs[1].path(), &new, Some(id), &[]).await;
    for node in [&stranger, &invited] {
        admin.allow(node.peer_id()).await.unwrap();
    }
    assert!(connects(&invited, &admin).await);
    assert!(!connect(&stranger, &admin).await, "the old key opens nothing any more");
    for node in [admin, one, with_old, with_new, stranger, invited] {
        node.shutdown().await;
    }
}
