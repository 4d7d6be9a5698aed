//! The members of a private swarm, where not every key holder is one: an admission list that an admin signs, and the keys of the
//! swarm, which the admin replaces.
//!
//! Both are spread by the members themselves (`behaviour/membership.rs`) and kept in the node directory. A node accepts them of
//! the admin only that its settings name, or whose key it has. Of two lists the one with the higher sequence number counts.

mod admin;
mod file;
mod list;
mod protocol;
mod rollover;
mod signed;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use libp2p::PeerId;
use libp2p_pnet::{KeyRing, Keys};
use tokio::sync::watch;

use crate::{AdminError, Options, SwarmKey, locked, peers::seconds};
pub(crate) use file::FILE;
use file::Saved;
pub use file::succeeds;
pub use list::AdmissionList;
pub(crate) use protocol::{Behaviour, Event, Message, PROTOCOL, behaviour};
use rollover::Rollover;
pub(crate) use signed::Refused;

/// The longest wait before the clock is read again.
const MAX_WAIT: Duration = Duration::from_secs(60 * 60);

/// The members and the keys of a private swarm. Clones share them.
#[derive(Clone)]
pub(crate) struct Members(Arc<Inner>);

struct Inner {
    me: PeerId,
    data_dir: PathBuf,
    /// The key of the settings.
    configured: SwarmKey,
    ring: KeyRing,
    state: Mutex<State>,
    /// Held while the admin makes the next list or key.
    signing: Mutex<()>,
    /// Held while the file is written, so that an older state never replaces a newer one.
    saving: Mutex<()>,
    changes: watch::Sender<u64>,
}

#[derive(Clone, Default)]
struct State {
    admin: Option<PeerId>,
    list: Option<Known<AdmissionList>>,
    rollover: Option<Known<Rollover>>,
    /// When the rollover is complete, in seconds since 1970 by the clock of this machine, which may be wrong: only differences
    /// count.
    ends: u64,
    /// The sha256 of earlier keys.
    earlier: Vec<String>,
}

/// What an admin signed, and the signed bytes.
#[derive(Clone)]
struct Known<T> {
    value: T,
    bytes: Vec<u8>,
}

impl Members {
    /// Opens what the node directory has of the swarm of `key`.
    pub(crate) fn open(options: &Options, key: &SwarmKey, me: PeerId) -> Result<Self, AdminError> {
        let own = admin::load(&options.data_dir)?.map(|key| key.public().to_peer_id());
        let admin = match (own, options.swarm_admin) {
            (Some(own), Some(named)) if own != named => return Err(AdminError::OtherAdmin { own, named }),
            (own, named) => own.or(named),
        };
        if let Some(named) = admin {
            signed::key_of(&named).ok_or(AdminError::NoEd25519(named))?;
        }
        let members = Self(Arc::new(Inner {
            me,
            data_dir: options.data_dir.clone(),
            configured: key.clone(),
            ring: KeyRing::new(key.bytes()),
            state: Mutex::new(State { admin, ..State::default() }),
            signing: Mutex::default(),
            saving: Mutex::default(),
            changes: watch::Sender::new(0),
        }));
        let saved = file::load(&options.data_dir).map_err(AdminError::Load)?;
        members.restore(saved);
        members.update_ring();
        Ok(members)
    }

    /// Takes up what was saved, as far as it belongs to the admin and the key of the settings.
    fn restore(&self, saved: Saved) {
        let (mut state, now) = (self.state(), seconds());
        let Some(admin) = state.admin else {
            if !saved.list.is_empty() {
                tracing::warn!(
                    "every key holder is admitted: this node has an admission list, and --swarm-admin does not name its admin"
                );
            }
            return;
        };
        match list::open(&saved.list, &admin) {
            Ok(value) => state.list = Some(Known { value, bytes: saved.list }),
            Err(_) if saved.list.is_empty() => {}
            Err(why) => {
                tracing::warn!("every key holder is admitted: the saved admission list is not used: {why}")
            }
        }
        let fingerprint = self.0.configured.fingerprint();
        let rollover = rollover::open(&saved.rollover, &admin).ok().filter(|rollover| {
            saved.earlier.contains(&fingerprint) || rollover.new.fingerprint() == fingerprint
        });
        if let Some(value) = rollover {
            // By a clock that was set back it would last too long.
            state.ends = saved.ends.min(now.saturating_add(value.overlap.as_secs()));
            state.rollover = Some(Known { value, bytes: saved.rollover });
            state.earlier = saved.earlier;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.0.state)
    }

