//! The members of a private swarm, as commands see and change them.

use std::time::Duration;

use libp2p::PeerId;

use super::Node;
use crate::{
    AdminError, AdmissionList, Stopped, SwarmKey, ToldList,
    command::SwarmCommand,
    members::{Members, succeeds},
};

/// The outcome of replacing a swarm key.
#[derive(Clone, Debug)]
pub struct Rekeyed {
    /// The new key.
    pub key: SwarmKey,
    /// Until when the old key is accepted, too, in seconds since 1970.
    pub ends: u64,
}

impl Node {
    fn members(&self) -> Result<&Members, AdminError> {
        self.online().ok_or(Stopped)?.members.as_ref().ok_or(AdminError::NotPrivate)
    }

    /// Returns the key of the private swarm for new members: the newest one.
    pub fn swarm_key(&self) -> Option<SwarmKey> {
        self.members().ok().map(Members::newest_key)
    }

    /// Returns whether one of two swarm keys has taken the place of the other, as far as the node directory knows. Both are given
    /// by their sha256.
    pub fn swarm_key_succeeds(&self, before: &str, after: &str) -> bool {
        succeeds(&self.0.data_dir, before, after)
    }

    /// Returns the admin of the swarm that this node trusts.
    pub fn swarm_admin(&self) -> Option<PeerId> {
        self.members().ok().and_then(Members::admin)
    }

    /// Returns the admission list; without one every holder of the swarm key is a member.
    pub fn admission_list(&self) -> Result<Option<AdmissionList>, AdminError> {
        Ok(self.members()?.list())
    }

    /// Returns the admission list that peers told of and this node does not use, since it knows no admin.
    pub fn told_admission_list(&self) -> Option<ToldList> {
        self.members().ok().and_then(Members::told_list)
    }

    /// Makes this node the admin of its swarm. The first members are this node and the connected peers.
    pub async fn init_admin(&self) -> Result<PeerId, AdminError> {
        let connected: Vec<_> = self.peers().iter().map(|peer| peer.id).collect();
        self.change(move |members| members.init_admin(connected)).await
    }

    /// Admits a peer. Returns whether it was none of the members before.
    pub async fn allow(&self, peer: PeerId) -> Result<bool, AdminError> {
        self.change(move |members| members.allow(peer)).await
    }

    /// Removes a peer, and disconnects it. Returns whether it was a member.
    pub async fn remove_member(&self, peer: PeerId) -> Result<bool, AdminError> {
        self.change(move |members| members.remove(peer)).await
    }

    /// Replaces the swarm key; both keys are accepted for the time of the `overlap`.
    pub async fn rekey(&self, overlap: Duration) -> Result<Rekeyed, AdminError> {
        let key = self.change(move |members| members.rekey(overlap)).await?;
        let ends = self.members()?.rollover_ends().unwrap_or_default();
        Ok(Rekeyed { key, ends })
    }

    /// Makes a change, which is written to disk, and tells the swarm of it.
    async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Members) -> Result<T, AdminError> + Send + 'static,
    ) -> Result<T, AdminError> {
        let members = self.members()?.clone();
        let changed = tokio::task::spawn_blocking(move || change(&members)).await.map_err(|_| Stopped)??;
        self.online().ok_or(Stopped)?.send(SwarmCommand::MembersChanged).await?;
        Ok(changed)
    }
}

#[cfg(test)]
mod tests;
