//! Kademlia: provider records and the queries of the routing system. As Kubo, a node takes part in two of them: one of all
//! peers, and one of those on private addresses, which Kubo's servers leave out of the first.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex},
    time::Duration,
};

use libp2p::{
    Multiaddr, PeerId, StreamProtocol,
    kad::{self, GetClosestPeersError, PeerInfo, QueryId, QueryResult, RecordKey, store::RecordStore},
};
use tokio::sync::{mpsc, oneshot};

use super::{
    Behaviour,
    dht::{Dht, Query},
    on_demand::OnDemand,
    search::ProviderQuery,
};
use crate::{Cid, address::is_local, locked, routing};

const PROTOCOL: StreamProtocol = StreamProtocol::new("/ipfs/kad/1.0.0");
const LAN_PROTOCOL: StreamProtocol = StreamProtocol::new("/ipfs/lan/kad/1.0.0");
const QUERY_TIMEOUT: Duration = Duration::from_secs(30);
/// Peers of one bucket of the local table. All 256 buckets are allocated at once, with room for so many peers: 0.4 MB, beside the
/// megabyte of the other table, whose buckets hold 20.
const LAN_BUCKET: NonZeroUsize = NonZeroUsize::new(8).unwrap();
/// Listen addresses accepted from one peer.
const MAX_ADDRESSES_PER_PEER: usize = 16;

/// One of the two: its peers, and its queries.
pub(super) type Table = kad::Behaviour<routing::Store>;

/// Answers, once all queries of a record have ended, whether a peer accepted it; at the first acceptance at once.
pub(super) struct Acceptance(Mutex<Option<oneshot::Sender<bool>>>);

impl Acceptance {
    fn new(reply: oneshot::Sender<bool>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Some(reply))))
    }

    fn answer(&self, accepted: bool) {
        if let Some(reply) = locked(&self.0).take() {
            let _ = reply.send(accepted);
        }
    }
}

impl Drop for Acceptance {
    fn drop(&mut self) {
        self.answer(false);
    }
}

impl Behaviour {
    pub(super) fn kad(&mut self, dht: Dht) -> &mut Table {
        self.table(dht).get()
    }

    /// Returns a table unless it was never used.
    pub(super) fn used_kad(&mut self, dht: Dht) -> Option<&mut Table> {
        self.table(dht).created()
    }

    fn table(&mut self, dht: Dht) -> &mut OnDemand<Table> {
        match dht {
            Dht::Main => &mut self.behaviours.data.kad,
            Dht::Lan => &mut self.behaviours.data.lan_kad,
        }
    }

    /// Returns the tables that have peers.
    pub(super) fn peopled(&mut self) -> Vec<Dht> {
        let all = [Dht::Main, Dht::Lan];
        let is_peopled = |kad: &mut Table| kad.kbuckets().any(|bucket| !bucket.is_empty());
        all.into_iter().filter(|dht| self.used_kad(*dht).is_some_and(is_peopled)).collect()
    }

    /// Adds a peer to the tables that it answers for. Returns whether it answers for any.
    pub(super) fn add_server(
        &mut self,
        peer: PeerId,
        protocols: &[StreamProtocol],
        addresses: Vec<Multiaddr>,
        is_foreign: bool,
    ) -> bool {
        let is_near = self.peers.is_near(&peer);
        // A private address of a peer that came through NAT leads nowhere, or to another machine.
        let is_usable = |address: &&Multiaddr| is_near || !is_local(address);
        let addresses = || addresses.iter().filter(is_usable).take(MAX_ADDRESSES_PER_PEER).cloned();
        let (main, lan) = (protocols.contains(&PROTOCOL), protocols.contains(&LAN_PROTOCOL));
        match main {
            true => addresses().for_each(|address| {
                self.kad(Dht::Main).add_address(&peer, address);
            }),
            // It may have answered until it found out that it is behind NAT; queries would wait for it.
            false => drop(self.kad(Dht::Main).remove_peer(&peer)),
        }
        // Peers of this program find each other by the first table in a network of their own.
        if lan && (self.public || is_foreign) && is_near {
            let public = self.public;
            for address in addresses().filter(|address| !public || is_local(address)) {
                self.kad(Dht::Lan).add_address(&peer, address);
            }
        }
        main || lan
    }

    /// Returns how many peers answer for the larger table.
    pub(super) fn table_size(&mut self) -> usize {
        let entries = |kad: &mut Table| kad.kbuckets().map(|bucket| bucket.num_entries()).sum();
        let mut size = |dht| self.used_kad(dht).map_or(0, entries);
        size(Dht::Main).max(size(Dht::Lan))
    }

    /// Answers queries of other peers in the table of all peers, or leaves that to peers that can be dialled.
    pub(super) fn serve_dht(&mut self, serves: bool) {
        let mode = if serves { kad::Mode::Server } else { kad::Mode::Client };
        if mode == first_mode(self.public) && self.used_kad(Dht::Main).is_none() {
            return;
        }
        let kad = self.kad(Dht::Main);
        if kad.mode() != mode {
            kad.set_mode(Some(mode));
        }
    }

