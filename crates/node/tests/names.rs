//! IPNS between nodes on loopback.

mod stores;

use std::{sync::Arc, time::Duration};

use ocipfs_node::{IpnsName, Node, Options, ResolveError};
use stores::Memory;
use tempfile::TempDir;

const TTL: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(10);
const VALUE: &str = "/ipfs/bafybeiat5rs4tk3kvllj4uu5zr652qnp7kxc4ttewhc5md23gxflqqp7lu";
const OTHER: &str = "/ipfs/bafkreibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yeq";

async fn start(dir: &TempDir) -> Node {
    let listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
    Node::start(Options { listen, ..Options::new(dir.path()) }, Arc::new(Memory::default())).await.unwrap()
}

async fn connect(one: &Node, other: &Node) {
    one.connect(&other.listen_addresses().await[0]).await.unwrap();
}

async fn resolved(node: &Node, name: &IpnsName, value: &str) {
    let found = async {
        loop {
            match node.resolve(&(*name).into(), PATIENCE).await {
                Ok(found) if found.value == value => return found,
                other => eprintln!("not yet: {other:?}"),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(30), found).await.expect("it is resolved in time");
    assert!(!found.stale);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_published_name_is_resolved_by_connected_peers_and_through_others() {
    let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let [publisher, between, reader] = [start(&dirs[0]).await, start(&dirs[1]).await, start(&dirs[2]).await];
    let (key, name) = publisher.name_key("releases").await.unwrap();
    publisher.publish(&key, VALUE, TTL).await.unwrap();
    connect(&publisher, &between).await;
    resolved(&between, &name, VALUE).await;
    // The reader is connected only to the node between.
    connect(&reader, &between).await;
    resolved(&reader, &name, VALUE).await;
    for node in [publisher, between, reader] {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resolved_name_survives_its_publisher_and_a_restart_as_stale() {
    let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let [publisher, reader] = [start(&dirs[0]).await, start(&dirs[1]).await];
    let (key, name) = publisher.name_key("releases").await.unwrap();
    publisher.publish(&key, VALUE, TTL).await.unwrap();
    connect(&reader, &publisher).await;
    resolved(&reader, &name, VALUE).await;
    publisher.shutdown().await;
    reader.shutdown().await;
    drop(reader);
    let offline = Node::offline(dirs[1].path()).unwrap();
    let found = offline.resolve(&name.into(), PATIENCE).await.unwrap();
    assert_eq!((found.value.as_str(), found.stale), (VALUE, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn own_names_resolve_without_peers_and_the_sequence_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let name = {
        let node = Node::offline(dir.path()).unwrap();
        let (key, name) = node.name_key("releases").await.unwrap();
        assert_eq!(node.publish(&key, VALUE, TTL).await.unwrap().sequence, 0);
        name
    };
    let node = start(&dir).await;
    let found = node.resolve(&name.into(), PATIENCE).await.unwrap();
    assert_eq!((found.value.as_str(), found.stale), (VALUE, false));
    let (key, _) = node.name_key("releases").await.unwrap();
    assert_eq!(node.publish(&key, OTHER, TTL).await.unwrap().sequence, 1);
    assert_eq!(node.name_keys().await.unwrap(), [("releases".to_string(), name)]);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_name_is_an_error_with_the_number_of_queried_peers() {
    let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let [one, other] = [start(&dirs[0]).await, start(&dirs[1]).await];
    connect(&one, &other).await;
    let (_, name) = other.name_key("never-published").await.unwrap();
    let error = one.resolve(&name.into(), Duration::from_secs(3)).await.unwrap_err();
    assert!(matches!(error, ResolveError::NoRecord { asked: 1, .. }), "{error}");
    one.shutdown().await;
    other.shutdown().await;
}

/// Waits until a followed name has this value.
async fn heard(node: &Node, name: &IpnsName, value: &str) {
    let mut records = node.followed_changes();
    let means = || node.followed_record(name).is_some_and(|head| head.value == value);
    let heard = async {
        while !means() {
            records.changed().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(30), heard).await.expect("it is heard in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_receives_each_change_over_pubsub_and_republishes_without_the_publisher() {
    let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let [publisher, follower] = [start(&dirs[0]).await, start(&dirs[1]).await];
    let key = publisher.own_key().clone();
    let name = IpnsName::of(&key);
    publisher.publish(&key, VALUE, TTL).await.unwrap();
    assert!(
        follower.follow_persistently(name).await.unwrap()
            && !follower.follow_persistently(name).await.unwrap()
    );
    connect(&follower, &publisher).await;
    heard(&follower, &name, VALUE).await;
    for n in 0..20 {
        let value = format!("{VALUE}/{n}");
        publisher.publish(&key, &value, TTL).await.unwrap();
        heard(&follower, &name, &value).await;
    }
    publisher.publish(&key, OTHER, TTL).await.unwrap();
    heard(&follower, &name, OTHER).await;
    // Long before its TTL ends, a follower knows more than a node that resolved it before.
    assert_eq!(follower.resolve(&name.into(), PATIENCE).await.unwrap().value, OTHER);
    publisher.shutdown().await;
    follower.shutdown().await;
    drop(follower);
    let follower = start(&dirs[1]).await;
    assert_eq!(follower.persistently_followed().await.unwrap(), [name]);
    assert_eq!(follower.followed_record(&name).unwrap().value, OTHER);
    let late = start(&dirs[2]).await;
    late.follow(name).await.unwrap();
    connect(&late, &follower).await;
    heard(&late, &name, OTHER).await;
    assert!(follower.unfollow(name).await.unwrap() && !follower.unfollow(name).await.unwrap());
    assert_eq!(follower.followed_record(&name), None);
    follower.shutdown().await;
    late.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_moves_to_another_machine_and_conflicting_writers_are_detected() {
    let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let [first, second, follower] = [start(&dirs[0]).await, start(&dirs[1]).await, start(&dirs[2]).await];
    let name = second.import_key("team", &first.export_key("self").await.unwrap()).await.unwrap();
    follower.follow(name).await.unwrap();
    connect(&first, &second).await;
    connect(&follower, &first).await;
    connect(&follower, &second).await;
    first.publish(first.own_key(), VALUE, TTL).await.unwrap();
    heard(&follower, &name, VALUE).await;
    resolved(&second, &name, VALUE).await;
    let key = second.find_key("team").await.unwrap();
    let taken = second.publish(&key, OTHER, TTL).await.unwrap();
    assert_eq!(taken.sequence, 1);
    heard(&follower, &name, OTHER).await;
    let noticed = async {
        while first.conflicting_writers() != [(name, 1)] {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), noticed).await.expect("the first one notices");
    assert!(second.conflicting_writers().is_empty());
    for node in [first, second, follower] {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_resolved_uncached_before_its_ttl_ends() {
    let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let [publisher, reader] = [start(&dirs[0]).await, start(&dirs[1]).await];
    let (key, name) = publisher.name_key("releases").await.unwrap();
    publisher.publish(&key, VALUE, TTL).await.unwrap();
    connect(&reader, &publisher).await;
    resolved(&reader, &name, VALUE).await;
    publisher.publish(&key, OTHER, TTL).await.unwrap();
    assert_eq!(reader.resolve(&name.into(), PATIENCE).await.unwrap().value, VALUE, "it is cached");
    assert_eq!(reader.resolve_uncached(&name.into(), PATIENCE).await.unwrap().value, OTHER);
    assert_eq!(reader.resolve(&name.into(), PATIENCE).await.unwrap().value, OTHER);
    // Own names need no query, and silence invalidates nothing.
    publisher.shutdown().await;
    assert_eq!(publisher.resolve_uncached(&name.into(), PATIENCE).await.unwrap().value, OTHER);
    let found = reader.resolve_uncached(&name.into(), PATIENCE).await.unwrap();
    assert_eq!((found.value.as_str(), found.stale), (OTHER, false));
    reader.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_imported_key_continues_the_sequence_of_its_newest_record() {
    let dirs = [(); 4].map(|()| tempfile::tempdir().unwrap());
    let [first, second, hub] = [start(&dirs[0]).await, start(&dirs[1]).await, start(&dirs[2]).await];
    let name = IpnsName::of(first.own_key());
    connect(&hub, &first).await;
    hub.follow(name).await.unwrap();
    for n in 0..4 {
        first.publish(first.own_key(), &format!("{VALUE}/{n}"), TTL).await.unwrap();
    }
    heard(&hub, &name, &format!("{VALUE}/3")).await;
    let exported = first.export_key("self").await.unwrap();
    first.shutdown().await;
    // It queries peers before it publishes; if none could be queried yet, it signs again above a record that it
    // receives.
    assert_eq!(second.import_key("team", &exported).await.unwrap(), name);
    connect(&second, &hub).await;
    let key = second.find_key("team").await.unwrap();
    second.publish(&key, OTHER, TTL).await.unwrap();
    heard(&hub, &name, OTHER).await;
    assert_eq!(second.published(&name).unwrap().sequence, 4);
    second.shutdown().await;
    // Without peers at first, it receives the record later, and signs its own value again.
    let alone = start(&dirs[3]).await;
    alone.import_key("team", &exported).await.unwrap();
    assert_eq!(alone.publish(&key, VALUE, TTL).await.unwrap().sequence, 0);
    connect(&alone, &hub).await;
    heard(&hub, &name, VALUE).await;
    assert_eq!(alone.published(&name).unwrap().sequence, 5);
    assert!(alone.conflicting_writers().is_empty() && second.conflicting_writers().is_empty());
    for node in [hub, alone] {
        node.shutdown().await;
    }
}
