use super::*;
use crate::names::{
    fixtures::{self, TTL, machine, verdict},
    keys,
};

fn signed(by: &Names, key: &Keypair, value: &str) -> Vec<u8> {
    by.0.own.mark_published(key.public().to_peer_id());
    fixtures::signed(by, key, value)
}

/// Returns a key that both machines have.
fn shared_key(one: &Names, other: &Names) -> Keypair {
    let key = keys::load_or_create(&one.0.data_dir, "team").unwrap();
    keys::import(&other.0.data_dir, "team", &key.to_protobuf_encoding().unwrap()).unwrap()
}

#[test]
fn the_ipns_sequence_increases_with_each_change_and_survives_a_restart() {
    let (dir, key) = (tempfile::tempdir().unwrap(), Keypair::generate_ed25519());
    let sequence = |value: &str| {
        let names = Names::offline(dir.path(), &key).unwrap();
        let sequence = names.sign(&key, value.into(), TTL, SystemTime::now()).unwrap().sequence();
        assert_eq!(names.own(&IpnsName::of(&key)).unwrap().value(), value.as_bytes());
        sequence
    };
    assert_eq!(["/ipfs/a", "/ipfs/a", "/ipfs/b", "/ipfs/a"].map(sequence), [0, 0, 1, 2]);
}

#[test]
fn an_expired_ipns_record_is_renewed_unless_another_node_published_a_newer_one() {
    let (dir, key) = (tempfile::tempdir().unwrap(), Keypair::generate_ed25519());
    let names = || Names::offline(dir.path(), &key).unwrap();
    let record = |value: &[u8], until: SystemTime, sequence| {
        let record = rust_ipns::Record::new(&key, value, until.into(), sequence, Duration::from_secs(1));
        record.unwrap().encode().unwrap()
    };
    let (name, hour) = (key.public().to_peer_id(), Duration::from_secs(3600));
    let expired = record(b"/ipfs/a", SystemTime::now() - hour, 7);
    names().0.record_store.put_own(&name, &expired).unwrap();
    let names = names();
    let moved = record(b"/ipfs/b", SystemTime::now() + hour, 3);
    let moved = ipns::Record::verify(name, moved, SystemTime::now()).unwrap();
    assert!(!names.renew(&key, Some(moved), SystemTime::now()).unwrap());
    assert!(names.own(&IpnsName::of(&key)).unwrap().until() < SystemTime::now());
    assert!(names.renew(&key, None, SystemTime::now()).unwrap());
    let own = names.own(&IpnsName::of(&key)).unwrap();
    assert_eq!((own.value(), own.sequence()), (&b"/ipfs/a"[..], 7));
    assert!(own.until() > SystemTime::now());
}

#[test]
fn the_ipns_sequence_increases_even_if_the_clock_goes_back() {
    let (dir, key) = (tempfile::tempdir().unwrap(), Keypair::generate_ed25519());
    let names = Names::offline(dir.path(), &key).unwrap();
    // Signed while the clock was a year ahead.
    let until = SystemTime::now() + Duration::from_secs(365 * 24 * 60 * 60);
    let ahead = rust_ipns::Record::new(&key, b"/ipfs/a", until.into(), 7, Duration::from_secs(1));
    let ahead = ahead.unwrap().encode().unwrap();
    names.0.record_store.put_own(&key.public().to_peer_id(), &ahead).unwrap();
    let sequence = |value: &str| names.sign(&key, value.into(), TTL, SystemTime::now()).unwrap().sequence();
    assert_eq!(["/ipfs/b", "/ipfs/a"].map(sequence), [8, 9]);
}

