use std::fs;

use libp2p::{
    identity::Keypair,
    kad::{ProviderRecord, Record, RecordKey, store::RecordStore},
};

use super::{super::ipns::tests::record, *};

const HOUR: Duration = Duration::from_secs(3600);
const SOON: Duration = Duration::from_secs(20);

fn key(n: u32) -> RecordKey {
    RecordKey::new(&n.to_be_bytes())
}

fn provider(n: u32, peer: PeerId) -> ProviderRecord {
    ProviderRecord::new(key(n), peer, vec!["/ip4/127.0.0.1/tcp/4001".parse().unwrap()])
}

/// Runs a keeper until it has written.
async fn close(keeper: Keeper) {
    let stop = CancellationToken::new();
    stop.cancel();
    tokio::time::timeout(SOON, keeper.run(stop)).await.expect("it stops");
}

#[tokio::test]
async fn received_records_survive_a_restart_with_their_expiry() {
    let (dir, me, peer, name) =
        (tempfile::tempdir().unwrap(), PeerId::random(), PeerId::random(), Keypair::generate_ed25519());
    let ipns: RecordKey = [&b"/ipns/"[..], &name.public().to_peer_id().to_bytes()].concat().into();
    let now = Now::read();
    let ends = |hours| Some(now.instant + HOUR * hours);
    let keeper = Keeper::open(dir.path(), me).await;
    let mut store = keeper.store();
    store.add_provider(ProviderRecord { expires: ends(5), ..provider(1, peer) }).unwrap();
    store.add_provider(provider(2, me)).unwrap();
    store.add_provider(provider(3, peer)).unwrap();
    let value = record(&name, 3, now.wall + HOUR * 7);
    store.put(Record::new(ipns.clone(), value.clone())).unwrap();
    close(keeper).await;

    let keeper = Keeper::open(dir.path(), me).await;
    let mut store = keeper.store();
    let found = store.providers(&key(1)).pop().expect("a provider");
    assert_eq!((found.provider, found.addresses), (peer, provider(1, peer).addresses));
    let off = |at: std::time::Instant, hours: u32| {
        let due = now.instant + HOUR * hours;
        at.max(due).duration_since(at.min(due))
    };
    // The file stores seconds.
    assert!(off(found.expires.unwrap(), 5) <= Duration::from_secs(2));
    let kept = store.get(&ipns).expect("the value").into_owned();
    assert_eq!(kept.value, value);
    assert!(off(kept.expires.unwrap(), 7) <= Duration::from_secs(2));
    assert!(store.providers(&key(2)).is_empty(), "own records are announced again");
    assert_eq!(store.drain_changes(), (Vec::new(), Vec::new()), "restored records are not written again");

    store.remove_provider(&key(3), &peer);
    RecordStore::remove(&mut store, &ipns);
    close(keeper).await;
    let store = Keeper::open(dir.path(), me).await.store();
    assert_eq!((store.providers(&key(3)).len(), store.get(&ipns)), (0, None));
}

#[tokio::test]
async fn records_that_expired_while_the_node_was_off_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    let now = Now::read();
    let expires = Some(now.instant + HOUR);
    let row = (key(1), vec![ProviderRecord { expires, ..provider(1, PeerId::random()) }]);
    let file = File::open(&path).unwrap();
    file.write(&disk::Rows { providers: vec![row], values: Vec::new() }, now).unwrap();
    let (store, later) = (Store::new(PeerId::random()), now.after(HOUR * 2));
    store.restore(file.read(later).unwrap(), later);
    assert!(store.providers(&key(1)).is_empty());
    write_changes(&store, Some(&file)).unwrap();
    drop(file);
    assert!(File::open(&path).unwrap().read(now).unwrap().providers.is_empty());
}

#[tokio::test]
async fn a_damaged_file_is_replaced_by_an_empty_one() {
    let me = PeerId::random();
    let whole = {
        let dir = tempfile::tempdir().unwrap();
        let keeper = Keeper::open(dir.path(), me).await;
        let mut store = keeper.store();
        (0..2000).for_each(|n| store.add_provider(provider(n, PeerId::random())).unwrap());
        close(keeper).await;
        fs::read(dir.path().join(FILE)).unwrap()
    };
    let mut holed = whole.clone();
    let middle = whole.len() / 8;
    holed[middle..middle + 64 * 1024].fill(0xa5);
    for (what, bytes) in [
        ("nonsense", b"nonsense".to_vec()),
        ("much nonsense", vec![7; 1 << 20]),
        ("a cut file", whole[..whole.len() / 3].to_vec()),
        ("a file with a hole", holed),
    ] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), bytes).unwrap();
        let keeper = Keeper::open(dir.path(), me).await;
        assert!(keeper.file.is_some(), "{what}");
        assert!((0..2000).all(|n| keeper.store().providers(&key(n)).is_empty()), "{what}");
        keeper.store().add_provider(provider(1, PeerId::random())).unwrap();
        close(keeper).await;
        assert_eq!(Keeper::open(dir.path(), me).await.store().providers(&key(1)).len(), 1, "{what}");
    }
}

#[test]
fn a_failed_write_is_repeated_with_the_next_changes() {
    let (mut store, peer) = (Store::new(PeerId::random()), PeerId::random());
    store.add_provider(provider(1, peer)).unwrap();
    let taken = store.drain_changes();
    store.add_provider(provider(2, peer)).unwrap();
    store.return_changes(taken);
    let (mut providers, values) = store.drain_changes();
    providers.sort_by_key(RecordKey::to_vec);
    assert_eq!((providers, values), (vec![key(1), key(2)], Vec::new()));
}

#[tokio::test]
async fn the_routing_store_works_without_a_file() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join(FILE)).unwrap();
    let keeper = Keeper::open(dir.path(), PeerId::random()).await;
    assert!(keeper.file.is_none());
    let mut store = keeper.store();
    store.add_provider(provider(1, PeerId::random())).unwrap();
    close(keeper).await;
    assert_eq!(store.providers(&key(1)).len(), 1);
}

#[test]
fn a_sweep_removes_all_expired_records_and_marks_them_as_changed() {
    let (mut store, peer, now) = (Store::new(PeerId::random()), PeerId::random(), Instant::now());
    for n in 0..5000 {
        let expires = Some(now + HOUR * (1 + n % 2));
        store.add_provider(ProviderRecord { expires, ..provider(n, peer) }).unwrap();
    }
    store.drain_changes();
    store.sweep(now + HOUR);
    let (gone, _) = store.drain_changes();
    assert_eq!(gone.len(), 2500);
    assert!(gone.iter().all(|key| store.providers(key).is_empty()));
}