    /// Returns the keys for the transport.
    pub(crate) fn ring(&self) -> &KeyRing {
        &self.0.ring
    }

    /// Returns the key for new members: the newest one.
    pub(crate) fn newest_key(&self) -> SwarmKey {
        self.state().newest_key(&self.0.configured)
    }

    /// Returns the admin that this node trusts.
    pub(crate) fn admin(&self) -> Option<PeerId> {
        self.state().admin
    }

    /// Returns the admission list, if there is one.
    pub(crate) fn list(&self) -> Option<AdmissionList> {
        self.state().list.as_ref().map(|list| list.value.clone())
    }

    /// Returns whether a peer may connect. Without a list every key holder may.
    pub(crate) fn admits(&self, peer: &PeerId) -> bool {
        self.state().list.as_ref().is_none_or(|list| list.value.contains(peer))
    }

    /// Returns what to tell a peer that has told what it has: all that is newer.
    pub(crate) fn news_for(&self, told: &Message) -> Message {
        let state = self.state();
        let mut news = state.sequences();
        // Without a list it is unknown who is a member, and the new key is for members only.
        let Some(list) = &state.list else { return news };
        if list.value.sequence > told.list_sequence {
            news.list.clone_from(&list.bytes);
        }
        if let Some(rollover) =
            state.rollover.as_ref().filter(|known| known.value.sequence > told.key_sequence)
        {
            news.key.clone_from(&rollover.bytes);
            news.remaining = state.ends.saturating_sub(seconds());
        }
        news
    }

    /// Returns what this node has, without its content.
    pub(crate) fn sequences(&self) -> Message {
        self.state().sequences()
    }

    /// Takes what a peer sent, if the admin signed it and it is newer. Returns whether anything is, and why something was refused.
    pub(crate) fn receive(&self, message: Message) -> (bool, Option<Refused>) {
        let (mut changed, mut refused) = (false, None);
        let mut take = |outcome: Result<bool, Refused>| match outcome {
            Ok(is_new) => changed |= is_new,
            Err(why) => refused = Some(why),
        };
        if !message.list.is_empty() {
            take(self.receive_list(message.list));
        }
        if !message.key.is_empty() {
            take(self.receive_rollover(message.key, Duration::from_secs(message.remaining)));
        }
        if changed {
            self.changed();
        }
        (changed, refused)
    }

    fn receive_list(&self, bytes: Vec<u8>) -> Result<bool, Refused> {
        let mut state = self.state();
        let admin = state.admin.ok_or(Refused::NoAdmin)?;
        let value = list::open(&bytes, &admin)?;
        if !is_newer(value.sequence, state.sequences().list_sequence)? {
            return Ok(false);
        }
        tracing::info!(
            sequence = value.sequence,
            members = value.members.len(),
            "the admission list of the swarm changed"
        );
        state.list = Some(Known { value, bytes });
        Ok(true)
    }

    fn receive_rollover(&self, bytes: Vec<u8>, remaining: Duration) -> Result<bool, Refused> {
        let mut state = self.state();
        let admin = state.admin.ok_or(Refused::NoAdmin)?;
        let value = rollover::open(&bytes, &admin)?;
        if !is_newer(value.sequence, state.sequences().key_sequence)? {
            return Ok(false);
        }
        let newest = state.newest_key(&self.0.configured);
        if newest != value.old && newest != value.new {
            return Err(Refused::OtherKey);
        }
        // A node that has the new key already dials with it, whatever it is told: a member may send an old rollover again.
        let most = if newest == value.new { value.overlap / 2 } else { value.overlap };
        let remaining = remaining.min(most);
        tracing::info!(
            overlap_seconds = remaining.as_secs(),
            "the swarm key is being replaced; both keys are accepted for a time"
        );
        state.begin(Known { value, bytes }, remaining);
        Ok(true)
    }

