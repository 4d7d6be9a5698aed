//! What the admin of a swarm does, on the node that has the admin key.

use std::{collections::BTreeSet, path::Path, time::Duration};

use libp2p::{PeerId, identity::Keypair};

use super::{
    AdmissionList, Known, Members, Rollover, State,
    list::{self, MAX_MEMBERS},
    rollover,
};
use crate::{AdminError, KeyFileError, SwarmKey, identity, locked};

/// The file of the admin key in the node directory.
const FILE: &str = "admin.key";
/// How long both keys may be accepted.
const MIN_OVERLAP: Duration = Duration::from_secs(2);
const MAX_OVERLAP: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Loads the admin key, if this node has it.
pub(super) fn load(data_dir: &Path) -> Result<Option<Keypair>, KeyFileError> {
    let path = data_dir.join(FILE);
    path.exists().then(|| identity::load_or_create_at(&path)).transpose()
}

impl Members {
    fn admin_key(&self) -> Result<Keypair, AdminError> {
        load(&self.0.data_dir)?.ok_or(AdminError::NoKey)
    }

    /// Makes an admin key and a first list, of this node and of `members`.
    pub(crate) fn init_admin(&self, members: impl IntoIterator<Item = PeerId>) -> Result<PeerId, AdminError> {
        let _signing = locked(&self.0.signing);
        let own = load(&self.0.data_dir)?.map(|key| key.public().to_peer_id());
        // A key without a list is left where the list could not be written.
        let before = self.admin();
        if let Some(admin) = before
            && (before != own || self.list().is_some())
        {
            return Err(AdminError::Exists(admin));
        }
        let key = identity::load_or_create_at(&self.0.data_dir.join(FILE))?;
        let admin = key.public().to_peer_id();
        self.state().admin = Some(admin);
        let published = self.publish(&key, members.into_iter().collect());
        if published.is_err() {
            self.state().admin = before;
        }
        published.map(|()| admin)
    }

    /// Admits a peer. Returns whether it was none before.
    pub(crate) fn allow(&self, peer: PeerId) -> Result<bool, AdminError> {
        let _signing = locked(&self.0.signing);
        let (key, mut members) = (self.admin_key()?, self.list().unwrap_or_default().members);
        let is_new = members.insert(peer);
        if is_new {
            self.publish(&key, members)?;
        }
        Ok(is_new)
    }

    /// Removes a peer. Returns whether it was a member.
    pub(crate) fn remove(&self, peer: PeerId) -> Result<bool, AdminError> {
        let _signing = locked(&self.0.signing);
        let (key, mut members) = (self.admin_key()?, self.list().unwrap_or_default().members);
        if peer == self.0.me {
            return Err(AdminError::Oneself);
        }
        let was_member = members.remove(&peer);
        if was_member {
            self.publish(&key, members)?;
        }
        Ok(was_member)
    }

    /// Signs the next list. It is on disk when this returns.
    fn publish(&self, key: &Keypair, members: BTreeSet<PeerId>) -> Result<(), AdminError> {
        let list = self.sign_list(key, members, &self.newest_key())?;
        self.save_change(|state| state.list = Some(list)).map_err(AdminError::Save)?;
        self.changed();
        Ok(())
    }

    fn sign_list(
        &self,
        key: &Keypair,
        mut members: BTreeSet<PeerId>,
        swarm: &SwarmKey,
    ) -> Result<Known<AdmissionList>, AdminError> {
        members.insert(self.0.me);
        if members.len() > MAX_MEMBERS {
            return Err(AdminError::Full(MAX_MEMBERS));
        }
        let sequence = self.sequences().list_sequence.max(self.state().least) + 1;
        let value = AdmissionList { sequence, members, swarm: swarm.fingerprint(), issued: super::seconds() };
        let bytes = list::seal(&value, key).map_err(|error| AdminError::Sign(error.to_string()))?;
        Ok(Known { value, bytes })
    }

    /// On the node of the admin, signs a list again that is of an older version, or for a key that was replaced, be it by hand.
    pub(super) fn renew_list(&self) {
        let Some(list) = self.list().filter(|list| list.swarm != self.newest_key().fingerprint()) else {
            return;
        };
        let Ok(Some(key)) = load(&self.0.data_dir) else { return };
        if let Err(error) = self.publish(&key, list.members) {
            tracing::warn!("the admission list is not renewed: {error}");
        }
    }

    /// Begins to replace the swarm key. Returns the new one.
    pub(crate) fn rekey(&self, overlap: Duration) -> Result<SwarmKey, AdminError> {
        let _signing = locked(&self.0.signing);
        let key = self.admin_key()?;
        if let Some(ends) = self.rollover_ends() {
            return Err(AdminError::UnderWay(ends.saturating_sub(super::seconds())));
        }
        if !(MIN_OVERLAP..=MAX_OVERLAP).contains(&overlap) {
            return Err(AdminError::Overlap { min: MIN_OVERLAP, max: MAX_OVERLAP });
        }
        let new = SwarmKey::generate();
        let (sequence, old) = (self.sequences().key_sequence + 1, self.newest_key());
        // For those that join with the new key, and know of no other.
        let list = self.list().map(|list| self.sign_list(&key, list.members, &new)).transpose()?;
        let value = Rollover { sequence, old, new: new.clone(), overlap };
        let bytes = rollover::seal(&value, &key).map_err(|error| AdminError::Sign(error.to_string()))?;
        let change = |state: &mut State| {
            state.begin(Known { value, bytes }, overlap);
            state.list = list.or(state.list.take());
        };
        self.save_change(change).map_err(AdminError::Save)?;
        self.changed();
        Ok(new)
    }
}
