//! Waits until the newest root of a followed name is complete, and tells how far that is.

use std::time::Duration;

use indicatif::HumanBytes;
use ocipfs_node::{Cid, IpnsName};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::{
    control::{
        Failure, Instance, Note, Unit,
        failure::content_failure,
        instance::{Notes, meter::Meter},
    },
    names::{
        Prefetch,
        followed::{FetchProgress, WalkCounts},
        prefetch::read_indexes,
    },
};

/// Time between two looks.
const INTERVAL: Duration = Duration::from_millis(200);

const HINT: &str = "`ocipfs status` shows what is missing; connect to a peer that has it with `ocipfs swarm connect`, \
                    or let `serve` wait for longer with --stall-timeout";

impl Instance {
    /// Returns the root, once it is the newest one that was known at the beginning, or a later one, and complete. Fails when
    /// nothing moves for the stall timeout.
    pub(super) async fn wait_until_complete(&self, name: IpnsName, notes: &Notes) -> Result<Cid, Failure> {
        let mut wait = Wait::begin(self, name, notes);
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Some(root) = wait.look().await? {
                return Ok(root);
            }
        }
    }
}

/// How far all walks are together.
struct Walked {
    done: u64,
    due: u64,
}

/// What moves while a root is fetched.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Moves {
    sequence: Option<u64>,
    directories: u64,
    repositories: u64,
    bytes: u64,
}

impl Moves {
    /// Returns how far it is by either; of another record, that alone counts.
    fn furthest(self, now: Self) -> Self {
        if now.sequence != self.sequence {
            return now;
        }
        Self {
            sequence: now.sequence,
            directories: self.directories.max(now.directories),
            repositories: self.repositories.max(now.repositories),
            bytes: self.bytes.max(now.bytes),
        }
    }
}

struct Wait<'a> {
    instance: &'a Instance,
    name: IpnsName,
    notes: &'a Notes,
    /// The sequence of the newest record that was known when this began.
    wanted: Option<u64>,
    /// Until it is known what changed.
    finding: Meter,
    /// From then on.
    fetching: Option<Meter>,
    walk: WalkCounts,
    /// What the walks before have done: a later one takes over where the root changes.
    before: u64,
    /// The record whose indexes were read, where nothing else is fetched beforehand.
    indexed: Option<u64>,
    moves: Moves,
    moved: Instant,
}

impl<'a> Wait<'a> {
    fn begin(instance: &'a Instance, name: IpnsName, notes: &'a Notes) -> Self {
        let finding = Meter::begin(notes, "find", Unit::Repositories, None);
        let (walk, before, moves) = Default::default();
        let (wanted, fetching, indexed, moved) = (None, None, None, Instant::now());
        Self { instance, name, notes, wanted, finding, fetching, walk, before, indexed, moves, moved }
    }

    /// Looks once; returns the root if it is complete.
    async fn look(&mut self) -> Result<Option<Cid>, Failure> {
        let followed = self.instance.resolver().followed();
        if !followed.names().contains(&self.name) {
            return Err(Failure::new(format!("{} is no longer followed", self.name)));
        }
        let record = self.instance.content().node().followed_record(&self.name);
        let sequence = record.map(|record| record.sequence);
        self.wanted = self.wanted.or(sequence);
        if self.instance.0.prefetch == Prefetch::None && self.indexed != sequence {
            self.indexed = sequence;
            read_indexes(self.instance.resolver(), &self.name).await;
        }
        let complete = self.complete(sequence).await?;
        let progress =
            followed.fetching(&self.name).filter(|progress| Some(progress.sequence) >= self.wanted);
        self.tell(sequence, progress.as_ref());
        if complete.is_some() {
            self.end();
            return Ok(complete);
        }
        let stall_timeout = self.instance.content().stall_timeout();
        match self.moved.elapsed() >= stall_timeout {
            true => Err(self.stalled(stall_timeout, sequence, progress.as_ref())),
            false => Ok(None),
        }
    }

