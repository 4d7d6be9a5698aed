//! The providers of one key.

use std::{slice, sync::Arc, time::Instant};

use super::known::KnownProvider;
use crate::routing::{
    clock::Seconds,
    nearest::{RankedRow, Remaining},
};

/// Bytes of a key in the table, with one provider: its distance, the key and the row, in nodes that are two thirds full.
const ROW_OVERHEAD: usize = 170;

/// A record of another peer.
pub struct Provider {
    pub provider: Arc<KnownProvider>,
    pub expires: Seconds,
}

impl Provider {
    pub fn is_expired(&self, now: Instant) -> bool {
        self.expires.instant() <= now
    }
}

/// The records of one key. Most keys have one provider, which needs no allocation.
pub enum Row {
    One(Provider),
    Many(Vec<Provider>),
}

impl Row {
    pub fn as_slice(&self) -> &[Provider] {
        match self {
            Self::One(provider) => slice::from_ref(provider),
            Self::Many(providers) => providers,
        }
    }

    pub fn into_vec(self) -> Vec<Provider> {
        match self {
            Self::One(provider) => vec![provider],
            Self::Many(providers) => providers,
        }
    }
}

impl From<Vec<Provider>> for Row {
    fn from(mut providers: Vec<Provider>) -> Self {
        match (providers.len(), providers.pop()) {
            (1, Some(provider)) => Self::One(provider),
            (_, last) => {
                providers.extend(last);
                providers.shrink_to_fit();
                Self::Many(providers)
            }
        }
    }
}

impl RankedRow for Row {
    fn weight(&self) -> usize {
        let allocated = match self {
            Self::One(_) => 0,
            Self::Many(providers) => size_of_val(&providers[..]),
        };
        ROW_OVERHEAD + allocated
    }

    fn expire(&mut self, now: Instant) -> Remaining {
        match self {
            Self::One(provider) if provider.is_expired(now) => Remaining::Nothing,
            Self::One(_) => Remaining::All,
            Self::Many(providers) => {
                let before = providers.len();
                providers.retain(|known| !known.is_expired(now));
                match providers.len() {
                    0 => Remaining::Nothing,
                    left if left == before => Remaining::All,
                    _ => Remaining::Some,
                }
            }
        }
    }
}
