//! How many connections one source may hold: a stranger does not keep all others out.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex},
};

use crate::http::{lock::locked, source::Source};

/// Connections by their source. Clones share them.
#[derive(Clone)]
pub struct Sources {
    counts: Arc<Mutex<HashMap<Source, usize>>>,
    most: usize,
}

/// A connection that is counted until this is dropped.
pub struct Counted {
    source: Source,
    sources: Sources,
}

impl Sources {
    /// Allows one source as many.
    pub fn new(most: usize) -> Self {
        Self { counts: Arc::default(), most }
    }

    /// Counts a connection; none if its source has as many as it may. A proxy on this machine may have all.
    pub fn admit(&self, address: IpAddr) -> Option<Counted> {
        let source = Source::of(address);
        let mut counts = locked(&self.counts);
        let count = counts.entry(source).or_default();
        if *count >= self.most && !source.is_loopback() {
            return None;
        }
        *count += 1;
        Some(Counted { source, sources: self.clone() })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = locked(&self.sources.counts);
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

    #[test]
    fn a_source_with_all_the_connections_that_it_may_have_keeps_no_other_out() {
        let sources = Sources::new(3);
        let admit = |text: &str| sources.admit(text.parse().unwrap());
        let mut held: Vec<_> = (0..3).map(|n| admit(&format!("2001:db8::{n}")).unwrap()).collect();
        assert!(admit("2001:db8::9").is_none());
        let _other = admit("192.0.2.1").unwrap();
        held.pop();
        held.push(admit("2001:db8::9").unwrap());
        let _proxied: Vec<_> = (0..9).map(|_| admit("127.0.0.1").unwrap()).collect();
        drop(held);
        assert_eq!(locked(&sources.counts).len(), 2, "a source without a connection is forgotten");
    }
}
