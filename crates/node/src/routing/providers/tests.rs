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

/// Returns the providers of a key in the table, without this node.
fn peers(providers: &Providers, n: u32, now: Instant) -> Vec<PeerId> {
    providers.get(&key(n), now).into_iter().map(|record| record.provider).collect()
}

#[test]
fn a_flood_of_provider_records_is_bounded_and_evicts_no_own_record() {
    let (me, now) = (PeerId::random(), Instant::now());
    let mut providers = Providers::new(me);
    (0..1000).for_each(|n| providers.add(record(n, me), now).unwrap());
    let flood = CAPACITY.keys as u32 + 10_000;
    let peer = PeerId::random();
    let kept = (0..flood).filter(|n| providers.add(record(*n, peer), now).is_ok()).count();
    assert!(kept < flood as usize);
    assert_eq!(providers.foreign.iter().count(), CAPACITY.keys);
    assert_eq!(providers.own().count(), 1000);
    assert!((0..1000).all(|n| peers(&providers, n, now).contains(&me)));
    providers.add(record(flood, me), now).unwrap();
    assert_eq!(peers(&providers, flood, now), [me], "full of others' keys, it takes ours");
    providers.remove(&key(flood), &me);
    assert!(peers(&providers, flood, now).is_empty());
}

#[test]
fn a_provider_record_is_truncated_to_its_limits() {
    let (mut providers, now) = (Providers::new(PeerId::random()), Instant::now());
    let address = |n: usize| -> Multiaddr { format!("/ip4/127.0.0.1/tcp/{n}").parse().unwrap() };
    let long = |n: usize| -> Multiaddr { format!("/dns4/{}/tcp/{n}", "x".repeat(200)).parse().unwrap() };
    for (n, addresses, kept) in [
        (1, (1..100).map(address).collect::<Vec<_>>(), MAX_ADDRESSES_PER_PROVIDER),
        (2, (1..100).map(long).collect(), 2),
    ] {
        providers.add(ProviderRecord { addresses, ..record(n, PeerId::random()) }, now).unwrap();
        assert_eq!(providers.get(&key(n), now)[0].addresses.len(), kept);
    }
    let long_key =
        ProviderRecord { key: RecordKey::new(&[0; MAX_KEY_BYTES + 1]), ..record(3, PeerId::random()) };
    assert!(providers.add(long_key, now).is_err());
}

#[test]
fn a_provider_record_expires_at_its_expiry_and_after_48_hours_at_most() {
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
fn a_key_has_twenty_providers_and_a_stale_one_is_replaced() {
    let (mut providers, start) = (Providers::new(PeerId::random()), Instant::now());
    let first: Vec<_> = (0..MAX_PROVIDERS_PER_KEY).map(|_| PeerId::random()).collect();
    first.iter().for_each(|peer| providers.add(record(1, *peer), start).unwrap());
    let new_provider = PeerId::random();
    assert!(providers.add(record(1, new_provider), start + HOUR * 23).is_err());
    let later = start + HOUR * 25;
    first[1..].iter().for_each(|peer| providers.add(record(1, *peer), later).unwrap());
    providers.add(record(1, new_provider), later).unwrap();
    let kept = peers(&providers, 1, later);
    assert!(kept.contains(&new_provider) && !kept.contains(&first[0]));
    assert_eq!(kept.len(), MAX_PROVIDERS_PER_KEY);
}

#[test]
fn sybil_providers_of_a_key_do_not_hide_a_preferred_provider() {
    let (mut providers, now) = (Providers::new(PeerId::random()), Instant::now());
    let [real, stranger] = [(); 2].map(|()| PeerId::random());
    let sender = || SenderInfo { network: None, is_preferred: |peer: &PeerId| *peer == real };
    let mut add = |peer| providers.add_from(record(1, peer), now, sender()).is_ok();
    assert!((0..MAX_PROVIDERS_PER_KEY).all(|_| add(PeerId::random())));
    assert!(!add(stranger) && add(real));
    assert!((0..100).all(|_| !add(PeerId::random())));
    let kept = peers(&providers, 1, now);
    assert!(kept.contains(&real) && kept.len() == MAX_PROVIDERS_PER_KEY);
    // A provider that missed its republication is still kept before strangers.
    let later = now + HOUR * 30;
    for _ in 0..100 {
        let _ = providers.add_from(record(1, PeerId::random()), later, sender());
    }
    assert!(peers(&providers, 1, later).contains(&real));
}

#[test]
fn sybil_providers_of_one_network_do_not_hide_a_provider_of_another() {
    let (mut providers, now) = (Providers::new(PeerId::random()), Instant::now());
    let mut add = |peer, network: u8| {
        let sender =
            SenderInfo { network: Some([192, 0, 2, network].into()), is_preferred: |_: &PeerId| false };
        providers.add_from(record(1, peer), now, sender).is_ok()
    };
    assert!((0..MAX_PROVIDERS_PER_KEY).all(|_| add(PeerId::random(), 1)));
    let strangers: Vec<_> = (2..12).map(|network| (PeerId::random(), network)).collect();
    assert!(strangers.iter().all(|(peer, network)| add(*peer, *network)));
    assert!((0..100).all(|_| !add(PeerId::random(), 1)), "the crowd comes back");
    // Nor does a second network with many providers.
    for _ in 0..100 {
        let _ = add(PeerId::random(), 200);
    }
    let kept = peers(&providers, 1, now);
    assert!(strangers.iter().all(|(peer, _)| kept.contains(peer)) && kept.len() == MAX_PROVIDERS_PER_KEY);
}

#[test]
fn provider_records_share_addresses_and_the_number_of_providers_is_bounded() {
    let (mut providers, now) = (Providers::new(PeerId::random()), Instant::now());
    let peer = PeerId::random();
    (0..1000).for_each(|n| providers.add(record(n, peer), now).unwrap());
    assert!(providers.known.bytes() < 1000, "{}", providers.known.bytes());
    let long: Vec<Multiaddr> =
        (1000..1016).map(|n| format!("/ip4/127.0.0.1/tcp/{n}").parse().unwrap()).collect();
    for n in 0..20_000 {
        let addresses = long.clone();
        let _ = providers.add(ProviderRecord { addresses, ..record(n, PeerId::random()) }, now);
        assert!(providers.known.bytes() <= MAX_KNOWN_BYTES);
    }
    assert!(providers.foreign.iter().count() > 1000);
    // A provider whose addresses change with each record takes no further memory and evicts nothing.
    let kept = providers.foreign.iter().count();
    for n in 0..5000u16 {
        let addresses = vec![format!("/ip4/127.0.0.1/tcp/{n}").parse().unwrap()];
        let _ = providers.add(ProviderRecord { addresses, ..record(n.into(), peer) }, now);
    }
    assert!(providers.foreign.iter().count() >= kept);
    let (mut from, later) = (None, now + RECORD_LIFETIME);
    while let Some(last) = providers.sweep(from, later) {
        from = Some(last);
    }
    assert_eq!(providers.known.bytes(), 0);
}
