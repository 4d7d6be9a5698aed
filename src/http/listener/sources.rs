//! How many connections one source may hold: a stranger does not keep all others out.
//!
//! A proxy or a network may stand for many clients. So a source has three of four places at least, and more while others leave
//! them free, up to a reserve for the others.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;

use crate::http::{lock::locked, source::Source};

/// Refused connections are warned of once in this time.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// Connections by their source. Clones share them.
#[derive(Clone)]
pub struct Sources(Arc<Inner>);

struct Inner {
    counts: Mutex<HashMap<Source, usize>>,
    /// Places that any source may have.
    share: usize,
    /// Places that a source which has its share does not get.
    reserve: usize,
    warned: Mutex<Option<Instant>>,
}

/// A connection that is counted until this is dropped.
pub struct Counted {
    source: Source,
    sources: Sources,
}

impl Sources {
    /// Divides so many places: three of four for any source, one of eight in reserve. Of two or three, one is left for others.
    pub fn new(places: usize) -> Self {
        let (share, reserve) = ((places - places.div_ceil(4)).max(1), places.div_ceil(8));
        Self(Arc::new(Inner { counts: Mutex::default(), share, reserve, warned: Mutex::default() }))
    }

    /// Counts a connection which leaves so many places free; none if its source has its share and few are left for others. A proxy on
    /// this machine may have all.
    pub fn admit(&self, address: IpAddr, free: usize) -> Option<Counted> {
        let source = Source::of(address);
        let mut counts = locked(&self.0.counts);
        let count = counts.entry(source).or_default();
        if *count >= self.0.share && free < self.0.reserve && !source.is_loopback() {
            return None;
        }
        *count += 1;
        Some(Counted { source, sources: self.clone() })
    }

    /// Logs a connection that was not admitted. They may come by the thousand.
    pub fn log_refused(&self, peer: SocketAddr) {
        match self.is_warning_due() {
            true => tracing::warn!(
                client = %peer.ip(),
                "connections closed: this address has three quarters of all, and few are left for others"
            ),
            false => tracing::debug!(%peer, "connection closed: too many of this address"),
        }
    }

    fn is_warning_due(&self) -> bool {
        let mut warned = locked(&self.0.warned);
        let is_due = warned.is_none_or(|last| last.elapsed() >= WARNING_INTERVAL);
        if is_due {
            *warned = Some(Instant::now());
        }
        is_due
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = locked(&self.sources.0.counts);
        if let Some(count) = counts.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_source_has_more_than_its_share_while_places_are_free_and_keeps_no_other_out() {
        let sources = Sources::new(16);
        let mut free = 16;
        let mut admit = |text: &str| {
            let counted = sources.admit(address(text), free - 1);
            free -= usize::from(counted.is_some());
            counted
        };
        let held: Vec<_> = (0..14).map(|n| admit(&format!("2001:db8::{n}")).unwrap()).collect();
        assert!(admit("2001:db8::f").is_none(), "two are left for others");
        let others = [admit("192.0.2.1").unwrap(), admit("192.0.2.1").unwrap()];
        drop((held, others));
        assert!(locked(&sources.0.counts).is_empty(), "a source without a connection is forgotten");
    }

    #[test]
    fn a_proxy_on_this_machine_may_have_all_places() {
        let sources = Sources::new(4);
        let proxied: Vec<_> =
            (0..4).rev().map(|free| sources.admit(address("127.0.0.1"), free).unwrap()).collect();
        assert_eq!(proxied.len(), 4);
    }

    #[test]
    fn of_a_few_places_one_is_left_for_others() {
        for (places, most) in [(1, 1), (2, 1), (3, 2), (4, 3), (8, 7)] {
            let sources = Sources::new(places);
            let admitted: Vec<_> =
                (0..places).rev().map_while(|free| sources.admit(address("192.0.2.1"), free)).collect();
            assert_eq!(admitted.len(), most, "of {places}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn refused_connections_are_warned_of_once_in_a_while() {
        let sources = Sources::new(4);
        assert!(sources.is_warning_due() && !sources.is_warning_due());
        tokio::time::advance(WARNING_INTERVAL).await;
        assert!(sources.is_warning_due() && !sources.is_warning_due());
    }
}
