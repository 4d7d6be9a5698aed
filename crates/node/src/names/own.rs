//! Own names: signing them, and noticing that another node signs them too.
//!
//! A sequence counts on from everything that was signed under the key anywhere. What was signed elsewhere before this
//! process started (by the machine that a key comes from, or by this node after its backup was made) is not known to a
//! fresh node: until peers were asked for it once, a newer record only raises the sequence. After that it means that
//! another process writes the name now.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::{Mutex, MutexGuard},
    time::{Duration, SystemTime},
};

use libp2p::{PeerId, identity::Keypair};

use super::{LIFETIME, Name, Names, once_valid, pubsub::Verdict};
use crate::{Error, locked, routing::ipns};

/// Own records that are remembered, so that another's of the same sequence is noticed although a newer one was signed.
const MAX_BEFORE: usize = 16;

/// The state of own names.
#[derive(Default)]
pub struct Own {
    state: Mutex<State>,
    /// One record at a time, signed or heard: what becomes of it depends on those before.
    turn: Mutex<()>,
}

/// Whose turn it is.
type Turn<'a> = MutexGuard<'a, ()>;

#[derive(Default)]
struct State {
    /// What this node signed last, as it is in `kept`.
    records: HashMap<PeerId, ipns::Record>,
    /// The last records before that, of this process.
    before: HashMap<PeerId, VecDeque<ipns::Record>>,
    /// Published since the start of this process.
    published: HashSet<PeerId>,
    /// Peers were asked for the newest record since the start.
    asked: HashSet<PeerId>,
    /// Peers are being asked because of a publication.
    looked_up: HashSet<PeerId>,
    /// Names that another node writes too, and the sequence of what was heard last.
    rivals: BTreeMap<PeerId, u64>,
    /// Names signed in the background, whose subscribers are to be told.
    untold: HashSet<PeerId>,
}

impl Own {
    pub fn new(records: impl IntoIterator<Item = (PeerId, ipns::Record)>) -> Self {
        let records = records.into_iter().collect();
        Self { state: Mutex::new(State { records, ..State::default() }), turn: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    fn turn(&self) -> Turn<'_> {
        locked(&self.turn)
    }

    /// Takes out what this node signed last under a name.
    pub fn forget(&self, name: &PeerId) -> Option<ipns::Record> {
        self.lock().records.remove(name)
    }

    fn insert(&self, name: PeerId, record: ipns::Record) {
        let mut state = self.lock();
        if let Some(last) = state.records.insert(name, record) {
            let before = state.before.entry(name).or_default();
            before.push_front(last);
            before.truncate(MAX_BEFORE);
        }
    }

    /// Whether this node signed another value with the sequence of `record` before its last one.
    fn contradicts(&self, name: &PeerId, record: &ipns::Record) -> bool {
        let state = self.lock();
        let mut before = state.before.get(name).into_iter().flatten();
        before.any(|own| own.sequence() == record.sequence() && own.value() != record.value())
    }

    /// The names that this node signed.
    pub fn names(&self) -> HashSet<PeerId> {
        self.lock().records.keys().copied().collect()
    }

    /// Whether a name that is not `left` was not asked for since the start, or its record has expired.
    pub fn is_unsettled(&self, now: SystemTime, left: &HashSet<PeerId>) -> bool {
        let state = self.lock();
        let mut watched = state.records.iter().filter(|(name, _)| !left.contains(name));
        watched.any(|(name, own)| own.until() <= now || !state.asked.contains(name))
    }

    /// Whether peers were asked for the newest record of a name since the start.
    pub fn is_asked(&self, name: &PeerId) -> bool {
        self.lock().asked.contains(name)
    }

    pub fn mark_asked(&self, name: PeerId) {
        self.lock().asked.insert(name);
    }

    /// Begins a look-up for a publication; false while another is under way.
    pub fn begin_look_up(&self, name: PeerId) -> bool {
        self.lock().looked_up.insert(name)
    }

    pub fn end_look_up(&self, name: &PeerId) {
        self.lock().looked_up.remove(name);
    }

    pub fn mark_published(&self, name: PeerId) {
        self.lock().published.insert(name);
    }

    /// Whether subscribers are to be told of a name; they are only once.
    pub fn take_untold(&self, name: &PeerId) -> bool {
        self.lock().untold.remove(name)
    }

    pub fn rivals(&self) -> Vec<(Name, u64)> {
        self.lock().rivals.iter().map(|(name, sequence)| (Name::from(*name), *sequence)).collect()
    }
}

impl Names {
    /// What this node signed last under a name.
    pub fn own(&self, name: &Name) -> Option<ipns::Record> {
        self.0.own.lock().records.get(name.peer()).cloned()
    }

    /// Signs what a name means now. The sequence counts up where it means something else than before, whatever the clock
    /// says, and from what was signed elsewhere under the same key.
    pub fn sign(
        &self,
        key: &Keypair,
        value: Vec<u8>,
        ttl: Duration,
        now: SystemTime,
    ) -> Result<ipns::Record, Error> {
        self.sign_in(&self.0.own.turn(), key, value, ttl, now)
    }

