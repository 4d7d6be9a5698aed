//! Admission lists that this node cannot check, since its settings name no admin: peers say that there is one. It is not used;
//! `swarm members` and `status` show it.

use libp2p::PeerId;

use super::{Members, Message};

/// An admission list that a peer told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToldList {
    /// The peer.
    pub peer: PeerId,
    /// The admin that signed it, as the peer says. One of an earlier version does not say it.
    pub admin: Option<PeerId>,
    /// Its sequence number, as the peer says.
    pub sequence: u64,
    /// When it was signed, as the peer says, in seconds since 1970.
    pub issued: u64,
}

impl ToldList {
    fn version(&self) -> (u64, u64) {
        (self.sequence, self.issued)
    }
}

impl Members {
    /// Keeps in mind what list a peer has, where this node trusts no admin.
    pub(crate) fn hear_of_list(&self, peer: PeerId, message: &Message) {
        let mut state = self.state();
        let Message { list_sequence: sequence, list_issued: issued, list_admin: admin, .. } = *message;
        let told = ToldList { peer, admin, sequence, issued };
        // The newest counts, and of one list the peer that knows the admin.
        let is_newer = state.told.as_ref().is_none_or(|known| {
            told.version() > known.version()
                || (told.version() == known.version() && known.admin.is_none() && admin.is_some())
        });
        if sequence > 0 && state.admin.is_none() && is_newer {
            state.told = Some(told);
        }
    }

    /// Returns the newest list that peers told of, while this node trusts no admin.
    pub(crate) fn told_list(&self) -> Option<ToldList> {
        let state = self.state();
        state.told.clone().filter(|_| state.admin.is_none())
    }
}