    /// Tells the tasks of a change: the file is written, and the keys are those of the moment.
    fn changed(&self) {
        self.update_ring();
        self.0.changes.send_modify(|changes| *changes += 1);
    }

    fn update_ring(&self) {
        let state = self.state();
        let keys = match &state.rollover {
            Some(rollover) => rollover.value.keys(seconds(), state.ends),
            None => Keys { dial: self.0.configured.bytes(), accepted: Vec::new() },
        };
        if self.0.ring.keys() != keys {
            self.0.ring.set(keys);
        }
    }

    /// Returns when the rollover that is under way ends, in seconds since 1970.
    pub(crate) fn rollover_ends(&self) -> Option<u64> {
        let state = self.state();
        state.rollover.as_ref().and(Some(state.ends)).filter(|ends| *ends > seconds())
    }

    /// Changes the keys when it is time, and writes what changed, until the node stops.
    pub(crate) async fn run(self) {
        let mut changes = self.0.changes.subscribe();
        loop {
            self.update_ring();
            let wait = self.next_change().unwrap_or(MAX_WAIT).min(MAX_WAIT);
            tokio::select! {
                changed = changes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let members = self.clone();
                    let saved = tokio::task::spawn_blocking(move || members.save()).await;
                    if let Err(error) = saved.map_err(std::io::Error::other).flatten() {
                        tracing::warn!(%error, "cannot write the members of the swarm; will retry at the next change");
                    }
                }
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Returns the time to the next step of a rollover.
    fn next_change(&self) -> Option<Duration> {
        let state = self.state();
        let rollover = state.rollover.as_ref()?;
        let (now, switch) = (seconds(), rollover.value.switches(state.ends));
        let next = [switch, state.ends].into_iter().find(|at| *at > now)?;
        Some(Duration::from_secs(next - now))
    }

    fn save(&self) -> std::io::Result<()> {
        let _saving = locked(&self.0.saving);
        let saved = self.state().saved();
        file::save(&self.0.data_dir, &saved)
    }

    /// Makes a change that is on disk before peers or tasks see it: one that is forgotten would be signed again with other content.
    fn save_change(&self, change: impl FnOnce(&mut State)) -> std::io::Result<()> {
        let _saving = locked(&self.0.saving);
        let mut next = self.state().clone();
        change(&mut next);
        file::save(&self.0.data_dir, &next.saved())?;
        *self.state() = next;
        Ok(())
    }
}

impl State {
    fn sequences(&self) -> Message {
        Message {
            list_sequence: self.list.as_ref().map_or(0, |list| list.value.sequence),
            key_sequence: self.rollover.as_ref().map_or(0, |known| known.value.sequence),
            ..Message::default()
        }
    }

    fn newest_key(&self, configured: &SwarmKey) -> SwarmKey {
        self.rollover.as_ref().map_or_else(|| configured.clone(), |known| known.value.new.clone())
    }

    fn saved(&self) -> Saved {
        Saved {
            list: self.list.as_ref().map(|list| list.bytes.clone()).unwrap_or_default(),
            rollover: self.rollover.as_ref().map(|known| known.bytes.clone()).unwrap_or_default(),
            ends: self.ends,
            earlier: self.earlier.clone(),
        }
    }

    fn begin(&mut self, rollover: Known<Rollover>, remaining: Duration) {
        let old = rollover.value.old.fingerprint();
        if !self.earlier.contains(&old) {
            self.earlier.push(old);
        }
        let surplus = self.earlier.len().saturating_sub(file::MAX_EARLIER);
        self.earlier.drain(..surplus);
        self.ends = seconds().saturating_add(remaining.as_secs());
        self.rollover = Some(rollover);
    }
}

/// Returns whether a document is newer than the known one, whose number is 0 if there is none.
fn is_newer(sequence: u64, known: u64) -> Result<bool, Refused> {
    if sequence < known {
        return Err(Refused::Older { sequence, known });
    }
    Ok(sequence > known)
}

#[cfg(test)]
mod tests;
