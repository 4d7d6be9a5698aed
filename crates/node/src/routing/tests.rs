use futures::StreamExt;
use libp2p::{
    Multiaddr, Swarm, SwarmBuilder,
    identity::Keypair,
    kad::{self, GetRecordOk, QueryResult, Quorum, store::MemoryStore},
    noise,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    ipns::tests::{record, v2_only},
    *,
};
use crate::{
    Cid,
    announcer::Announcer,
    behaviour::{Behaviour, BehaviourSettings},
    bitswap,
    command::SwarmCommand,
    no_blocks::NoBlocks,
    peers::Peers,
};

const HOUR: Duration = Duration::from_secs(3600);
const SOON: Duration = Duration::from_secs(60);

/// Starts a swarm on loopback, and returns its listen address.
async fn swarm<B: NetworkBehaviour>(key: Keypair, behaviour: B) -> (Swarm<B>, Multiaddr) {
    let mut swarm = SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|_| behaviour)
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(SOON))
        .build();
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            return (swarm, address);
        }
    }
}

/// This node's behaviour in a swarm of its own.
struct Peer {
    id: PeerId,
    address: Multiaddr,
    store: Store,
    peers: Peers,
    commands: mpsc::Sender<SwarmCommand>,
    task: tokio::task::JoinHandle<()>,
}

impl Peer {
    async fn start(dial: Option<&Multiaddr>) -> Self {
        let key = Keypair::generate_ed25519();
        let id = key.public().to_peer_id();
        let (store, peers, (commands, inbox)) =
            (Store::new(id), Peers::open(&crate::Options::new("unused"), &[]), mpsc::channel(256));
        let settings =
            BehaviourSettings { trust_listen_addresses: true, ..BehaviourSettings::of_tests(false) };
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let (bitswap, ..) =
            bitswap::start(Arc::new(NoBlocks), Default::default(), Default::default(), &tasks, &stop);
        let (hear, _) = mpsc::channel(1);
        let behaviour =
            Behaviour::new(&key, settings, bitswap, (inbox, hear), peers.clone(), store.clone()).unwrap();
        let (mut swarm, address) = swarm(key, behaviour).await;
        if let Some(address) = dial {
            swarm.dial(address.clone()).unwrap();
        }
        let task = tokio::spawn(async move { while swarm.next().await.is_some() {} });
        Self { id, address, store, peers, commands, task }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A peer of another implementation, which stores and sends anything.
struct Stranger(Swarm<kad::Behaviour<MemoryStore>>);

impl Stranger {
    async fn start(knows: &Peer) -> Self {
        let key = Keypair::generate_ed25519();
        let id = key.public().to_peer_id();
        let config = kad::Config::new(libp2p::StreamProtocol::new("/ipfs/kad/1.0.0"));
        let behaviour = kad::Behaviour::with_config(id, MemoryStore::new(id), config);
        let (mut swarm, _) = swarm(key, behaviour).await;
        swarm.behaviour_mut().add_address(&knows.id, knows.address.clone());
        Self(swarm)
    }

    async fn result(&mut self) -> QueryResult {
        let ended = async {
            loop {
                if let SwarmEvent::Behaviour(kad::Event::OutboundQueryProgressed { result, .. }) =
                    self.0.select_next_some().await
                    && !matches!(result, QueryResult::Bootstrap(_))
                {
                    return result;
                }
            }
        };
        tokio::time::timeout(SOON, ended).await.expect("the query ends")
    }

    /// Puts a value to every peer that it knows.
    async fn put(&mut self, key: &RecordKey, value: Vec<u8>) {
        self.0.behaviour_mut().put_record(Record::new(key.clone(), value), Quorum::One).unwrap();
        let result = self.result().await;
        assert!(matches!(result, QueryResult::PutRecord(Ok(_))), "{result:?}");
    }
}

#[tokio::test]
async fn a_valid_ipns_record_is_stored_and_served_and_a_forged_one_is_rejected() {
    let peer = Peer::start(None).await;
    let mut stranger = Stranger::start(&peer).await;
    let (name, forger, until) =
        (Keypair::generate_ed25519(), Keypair::generate_ed25519(), std::time::SystemTime::now() + HOUR);
    let key: RecordKey = [&b"/ipns/"[..], &name.public().to_peer_id().to_bytes()].concat().into();
    stranger.put(&key, record(&forger, 9, until)).await;
    assert_eq!(peer.store.get(&key), None);
    let valid = record(&name, 1, until);
    stranger.put(&key, valid.clone()).await;
    assert_eq!(peer.store.get(&key).unwrap().value, valid);
    stranger.put(&key, record(&forger, 10, until)).await;
    stranger.put(&key, record(&name, 0, until)).await;
    stranger.put(&RecordKey::new(&"/other/key"), valid.clone()).await;
    let kept: Vec<_> = peer.store.records().map(|record| record.into_owned().value).collect();
    assert_eq!(kept, std::slice::from_ref(&valid));
    // A newer one without the fields of version 1.
    let valid = v2_only(&name, until);
    stranger.put(&key, valid.clone()).await;
    assert_eq!(peer.store.get(&key).unwrap().value, valid);

    let mut reader = Stranger::start(&peer).await;
    reader.0.behaviour_mut().get_record(key);
    match reader.result().await {
        QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(found))) => assert_eq!(found.record.value, valid),
        other => panic!("{other:?}"),
    }
}