    /// Returns the complete root, if it is as new as wanted.
    async fn complete(&self, newest: Option<u64>) -> Result<Option<Cid>, Failure> {
        let (followed, content) = (self.instance.resolver().followed(), self.instance.content());
        let served = followed.complete_root(content, &self.name).await.map_err(content_failure)?;
        let depth = self.instance.0.prefetch.depth();
        let served = served.filter(|served| served.depth >= depth && Some(served.sequence) >= self.wanted);
        // Two nodes with one key may sign two values with one sequence: a walk says whether it is this one.
        let is_walked = |sequence| Some(sequence) != newest || !followed.is_behind(&self.name);
        Ok(served
            .filter(|served| self.wanted.is_some() && is_walked(served.sequence))
            .map(|served| served.directory))
    }

    fn tell(&mut self, sequence: Option<u64>, progress: Option<&FetchProgress>) {
        if let Some(progress) = progress
            && !progress.counts.is_same(&self.walk)
        {
            self.before = self.walked().done;
            self.walk = progress.counts.clone();
        }
        let counts = &self.walk;
        let moves = Moves {
            sequence,
            directories: counts.directories().done(),
            repositories: counts.repositories().done(),
            bytes: counts.bytes().done(),
        };
        // A walk that is tried again counts from the beginning: that is not progress.
        let furthest = self.moves.furthest(moves);
        if furthest != self.moves {
            (self.moves, self.moved) = (furthest, Instant::now());
        }
        if counts.repositories().due() > 0 || self.fetching.is_some() {
            let Walked { done, due } = self.walked();
            self.fetching().set_of(done, due);
        }
    }

    /// All walks so far.
    fn walked(&self) -> Walked {
        let count = match self.unit() {
            Unit::Bytes => self.walk.bytes(),
            _ => self.walk.repositories(),
        };
        // What is done is read first, and so is never more than what is due.
        let done = count.done();
        Walked { done: self.before + done, due: self.before + count.due().max(done) }
    }

    fn unit(&self) -> Unit {
        match self.instance.0.prefetch {
            Prefetch::All => Unit::Bytes,
            Prefetch::None | Prefetch::Manifests => Unit::Repositories,
        }
    }

    fn fetching(&mut self) -> &Meter {
        let (notes, unit, due) = (self.notes, self.unit(), self.walked().due);
        self.fetching.get_or_insert_with(|| {
            self.finding.finish();
            Meter::begin(notes, "prefetch", unit, Some(due))
        })
    }

    fn end(&mut self) {
        let Walked { done, due } = self.walked();
        let meter = self.fetching();
        meter.set_of(done, due);
        meter.finish();
        let passed_over = self.walk.bytes().left();
        if passed_over > 0 {
            let text = format!(
                "{} do not fit in the store, and are fetched when they are pulled: see --cache-size and --max-size",
                HumanBytes(passed_over)
            );
            let _ = self.notes.send(Note::Warning(text));
        }
    }

    fn stalled(&self, limit: Duration, sequence: Option<u64>, progress: Option<&FetchProgress>) -> Failure {
        let (name, limit) = (self.name, humantime::format_duration(limit));
        let Some(sequence) = sequence else {
            let message = format!("{name} is not complete: no record of it was received for {limit}");
            return Failure::new(message).hint(HINT);
        };
        let missing = progress.map(|progress| progress.missing).unwrap_or_default();
        let repositories = missing.repositories.max(self.walk.repositories().left());
        let bytes = HumanBytes(missing.bytes.max(self.walk.bytes().left()));
        let what = match repositories {
            0 => "the directories of its repositories".to_string(),
            repositories => format!("{repositories} repositories, at least {bytes}"),
        };
        let why = progress.and_then(|progress| progress.why.as_ref());
        let why = why.map_or_else(String::new, |why| format!(": {why}"));
        let message = format!(
            "{name} is not complete: sequence {sequence} lacks {what}; nothing came for {limit}{why}"
        );
        Failure::new(message).hint(HINT)
    }
}
