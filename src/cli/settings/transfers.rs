//! Settings of the rates of transfers between peers.

use std::{num::NonZeroU64, str::FromStr};

use bytesize::ByteSize;
use clap::Args;
use ocipfs_node::Rates;
use serde::Deserialize;

use super::{Settings, Size};

/// Settings as they were given.
#[derive(Args, Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TransferSettings {
    /// Maximum bytes per second of the blocks that all peers together are sent, such as 10MB; at least 256KiB [default: no limit]
    #[arg(long, value_name = "SIZE", env = "OCIPFS_MAX_UPLOAD_RATE")]
    max_upload_rate: Option<Rate>,
    /// Maximum bytes per second of the blocks that are received from all peers together, such as 10MB; at least 256KiB [default: no limit]
    #[arg(long, value_name = "SIZE", env = "OCIPFS_MAX_DOWNLOAD_RATE")]
    max_download_rate: Option<Rate>,
}

/// Bytes per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Size")]
struct Rate(NonZeroU64);

/// A rate at which transfers would fail.
#[derive(Debug, thiserror::Error)]
#[error("rate \"{}\" is too low: the minimum is {} per second", ByteSize(*.0), ByteSize(Rates::MIN))]
struct TooLow(u64);

impl TryFrom<Size> for Rate {
    type Error = TooLow;

    fn try_from(size: Size) -> Result<Self, TooLow> {
        NonZeroU64::new(size.0).filter(|rate| rate.get() >= Rates::MIN).map(Self).ok_or(TooLow(size.0))
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::try_from(text.parse::<Size>()?).map_err(|error| error.to_string())
    }
}

impl TransferSettings {
    /// Takes from the file what neither flags nor environment said.
    pub fn or(self, file: Self) -> Self {
        Self {
            max_upload_rate: self.max_upload_rate.or(file.max_upload_rate),
            max_download_rate: self.max_download_rate.or(file.max_download_rate),
        }
    }
}

impl Settings {
    /// The maximum rates of transfers between peers.
    pub(super) fn rates(&self) -> Rates {
        let TransferSettings { max_upload_rate, max_download_rate } = self.transfers;
        Rates { upload: max_upload_rate.map(|rate| rate.0), download: max_download_rate.map(|rate| rate.0) }
    }
}
