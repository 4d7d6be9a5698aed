//! The members of a private swarm, where not every key holder is one: an admission list that an admin signs, and the keys of the
//! swarm, which the admin replaces.
//!
//! Both are spread by the members themselves (`behaviour/membership.rs`) and kept in the node directory. A node accepts them of
//! the admin only that its settings name, or whose key it has, and for its own swarm only. Of two lists the newer one counts. A node
//! that has none cannot know that the first one is old: an invitation tells which number it has at least.

mod admin;
mod file;
mod list;
mod protocol;
mod received;
mod rollover;
mod signed;
mod told;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use libp2p::PeerId;
use libp2p_pnet::{KeyRing, Keys};
use tokio::sync::watch;

use crate::{AdminError, Options, SwarmKey, locked, peers::seconds};
pub(crate) use file::FILE;
use file::Saved;
pub use file::{expect_list, succeeds};
pub use list::AdmissionList;
pub(crate) use protocol::{Behaviour, Event, Message, PROTOCOL, behaviour};
use rollover::Rollover;
pub(crate) use signed::Refused;
pub use told::ToldList;

/// The longest wait before the clock is read again.
const MAX_WAIT: Duration = Duration::from_secs(60 * 60);
/// Between two tries to write the file; doubled after each.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const MAX_RETRY: Duration = Duration::from_secs(300);

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
    /// Sequence number below which no list is taken.
    least: u64,
    /// A list that peers told of, where no admin is trusted.
    told: Option<ToldList>,
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
        members.renew_list();
        members.warn_of_foreign_list();
        Ok(members)
    }

    /// Takes up what was saved by the admin: a list even if it is for another swarm. Where the key of the settings was replaced by
    /// hand, its members are the only ones known until the admin's node has signed it for the new key.
    fn restore(&self, saved: Saved) {
        let (mut state, now) = (self.state(), seconds());
        state.least = saved.least;
        let Some(admin) = state.admin else {
            if !saved.list.is_empty() {
                tracing::warn!(
                    "every key holder is admitted: this node has an admission list, and --swarm-admin does not name its admin"
                );
            }
            return;
        };
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
        match list::open_saved(&saved.list, &admin) {
            Ok(value) => state.list = Some(Known { value, bytes: saved.list }),
            Err(_) if saved.list.is_empty() => {}
            Err(why) => {
                tracing::warn!("every key holder is admitted: the saved admission list is not used: {why}");
            }
        }
    }

    /// Logs that members are those of another swarm key; the admin's node has signed its list again by now.
    fn warn_of_foreign_list(&self) {
        let state = self.state();
        if state.list.as_ref().is_some_and(|list| !state.is_of_swarm(&list.value, &self.0.configured)) {
            tracing::warn!(
                "the admission list is of another swarm key: its members alone are admitted until the admin's node tells one of this key"
            );
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
        // One of an older version or another key is told by the admin once it has signed it again.
        let is_told = !list.value.swarm.is_empty() && state.is_of_swarm(&list.value, &self.0.configured);
        if list.value.version() > told.list_version() && is_told {
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

    /// Changes the keys when it is time, and writes what changed, until the node stops. What cannot be written counts, and is written
    /// again.
    pub(crate) async fn run(self) {
        let mut changes = self.0.changes.subscribe();
        let mut retry: Option<Duration> = None;
        loop {
            self.update_ring();
            let wait = self.next_change().unwrap_or(MAX_WAIT).min(retry.unwrap_or(MAX_WAIT)).min(MAX_WAIT);
            let is_due = tokio::select! {
                changed = changes.changed() => match changed {
                    Ok(()) => true,
                    Err(_) => return,
                },
                () = tokio::time::sleep(wait) => retry.is_some(),
            };
            if is_due {
                let next = retry.map_or(FIRST_RETRY, |last| (last * 2).min(MAX_RETRY));
                retry = self.save_or_log(next).await.err().map(|_| next);
            }
        }
    }

    async fn save_or_log(&self, retry: Duration) -> std::io::Result<()> {
        let members = self.clone();
        let saved = tokio::task::spawn_blocking(move || members.save()).await;
        let saved = saved.map_err(std::io::Error::other).flatten();
        if let Err(error) = &saved {
            tracing::warn!(
                retry_seconds = retry.as_secs(),
                "cannot write the members of the swarm, which count until the node stops: {error}"
            );
        }
        saved
    }

    /// Returns the time to the next step of a rollover.
    fn next_change(&self) -> Option<Duration> {
        let state = self.state();
        let rollover = state.rollover.as_ref()?;
        // To the moment, so that an old key is not accepted for up to a second longer.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let steps = [rollover.value.switches(state.ends), state.ends].map(Duration::from_secs);
        steps.into_iter().find(|at| *at > now).map(|next| next - now)
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
            list_issued: self.list.as_ref().map_or(0, |list| list.value.issued),
            list_admin: self.list.as_ref().and(self.admin),
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
            least: self.least,
        }
    }

    /// Returns whether a list is of a swarm whose key this node has or had. One of an older version may be.
    fn is_of_swarm(&self, list: &AdmissionList, configured: &SwarmKey) -> bool {
        let rollover = self.rollover.iter().flat_map(|known| [&known.value.old, &known.value.new]);
        let mut keys =
            rollover.chain([configured]).map(SwarmKey::fingerprint).chain(self.earlier.iter().cloned());
        list.swarm.is_empty() || keys.any(|key| key == list.swarm)
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

#[cfg(test)]
mod tests;
