//! Kademlia: provider records and the queries of the routing system.

use std::{collections::HashSet, time::Duration};

use libp2p::{
    PeerId, StreamProtocol,
    kad::{self, QueryId, QueryResult, RecordKey},
    swarm::{ToSwarm, dial_opts::DialOpts},
};
use tokio::sync::{mpsc, oneshot};

use super::Behaviour;
use crate::{Cid, routing};

pub(super) const PROTOCOL: StreamProtocol = StreamProtocol::new("/ipfs/kad/1.0.0");
const QUERY_TIMEOUT: Duration = Duration::from_secs(30);
/// Providers dialled per search; boxo stops at ten too.
const MAX_DIALLED_PROVIDERS: usize = 10;

/// A search for the providers of a CID.
pub(super) struct ProviderQuery {
    pub key: RecordKey,
    found: mpsc::UnboundedSender<PeerId>,
    dialled: usize,
}

impl Behaviour {
    pub(super) fn provide(&mut self, cid: &Cid, reply: oneshot::Sender<bool>) {
        // Without peers the query would succeed although the record is stored nowhere.
        let alone = self.behaviours.kad.kbuckets().all(|bucket| bucket.is_empty());
        match self.behaviours.kad.start_providing(key_of(cid)) {
            Ok(query) if !alone => {
                self.provides.insert(query, reply);
            }
            Ok(_) => {
                let _ = reply.send(false);
            }
            Err(error) => {
                tracing::warn!(%cid, %error, "cannot announce");
                let _ = reply.send(false);
            }
        }
    }

    pub(super) fn withdraw(&mut self, cid: &Cid) {
        self.behaviours.kad.stop_providing(&key_of(cid));
    }

    pub(super) fn find_providers(&mut self, cid: &Cid, found: mpsc::UnboundedSender<PeerId>) {
        let key = key_of(cid);
        let query = self.behaviours.kad.get_providers(key.clone());
        self.provider_queries.insert(query, ProviderQuery { key, found, dialled: 0 });
    }

    pub(super) fn on_query(&mut self, id: QueryId, result: QueryResult, last: bool) {
        match result {
            QueryResult::StartProviding(result) => {
                if let Some(reply) = self.provides.remove(&id) {
                    let _ = reply.send(result.is_ok());
                }
            }
            QueryResult::GetProviders(Ok(kad::GetProvidersOk::FoundProviders { providers, .. })) => {
                self.on_providers(id, providers);
            }
            QueryResult::PutRecord(result) => {
                if let Some(reply) = self.puts.remove(&id) {
                    let _ = reply.send(result.is_ok());
                }
            }
            QueryResult::GetRecord(Ok(kad::GetRecordOk::FoundRecord(found))) => {
                if let Some(values) = self.values.get(&id) {
                    let _ = values.send(found.record.value);
                }
            }
            _ => {}
        }
        if last {
            self.provider_queries.remove(&id);
            self.values.remove(&id);
        }
    }

    /// Dials while the query is running: only then does Kademlia know the providers' addresses.
    fn on_providers(&mut self, id: QueryId, providers: HashSet<PeerId>) {
        self.ask_over_http(id, &providers);
        let Some(search) = self.provider_queries.get_mut(&id) else { return };
        for peer in providers {
            let _ = search.found.send(peer);
            if peer != self.me && !self.peers.is_connected(&peer) && search.dialled < MAX_DIALLED_PROVIDERS {
                search.dialled += 1;
                self.peers.want(peer);
                self.queue.push_back(ToSwarm::Dial { opts: DialOpts::peer_id(peer).build() });
            }
        }
    }
}

fn key_of(cid: &Cid) -> RecordKey {
    RecordKey::from(cid.hash().to_bytes())
}

/// Creates the Kademlia behaviour.
pub(super) fn behaviour(
    id: PeerId,
    store: routing::Store,
    always_serve: bool,
) -> kad::Behaviour<routing::Store> {
    let mut config = kad::Config::new(PROTOCOL);
    config
        .set_query_timeout(QUERY_TIMEOUT)
        .set_record_filtering(kad::StoreInserts::FilterBoth)
        // The announcer republishes provider records and reports its progress.
        .set_provider_publication_interval(None);
    let mut kad = kad::Behaviour::with_config(id, store, config);
    if always_serve {
        kad.set_mode(Some(kad::Mode::Server));
    }
    kad
}
