use std::time::Duration;

use libp2p::Multiaddr;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn key(n: u32) -> RecordKey {
    RecordKey::new(&n.to_be_bytes())
}

fn record(n: u32, provider: PeerId) -> ProviderRecord {
    ProviderRecord::new(key(n), provider, vec!["/ip4/127.0.0.1/tcp/4001".parse().unwrap()])
}

/// What a table has under `key`, of others.
fn peers(providers: &Providers, n: u32, now: Instant) -> Vec<PeerId> {
    providers.get(&key(n), now).into_iter().map(|record| record.provider).collect()
}

#[test]
fn a_flood_is_bounded_and_takes_nothing_of_our_own() {
    let (me, now) = (PeerId::random(), Instant::now());
    let mut providers = Providers::new(me);
    (0..1000).for_each(|n| providers.add(record(n, me), now).unwrap());
    let flood = ROOM.keys as u32 + 10_000;
    let peer = PeerId::random();
    let kept = (0..flood).filter(|n| providers.add(record(*n, peer), now).is_ok()).count();
    assert!(kept < flood as usize);
    assert_eq!(providers.foreign.iter().count(), ROOM.keys);
    assert_eq!(providers.own().count(), 1000);
    assert!((0..1000).all(|n| peers(&providers, n, now).contains(&me)));
    providers.add(record(flood, me), now).unwrap();
    assert_eq!(peers(&providers, flood, now), [me], "full of others' keys, it takes ours");
    providers.remove(&key(flood), &me);
    assert!(peers(&providers, flood, now).is_empty());
}

#[test]
fn a_record_is_cut_to_what_is_kept_of_one() {
    let (mut providers, now) = (Providers::new(PeerId::random()), Instant::now());
    let address = |n: usize| -> Multiaddr { format!("/ip4/127.0.0.1/tcp/{n}").parse().unwrap() };
    let long = |n: usize| -> Multiaddr { format!("/dns4/{}/tcp/{n}", "x".repeat(200)).parse().unwrap() };
    for (n, addresses, kept) in [
        (1, (1..100).map(address).collect::<Vec<_>>(), ADDRESSES_OF_A_PROVIDER),
        (2, (1..100).map(long).collect(), 4),
    ] {
        providers.add(ProviderRecord { addresses, ..record(n, PeerId::random()) }, now).unwrap();
        assert_eq!(providers.get(&key(n), now)[0].addresses.len(), kept);
    }
    let long_key = ProviderRecord { key: RecordKey::new(&[0; KEY_BYTES + 1]), ..record(3, PeerId::random()) };
    assert!(providers.add(long_key, now).is_err());
}

#[test]
fn a_record_lives_as_long_as_it_says_and_two_days_at_most() {
    let (mut providers, now) = (Providers::new(PeerId::random()), Instant::now());
    let until = |hours| Some(now + HOUR * hours);
    for (n, expires, ends) in [(1, None, 48), (2, until(90), 48), (3, until(3), 3)] {
        providers.add(ProviderRecord { expires, ..record(n, PeerId::random()) }, now).unwrap();
        let end = now + HOUR * ends;
        assert_eq!(peers(&providers, n, end - Duration::from_secs(1)).len(), 1, "{n}");
        assert!(peers(&providers, n, end).is_empty(), "{n}");
    }
    providers.sweep(None, now + HOUR * 3);
    assert_eq!(providers.foreign.iter().count(), 2);
    assert!(
        providers.add(ProviderRecord { expires: Some(now), ..record(4, PeerId::random()) }, now).is_err()
    );
}

#[test]
fn a_key_has_twenty_providers_and_who_missed_its_repetition_gives_way() {
    let (mut providers, start) = (Providers::new(PeerId::random()), Instant::now());
    let first: Vec<_> = (0..PROVIDERS_OF_A_KEY).map(|_| PeerId::random()).collect();
    first.iter().for_each(|peer| providers.add(record(1, *peer), start).unwrap());
    let newcomer = PeerId::random();
    assert!(providers.add(record(1, newcomer), start + HOUR * 23).is_err());
    let later = start + HOUR * 25;
    first[1..].iter().for_each(|peer| providers.add(record(1, *peer), later).unwrap());
    providers.add(record(1, newcomer), later).unwrap();
    let kept = peers(&providers, 1, later);
    assert!(kept.contains(&newcomer) && !kept.contains(&first[0]));
    assert_eq!(kept.len(), PROVIDERS_OF_A_KEY);
}

#[test]
fn twenty_sybil_providers_of_a_key_do_not_hide_a_preferred_one_that_comes_later() {
    let (mut providers, now) = (Providers::new(PeerId::random()), Instant::now());
    let [real, stranger] = [(); 2].map(|()| PeerId::random());
    let sender = || Sender { network: None, is_preferred: |peer: &PeerId| *peer == real };
    let mut add = |peer| providers.add_from(record(1, peer), now, sender()).is_ok();
    assert!((0..PROVIDERS_OF_A_KEY).all(|_| add(PeerId::random())));
    assert!(!add(stranger) && add(real));
    assert!((0..100).all(|_| !add(PeerId::random())));
    let kept = peers(&providers, 1, now);
    assert!(kept.contains(&real) && kept.len() == PROVIDERS_OF_A_KEY);
    // One that missed its repetition is still kept before strangers.
    let later = now + HOUR * 30;
    for _ in 0..100 {
        let _ = providers.add_from(record(1, PeerId::random()), later, sender());
    }
    assert!(peers(&providers, 1, later).contains(&real));
}

#[test]
fn sybil_providers_of_one_network_do_not_hide_a_stranger_from_another_network() {
    let (mut providers, now) = (Providers::new(PeerId::random()), Instant::now());
    let mut add = |peer, network: u8| {
        let sender = Sender { network: Some([192, 0, 2, network].into()), is_preferred: |_: &PeerId| false };
        providers.add_from(record(1, peer), now, sender).is_ok()
    };
    assert!((0..PROVIDERS_OF_A_KEY).all(|_| add(PeerId::random(), 1)));
    let strangers: Vec<_> = (2..12).map(|network| (PeerId::random(), network)).collect();
    assert!(strangers.iter().all(|(peer, network)| add(*peer, *network)));
    assert!((0..100).all(|_| !add(PeerId::random(), 1)), "the crowd comes back");
    // Nor does a second network with many.
    for _ in 0..100 {
        let _ = add(PeerId::random(), 200);
    }
    let kept = peers(&providers, 1, now);
    assert!(strangers.iter().all(|(peer, _)| kept.contains(peer)) && kept.len() == PROVIDERS_OF_A_KEY);
}

#[test]
fn records_of_one_provider_share_its_addresses_and_many_providers_are_bounded() {
    let (mut providers, now) = (Providers::new(PeerId::random()), Instant::now());
    let peer = PeerId::random();
    (0..1000).for_each(|n| providers.add(record(n, peer), now).unwrap());
    assert!(providers.sources.bytes() < 1000, "{}", providers.sources.bytes());
    let long: Vec<Multiaddr> =
        (1000..1016).map(|n| format!("/ip4/127.0.0.1/tcp/{n}").parse().unwrap()).collect();
    for n in 0..20_000 {
        let addresses = long.clone();
        let _ = providers.add(ProviderRecord { addresses, ..record(n, PeerId::random()) }, now);
        assert!(providers.sources.bytes() <= SOURCES_BYTES);
    }
    assert!(providers.foreign.iter().count() > 1000);
    let (mut from, later) = (None, now + LIFETIME);
    while let Some(last) = providers.sweep(from, later) {
        from = Some(last);
    }
    assert_eq!(providers.sources.bytes(), 0);
}
