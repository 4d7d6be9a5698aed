//! Handler of requests about IPNS names: own ones, and followed ones.

mod follow;
mod keys;
mod publish;
mod resolve;
mod wait;

use std::time::Duration;

use super::{Instance, Notes};
use crate::control::{Failure, NameRequest, Reply};

impl Instance {
    pub(super) async fn name(&self, request: NameRequest, notes: Notes) -> Result<Reply, Failure> {
        match request {
            NameRequest::Publish { key, target, ttl } => {
                self.name_publish(&key, &target, Duration::from_secs(ttl)).await
            }
            NameRequest::Resolve { name } => self.name_resolve(&name).await,
            NameRequest::Ls => self.name_ls().await,
            NameRequest::Follow { name, wait: false } => self.name_follow(&name).await,
            NameRequest::Follow { name, wait: true } => self.name_follow_and_wait(&name, &notes).await,
            NameRequest::Unfollow { name } => self.name_unfollow(&name).await,
            NameRequest::KeyNew { key } => self.key_new(key).await,
            NameRequest::KeyExport { key } => self.key_export(&key).await,
            NameRequest::KeyImport { key, base64 } => self.key_import(key, &base64).await,
        }
    }
}
