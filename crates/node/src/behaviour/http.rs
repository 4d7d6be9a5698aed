//! Providers whose records name an HTTP server.

use std::collections::HashSet;

use libp2p::{PeerId, kad::store::RecordStore};

use super::{Behaviour, dht::Query};

impl Behaviour {
    /// Lets providers be asked over HTTP whose records say so, beside Bitswap.
    pub(super) fn ask_over_http(&mut self, query: Query, providers: &HashSet<PeerId>) {
        let (Some(http), Some(search)) = (self.http.clone(), self.provider_queries.get(&query)) else {
            return;
        };
        let (dht, key) = (query.0, search.key.clone());
        // The query knows the addresses that peers sent, the store those of the records that it keeps.
        let stored = self.kad(dht).store_mut().providers(&key);
        let me = self.me;
        for peer in providers.iter().filter(|peer| **peer != me) {
            let sent = self.query_addresses(dht, *peer);
            let stored = stored.iter().filter(|record| record.provider == *peer);
            http.found(sent.iter().chain(stored.flat_map(|record| &record.addresses)));
        }
    }
}
