//! Publishing under own names.

use std::time::{Duration, SystemTime};

use libp2p::identity::Keypair;
use tokio::sync::oneshot;

use super::IpnsNames;
use crate::{IpnsName, RecordError, command::SwarmCommand, online::Online, routing::ipns};

/// How long a command waits for peers to accept a record.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(5);

/// A published record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// `/ipfs/<cid>...` or `/ipns/<name>...`.
    pub value: String,
    /// Increases with each change.
    pub sequence: u64,
}

impl IpnsNames {
    /// Returns what this node last published under a name.
    pub fn published(&self, name: &IpnsName) -> Option<Published> {
        let own = self.own(name)?;
        Some(Published { value: own.text(), sequence: own.sequence() })
    }

    /// Publishes a value under a name, and waits a few seconds for connected peers to accept the record.
    pub async fn publish(
        &self,
        online: Option<&Online>,
        key: &Keypair,
        value: &str,
        ttl: Duration,
    ) -> Result<Published, RecordError> {
        let record = self.sign_and_publish(online, key, value, ttl).await?;
        if let Some(online) = online {
            let (reply, accepted) = oneshot::channel();
            let put = SwarmCommand::PutValue(IpnsName::of(key).record(record.bytes().to_vec()), reply);
            online.send(put).await?;
            let _ = tokio::time::timeout(PUBLISH_TIMEOUT, accepted).await;
        }
        Ok(Published { value: record.text(), sequence: record.sequence() })
    }

    /// Publishes a value under a name without waiting for peers.
    pub async fn publish_at_once(
        &self,
        online: Option<&Online>,
        key: &Keypair,
        value: &str,
        ttl: Duration,
    ) -> Result<Published, RecordError> {
        let record = self.sign_and_publish(online, key, value, ttl).await?;
        self.0.signed.notify_one();
        Ok(Published { value: record.text(), sequence: record.sequence() })
    }

    async fn sign_and_publish(
        &self,
        online: Option<&Online>,
        key: &Keypair,
        value: &str,
        ttl: Duration,
    ) -> Result<ipns::Record, RecordError> {
        let (name, key, bytes) = (IpnsName::of(key), key.clone(), value.as_bytes().to_vec());
        self.query_before_signing(online, &key).await;
        let sign = move |names: &IpnsNames| names.sign(&key, bytes, ttl, SystemTime::now());
        self.0.own.mark_published(*name.peer());
        let record = self.blocking(sign).await?;
        if let Some(online) = online {
            let publish = SwarmCommand::Publish(name.record(record.bytes().to_vec()));
            for command in [SwarmCommand::Subscribe(name.key()), publish] {
                online.send(command).await?;
            }
        }
        Ok(record)
    }
}
