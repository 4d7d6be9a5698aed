//! What members tell each other: taken if the admin signed it for this swarm, and it is newer.

use std::time::Duration;

use super::{Known, Members, Message, Refused, list, rollover};
use crate::peers::seconds;

impl Members {
    /// Takes what a peer sent, if the admin signed it and it is newer. Returns whether anything is, and why something was refused.
    pub(crate) fn receive(&self, message: Message) -> (bool, Option<Refused>) {
        let (mut changed, mut refused) = (false, None);
        let mut take = |outcome: Result<bool, Refused>| match outcome {
            Ok(is_new) => changed |= is_new,
            Err(why) => {
                refused.get_or_insert(why);
            }
        };
        // The key first: the list is for the newest one.
        if !message.key.is_empty() {
            take(self.receive_rollover(message.key, Duration::from_secs(message.remaining)));
        }
        if !message.list.is_empty() {
            take(self.receive_list(message.list));
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
        if !state.is_of_swarm(&value, &self.0.configured) {
            return Err(Refused::OtherSwarm);
        }
        let known = state.sequences();
        is_newer(value.sequence, known.list_sequence.max(state.least))?;
        if value.version() <= known.list_version() {
            return Ok(false);
        }
        tracing::info!(
            sequence = value.sequence,
            members = value.members.len(),
            age_seconds = seconds().saturating_sub(value.issued),
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
}

/// Returns whether a document is newer than the known one, whose number is 0 if there is none.
fn is_newer(sequence: u64, known: u64) -> Result<bool, Refused> {
    if sequence < known {
        return Err(Refused::Older { sequence, known });
    }
    Ok(sequence > known)
}