    fn sign_in(
        &self,
        _turn: &Turn,
        key: &Keypair,
        value: Vec<u8>,
        ttl: Duration,
        now: SystemTime,
    ) -> Result<ipns::Record, Error> {
        let name = key.public().to_peer_id();
        let foreign = self.foreign(&name)?.map(|foreign| foreign.sequence());
        let before = once_valid(name, self.0.kept.own(&name)?);
        let last = before.as_ref().map(|before| before.sequence());
        let sequence = match before {
            Some(before) if before.value() == value && foreign < last => before.sequence(),
            _ => next(last.max(foreign)).ok_or(Error::LastSequence(Name::from(name)))?,
        };
        let until = chrono::DateTime::<chrono::Utc>::from(now + LIFETIME);
        let record = rust_ipns::Record::new(key, &value, until, sequence, ttl).map_err(Error::names)?;
        let bytes = record.encode().map_err(Error::names)?;
        self.0.kept.set_own(&name, &bytes)?;
        let record = ipns::Record::verify(name, bytes, now).map_err(Error::names)?;
        self.0.own.insert(name, record.clone());
        Ok(record)
    }

    /// Extends the validity of the record of a name, where it has lived half of its life.
    pub fn prolong(&self, key: &Keypair, now: SystemTime) -> Result<Option<ipns::Record>, Error> {
        let turn = self.0.own.turn();
        match self.own(&Name::of(key)) {
            Some(own) if own.until() < now + LIFETIME / 2 => {
                self.sign_in(&turn, key, own.value().to_vec(), own.ttl(), now).map(Some)
            }
            own => Ok(own),
        }
    }

    /// Signs a record in the background: subscribers and the routing system are told soon.
    fn sign_again(
        &self,
        turn: &Turn,
        key: &Keypair,
        own: &ipns::Record,
        now: SystemTime,
    ) -> Result<ipns::Record, Error> {
        let record = self.sign_in(turn, key, own.value().to_vec(), own.ttl(), now)?;
        self.0.own.lock().untold.insert(key.public().to_peer_id());
        self.0.signed.notify_one();
        Ok(record)
    }

    /// Takes a record under a key of this node. One that is as new as its own and means something else was signed
    /// elsewhere.
    pub fn hear_own(&self, key: &Keypair, record: &ipns::Record, now: SystemTime) -> Result<Verdict, Error> {
        let name = key.public().to_peer_id();
        let turn = self.0.own.turn();
        let own = self.own(&Name::from(name));
        let is_here =
            |own: &ipns::Record| own.sequence() == record.sequence() && own.value() == record.value();
        if own.as_ref().is_some_and(is_here) {
            return Ok(Verdict::Accept);
        }
        let is_older = own.as_ref().is_some_and(|own| own.sequence() > record.sequence());
        if is_older && !self.0.own.contradicts(&name, record) {
            return Ok(Verdict::Ignore);
        }
        let verdict = if is_older { Verdict::Ignore } else { Verdict::Accept };
        // Peers tell the same more than once, and what was counted on from before is not news.
        if self.foreign(&name)?.is_some_and(|known| known >= *record) {
            return Ok(verdict);
        }
        self.0.kept.see_foreign(&name, record.bytes())?;
        match own {
            Some(_) if self.0.own.is_asked(&name) => self.note_rival(name, record.sequence()),
            _ if is_older => {}
            own => self.count_on(&turn, key, own, record, now)?,
        }
        Ok(verdict)
    }

    fn note_rival(&self, name: PeerId, sequence: u64) {
        if self.0.own.lock().rivals.insert(name, sequence) != Some(sequence) {
            tracing::warn!(
                name = %Name::from(name),
                sequence,
                "two nodes write this name: another machine uses a copy of its key or of this node directory, and the \
                 last publication wins"
            );
        }
    }

    /// Counts on from what was signed elsewhere before this node asked: what it published meanwhile is signed again.
    fn count_on(
        &self,
        turn: &Turn,
        key: &Keypair,
        own: Option<ipns::Record>,
        record: &ipns::Record,
        now: SystemTime,
    ) -> Result<(), Error> {
        let name = key.public().to_peer_id();
        let is_published = self.0.own.lock().published.contains(&name);
        let signed = match own.filter(|_| is_published) {
            Some(own) => Some(self.sign_again(turn, key, &own, now)?.sequence()),
            None => None,
        };
        let sequence = record.sequence();
        tracing::info!(name = %Name::from(name), sequence, signed, "this name was written elsewhere until now");
        Ok(())
    }

    /// Signs what a name meant last, unless `found`, which is valid, says something else.
    pub fn renew(&self, key: &Keypair, found: Option<ipns::Record>, now: SystemTime) -> Result<bool, Error> {
        let peer = key.public().to_peer_id();
        let turn = self.0.own.turn();
        let Some(own) = self.own(&Name::from(peer)) else { return Ok(false) };
        let found = found.max(self.foreign(&peer)?.filter(|foreign| foreign.until() > now));
        if let Some(found) = found.filter(|found| found.value() != own.value()) {
            tracing::warn!(
                name = %Name::from(peer),
                sequence = found.sequence(),
                "its record expired here, and another machine writes it now: what was published here is not published any more"
            );
            drop(turn);
            self.hear(peer, found.bytes().to_vec(), now)?;
            return Ok(false);
        }
        self.sign_again(&turn, key, &own, now)?;
        Ok(true)
    }
}

/// The sequence after `last`; none after the greatest, which only a key's owner can have signed.
fn next(last: Option<u64>) -> Option<u64> {
    last.map_or(Some(0), |last| last.checked_add(1))
}

#[cfg(test)]
mod tests;