/// Forwards this many announcements, and waits until each was answered.
async fn forward(keys: usize, asked: &mut mpsc::Receiver<SwarmCommand>, to: &mpsc::Sender<SwarmCommand>) {
    let mut answers = tokio::task::JoinSet::new();
    for _ in 0..keys {
        let Some(SwarmCommand::Provide(cid, reply)) = asked.recv().await else { panic!("no announcement") };
        let (told, answer) = oneshot::channel();
        to.send(SwarmCommand::Provide(cid, told)).await.unwrap();
        answers.spawn(async move { reply.send(answer.await.unwrap()).unwrap() });
    }
    answers.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_thousand_keys_are_announced_in_the_dht_in_seconds() {
    const KEYS: u32 = 3000;
    let hearer = Peer::start(None).await;
    let teller = Peer::start(Some(&hearer.address)).await;
    teller.peers.joins().wait_for(|size| *size > 0).await.unwrap();
    let cid = |n: u32| {
        let mut digest = [0; 32];
        digest[..4].copy_from_slice(&n.to_be_bytes());
        Cid::new_v1(0x55, cid::multihash::Multihash::wrap(0x12, &digest).unwrap())
    };
    let (announcer, (commands, mut asked)) = (Announcer::default(), mpsc::channel(256));
    announcer.add((0..KEYS).map(cid));
    let run =
        tokio::spawn(announcer.clone().run(commands, (teller.peers.joins(), teller.peers.moves()), HOUR));
    let all = forward(KEYS as usize, &mut asked, &teller.commands);
    tokio::time::timeout(SOON, all).await.expect("all are told");
    let heard = |n: &u32| {
        let records = hearer.store.providers(&cid(*n).hash().to_bytes().into());
        records.iter().any(|record| record.provider == teller.id && !record.addresses.is_empty())
    };
    // A provider record has no answer, so the last ones may still be in transit; and the announcer has its answers to read.
    let all = async {
        while !(0..KEYS).all(|n| heard(&n)) || announcer.status().announced < KEYS as usize {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, all).await.expect("all are heard and count as announced");
    run.abort();
}

#[test]
fn private_addresses_of_providers_are_kept_from_the_public_network() {
    let me = PeerId::random();
    let mut store = Store::new(me);
    let mut outside = store.hiding_private_addresses();
    let key = RecordKey::new(&[1]);
    let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Multiaddr>>();
    let (lan, public) = ("/ip4/192.168.0.1/tcp/1", "/ip4/203.0.113.1/tcp/1");
    let (one, both) = (PeerId::random(), PeerId::random());
    store.add_provider(ProviderRecord::new(key.clone(), one, parse(&[lan]))).unwrap();
    outside.add_provider(ProviderRecord::new(key.clone(), both, parse(&[lan, public]))).unwrap();
    store.add_provider(ProviderRecord::new(key.clone(), me, Vec::new())).unwrap();
    assert_eq!(store.providers(&key).len(), 3);
    let told = outside.providers(&key);
    assert_eq!(told.len(), 2, "this node and one with a public address");
    assert!(told.iter().any(|record| record.provider == both && record.addresses == parse(&[public])));
    assert!(told.iter().any(|record| record.provider == me));
}