#[test]
fn a_conflicting_writer_is_detected_and_the_sequence_continues_from_its_record() {
    let [(_one, first), (_other, second)] = [machine(), machine()];
    let key = shared_key(&first, &second);
    let name = key.public().to_peer_id();
    signed(&first, &key, "/ipfs/a");
    let old = signed(&first, &key, "/ipfs/b");
    // The second machine takes over: it has signed nothing yet, so there is no conflict.
    assert_eq!(verdict(&second, name, &old), "accept");
    [&first, &second].into_iter().for_each(|names| names.0.own.mark_queried(name));
    assert!(second.0.own.conflicting_writers().is_empty());
    let taken = second.sign(&key, "/ipfs/c".into(), TTL, SystemTime::now()).unwrap();
    assert_eq!(taken.sequence(), 2);
    assert_eq!(verdict(&second, name, &old), "ignore");
    // The first one is still running.
    assert_eq!(verdict(&first, name, taken.bytes()), "accept");
    assert_eq!(first.0.own.conflicting_writers(), [(IpnsName::from(name), 2)]);
    let again = first.sign(&key, "/ipfs/d".into(), TTL, SystemTime::now()).unwrap();
    assert_eq!(again.sequence(), 3);
    assert_eq!(verdict(&second, name, again.bytes()), "accept");
    assert_eq!(second.0.own.conflicting_writers(), [(IpnsName::from(name), 3)]);
    assert_eq!(verdict(&first, name, again.bytes()), "accept", "it is its own");
}

#[test]
fn a_value_published_before_the_first_query_is_signed_above_the_newest_ipns_sequence() {
    let [(_one, first), (_other, second)] = [machine(), machine()];
    let key = shared_key(&first, &second);
    let name = key.public().to_peer_id();
    signed(&second, &key, "/ipfs/imported");
    let newest = (0..4).fold(Vec::new(), |_, n| signed(&first, &key, &format!("/ipfs/{n}")));
    assert_eq!(verdict(&second, name, &newest), "accept");
    let own = second.own(&IpnsName::from(name)).unwrap();
    assert_eq!((own.value(), own.sequence()), (&b"/ipfs/imported"[..], 4));
    assert!(second.0.own.conflicting_writers().is_empty() && second.0.own.clear_unannounced(&name));
    let due = second.due(SystemTime::now()).unwrap();
    assert!(due.contains(&(name, Some(own.bytes().to_vec()))), "it is told again");
}

#[test]
fn a_cloned_node_directory_is_a_conflicting_writer_on_both_sides() {
    let (key, dirs) = (Keypair::generate_ed25519(), [(); 2].map(|()| tempfile::tempdir().unwrap()));
    let name = key.public().to_peer_id();
    signed(&Names::offline(dirs[0].path(), &key).unwrap(), &key, "/ipfs/before");
    std::fs::copy(dirs[0].path().join("names.redb"), dirs[1].path().join("names.redb")).unwrap();
    let [original, clone] = [0, 1].map(|n| Names::offline(dirs[n].path(), &key).unwrap());
    [&original, &clone].into_iter().for_each(|names| names.0.own.mark_queried(name));
    // The same sequence with another root.
    let (one, other) = (signed(&original, &key, "/ipfs/a"), signed(&clone, &key, "/ipfs/b"));
    verdict(&original, name, &other);
    verdict(&clone, name, &one);
    for names in [&original, &clone] {
        assert_eq!(names.0.own.conflicting_writers(), [(IpnsName::from(name), 1)]);
    }
    assert_eq!(original.sign(&key, b"/ipfs/c".into(), TTL, SystemTime::now()).unwrap().sequence(), 2);
}

#[test]
fn a_conflicting_writer_is_detected_even_after_a_newer_record_was_signed() {
    let [(_one, first), (_other, second)] = [machine(), machine()];
    let key = shared_key(&first, &second);
    let name = key.public().to_peer_id();
    [&first, &second].into_iter().for_each(|names| names.0.own.mark_queried(name));
    let theirs = signed(&second, &key, "/ipfs/theirs");
    let own = signed(&first, &key, "/ipfs/own");
    signed(&first, &key, "/ipfs/newer");
    assert_eq!(verdict(&first, name, &own), "ignore", "its own, told back");
    assert!(first.0.own.conflicting_writers().is_empty());
    assert_eq!(verdict(&first, name, &theirs), "ignore");
    assert_eq!(first.0.own.conflicting_writers(), [(IpnsName::from(name), 0)]);
}