    pub(super) fn provide(&mut self, cid: &Cid, reply: oneshot::Sender<bool>) {
        let acceptance = Acceptance::new(reply);
        let peopled = self.peopled();
        if peopled.is_empty() {
            // Without peers a query would succeed although the record is stored nowhere else.
            let record = kad::ProviderRecord::new(key_of(cid), self.me, Vec::new());
            let _ = stored(cid, self.records.add_provider(record));
        }
        for dht in peopled {
            if let Some(query) = self.start_providing(cid, dht) {
                self.provides.insert((dht, query), acceptance.clone());
            }
        }
    }

    fn start_providing(&mut self, cid: &Cid, dht: Dht) -> Option<QueryId> {
        stored(cid, self.kad(dht).start_providing(key_of(cid)))
    }

    pub(super) fn withdraw(&mut self, cid: &Cid) {
        self.records.remove_provider(&key_of(cid), &self.me);
    }

    pub(super) fn find_providers(&mut self, cid: &Cid, found: &mpsc::UnboundedSender<PeerId>) {
        for dht in self.searched() {
            let key = key_of(cid);
            let query = self.kad(dht).get_providers(key.clone());
            self.provider_queries.insert((dht, query), ProviderQuery::new(key, found.clone()));
        }
    }

    pub(super) fn put_value(&mut self, record: &kad::Record, reply: oneshot::Sender<bool>) {
        let acceptance = Acceptance::new(reply);
        for dht in self.searched() {
            match self.kad(dht).put_record(record.clone(), kad::Quorum::One) {
                Ok(query) => drop(self.puts.insert((dht, query), acceptance.clone())),
                Err(error) => {
                    tracing::warn!(%error, "cannot put an IPNS record into the routing system");
                }
            }
        }
    }

    pub(super) fn find_values(&mut self, key: &RecordKey, found: &mpsc::UnboundedSender<Vec<u8>>) {
        for dht in self.searched() {
            let query = self.kad(dht).get_record(key.clone());
            self.values.insert((dht, query), found.clone());
        }
    }

    /// Returns the tables to query. One that has no peers answers from this node's own records.
    fn searched(&mut self) -> Vec<Dht> {
        let peopled = self.peopled();
        if peopled.is_empty() { vec![Dht::Main] } else { peopled }
    }

    pub(super) fn on_query(&mut self, query: Query, result: QueryResult, last: bool) {
        match result {
            QueryResult::StartProviding(result) => {
                if let Some(acceptance) = self.provides.remove(&query).filter(|_| result.is_ok()) {
                    acceptance.answer(true);
                }
            }
            QueryResult::GetProviders(Ok(kad::GetProvidersOk::FoundProviders { providers, .. })) => {
                self.on_providers(query, providers);
            }
            QueryResult::GetClosestPeers(result) => {
                let peers = match result {
                    Ok(found) => found.peers,
                    Err(GetClosestPeersError::Timeout { peers, .. }) => peers,
                };
                self.on_closest(query, peers.into_iter().map(|PeerInfo { peer_id, addrs }| (peer_id, addrs)));
            }
            QueryResult::PutRecord(result) => {
                if let Some(acceptance) = self.puts.remove(&query).filter(|_| result.is_ok()) {
                    acceptance.answer(true);
                }
            }
            QueryResult::GetRecord(Ok(kad::GetRecordOk::FoundRecord(found))) => {
                if let Some(values) = self.values.get(&query) {
                    let _ = values.send(found.record.value);
                }
            }
            _ => {}
        }
        if last {
            self.provider_queries.remove(&query);
            self.values.remove(&query);
        }
    }
}

/// What came of storing this node's own provider record.
fn stored<T>(cid: &Cid, result: Result<T, kad::store::Error>) -> Option<T> {
    result.inspect_err(|error| tracing::warn!(%cid, %error, "cannot announce")).ok()
}

fn key_of(cid: &Cid) -> RecordKey {
    RecordKey::from(cid.hash().to_bytes())
}

/// The Kademlia behaviours of both tables, which serve from one store. An idle node without peers has neither.
pub(super) fn behaviours(
    id: PeerId,
    store: &routing::Store,
    public: bool,
) -> (OnDemand<Table>, OnDemand<Table>) {
    let with_mode = move |protocol: StreamProtocol, store: routing::Store, mode, bucket| {
        OnDemand::new(move || {
            let mut config = kad::Config::new(protocol.clone());
            config
                .set_query_timeout(QUERY_TIMEOUT)
                .set_kbucket_size(bucket)
                .set_record_filtering(kad::StoreInserts::FilterBoth)
                // The announcer republishes provider records and reports its progress.
                .set_provider_publication_interval(None);
            let mut kad = kad::Behaviour::with_config(id, store.clone(), config);
            kad.set_mode(Some(mode));
            kad
        })
    };
    // On the public network a node does not tell of private addresses.
    let main = if public { store.hiding_private_addresses() } else { store.clone() };
    let lan = with_mode(LAN_PROTOCOL, store.clone(), kad::Mode::Server, LAN_BUCKET);
    (with_mode(PROTOCOL, main, first_mode(public), kad::K_VALUE), lan)
}

/// On the public network a node serves once it can be dialled.
fn first_mode(public: bool) -> kad::Mode {
    if public { kad::Mode::Client } else { kad::Mode::Server }
}