#[test]
fn a_restored_backup_learns_the_newest_ipns_sequence_and_continues_it() {
    let (key, dir) = (Keypair::generate_ed25519(), tempfile::tempdir().unwrap());
    let (name, elsewhere) = (key.public().to_peer_id(), machine().1);
    signed(&Names::offline(dir.path(), &key).unwrap(), &key, "/ipfs/backup");
    let newest = (0..8).fold(Vec::new(), |_, n| signed(&elsewhere, &key, &format!("/ipfs/{n}")));
    let restored = Names::offline(dir.path(), &key).unwrap();
    assert_eq!(verdict(&restored, name, &newest), "accept");
    assert!(restored.0.own.conflicting_writers().is_empty());
    assert_eq!(
        restored.own(&IpnsName::from(name)).unwrap().sequence(),
        0,
        "nothing is signed without being published"
    );
    let again = restored.sign(&key, b"/ipfs/backup".into(), TTL, SystemTime::now()).unwrap();
    assert_eq!(again.sequence(), 8);
}

/// By pubsub and by fetch, at the same time.
#[test]
fn a_record_received_twice_concurrently_before_the_first_query_is_not_a_conflict() {
    for _ in 0..20 {
        let [(_elsewhere, other), (_dir, names)] = [machine(), machine()];
        let key = shared_key(&names, &other);
        let name = key.public().to_peer_id();
        signed(&names, &key, "/ipfs/backup");
        let newest = (0..3).fold(Vec::new(), |_, n| signed(&other, &key, &format!("/ipfs/{n}")));
        std::thread::scope(|scope| {
            scope.spawn(|| verdict(&names, name, &newest));
            scope.spawn(|| {
                verdict(&names, name, &newest);
                names.0.own.mark_queried(name);
            });
        });
        assert!(names.0.own.conflicting_writers().is_empty());
    }
}

/// A record signed in the background has the current value.
#[test]
fn a_record_received_during_a_publication_does_not_restore_an_older_value() {
    let [(_one, names), (_two, other)] = [machine(), machine()];
    let key = shared_key(&names, &other);
    let name = key.public().to_peer_id();
    signed(&names, &key, "/ipfs/own-0");
    for n in 0..50 {
        let theirs = (0..3).fold(Vec::new(), |_, m| signed(&other, &key, &format!("/ipfs/{n}-{m}")));
        let published = std::thread::scope(|scope| {
            scope.spawn(|| verdict(&names, name, &theirs));
            scope.spawn(|| signed(&names, &key, &format!("/ipfs/own-{n}"))).join().unwrap()
        });
        let published = ipns::Record::verify(name, published, SystemTime::now()).unwrap();
        let last = names.own(&IpnsName::from(name)).unwrap();
        assert_eq!(last.text(), published.text());
        assert_eq!(Some(last.bytes().to_vec()), names.0.record_store.own(&name).unwrap());
        verdict(&other, name, last.bytes());
    }
}

#[test]
fn a_publication_after_the_greatest_ipns_sequence_is_rejected_without_overflow() {
    let (_dir, names) = machine();
    let key = names.0.identity.clone();
    let until = SystemTime::now() + Duration::from_secs(3600);
    let last =
        rust_ipns::Record::new(&key, b"/ipfs/a", until.into(), u64::MAX, TTL).unwrap().encode().unwrap();
    let name = key.public().to_peer_id();
    names.0.record_store.put_own(&name, &last).unwrap();
    let sign = |value: &[u8]| names.sign(&key, value.into(), TTL, SystemTime::now());
    assert_eq!(sign(b"/ipfs/a").unwrap().sequence(), u64::MAX, "the same is valid for longer");
    let refused = sign(b"/ipfs/b").unwrap_err();
    assert!(matches!(&refused, Error::LastSequence(last) if *last == IpnsName::from(name)), "{refused}");
}
