//! A sweep: tags that no retention rule keeps, blobs whose grace period is over, and manifests that were untagged for
//! long enough, with all that only they keep.
//!
//! A dry run is the same in one transaction that is not committed.

use ocipfs_oci::{Digest, Name, Tag};
use redb::{ReadableTable, WriteTransaction};

use super::{
    Edit, Policy, Removed, Repositories, Rule,
    ages::{Ages, NEVER_TAGGED, Place, UNREFERENCED, UNTAGGED},
    tables::{REFERENCED_BY, REPOSITORIES, TAGS_OF, below, damaged, digest, key, parse_key},
};
use crate::content::StoreError;

/// Rows that are looked at in one transaction.
const AT_ONCE: usize = if cfg!(test) { 3 } else { 200 };

/// What is swept.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// Seconds since 1970.
    now: u64,
    /// Only this repository.
    only: Option<Name>,
    retention: Vec<Rule>,
    /// Blobs are removed that are unreferenced since then or before, manifests untagged, or pushed without a tag.
    unreferenced_until: Option<u64>,
    untagged_until: Option<u64>,
    never_tagged_until: Option<u64>,
    /// How long a manifest that another without tags refers to waits for that one's age.
    keep_untagged: u64,
    /// Stops when so many bytes are free.
    enough: u64,
}

impl Sweep {
    /// What is due by the policy.
    pub fn due(policy: &Policy, now: u64) -> Self {
        let (grace, keep) = (policy.upload_grace.as_secs(), policy.keep_untagged.as_secs());
        Self {
            now,
            only: None,
            retention: policy.retention.clone(),
            unreferenced_until: now.checked_sub(grace),
            untagged_until: now.checked_sub(keep),
            // What is pushed by digest may be waiting for its index.
            never_tagged_until: now.checked_sub(keep.max(grace)),
            keep_untagged: keep,
            enough: u64::MAX,
        }
    }

    /// The same, with all manifests that no tag leads to.
    pub fn untagged(policy: &Policy, now: u64) -> Self {
        let all = Some(u64::MAX);
        Self { untagged_until: all, never_tagged_until: all, keep_untagged: 0, ..Self::due(policy, now) }
    }

    /// Manifests that no tag leads to, the oldest first, until so many bytes are free.
    pub fn room(policy: &Policy, now: u64, bytes: u64) -> Self {
        let grace = policy.upload_grace.as_secs();
        Self {
            retention: Vec::new(),
            unreferenced_until: None,
            never_tagged_until: now.checked_sub(grace),
            enough: bytes,
            ..Self::untagged(policy, now)
        }
    }

    /// The same in one repository alone.
    pub fn only(self, only: Option<Name>) -> Self {
        Self { only, ..self }
    }

    /// The same without the retention rules.
    pub fn without_retention(self) -> Self {
        Self { retention: Vec::new(), ..self }
    }

    fn stage(&self, number: usize) -> Option<(Ages, Option<u64>)> {
        match number {
            1 => Some((UNREFERENCED, self.unreferenced_until)),
            2 => Some((UNTAGGED, self.untagged_until)),
            3 => Some((NEVER_TAGGED, self.never_tagged_until)),
            _ => None,
        }
    }

    fn is_about(&self, name: &Name) -> bool {
        self.only.as_ref().is_none_or(|only| only == name)
    }
}

/// How far a sweep is: stage 0 is the retention rules, the others are [`Sweep::stage`].
#[derive(Clone, Default)]
struct Position {
    stage: usize,
    repository: String,
    place: Place,
    freed: u64,
}

impl Repositories {
    /// Removes what is to be swept, in steps, or only tells what would be removed. `each` is told of it.
    pub fn sweep(&self, sweep: &Sweep, dry: bool, mut each: impl FnMut(Removed)) -> Result<(), StoreError> {
        if dry {
            return self.database().rehearse(|write| {
                let mut position = Some(Position::default());
                while let Some(now) = position {
                    let (removed, next) = step(write, sweep, now)?;
                    removed.into_iter().for_each(&mut each);
                    position = next;
                }
                Ok(())
            });
        }
        let mut position = Some(Position::default());
        while let Some(now) = position {
            let (removed, next) = self.database().write(|write| step(write, sweep, now))?;
            self.removed(&removed);
            removed.into_iter().for_each(&mut each);
            position = next;
        }
        Ok(())
    }

    /// Whether a sweep would look at anything: reads alone.
    pub fn is_due(&self, sweep: &Sweep) -> Result<bool, StoreError> {
        self.database().read(|read| {
            for (ages, until) in (1..).map_while(|number| sweep.stage(number)) {
                if let Some(until) = until
                    && ages.has_due(read, until)?
                {
                    return Ok(true);
                }
            }
            Ok(!sweep.retention.is_empty())
        })
    }
}

/// Goes on with a sweep; gives what was removed, and the next position.
fn step(
    write: &WriteTransaction,
    sweep: &Sweep,
    mut at: Position,
) -> Result<(Vec<Removed>, Option<Position>), StoreError> {
    let edit = Edit::at(write, sweep.now);
    for _ in 0..AT_ONCE {
        let is_at_end = match sweep.stage(at.stage) {
            None if at.stage > 0 => return Ok((edit.take_removed(), None)),
            None => edit.expire_next(sweep, &mut at)?,
            Some((_, None)) => true,
            Some((ages, Some(until))) => edit.sweep_next(sweep, ages, until, &mut at)?,
        };
        if is_at_end {
            at = Position { stage: at.stage + 1, freed: at.freed, ..Position::default() };
        }
        let freed = edit.removed.borrow().iter().filter(|one| one.freed).map(|one| one.size).sum::<u64>();
        if at.freed + freed >= sweep.enough {
            return Ok((edit.take_removed(), None));
        }
    }
    let removed = edit.take_removed();
    at.freed += removed.iter().filter(|one| one.freed).map(|one| one.size).sum::<u64>();
    Ok((removed, Some(at)))
}

impl Edit<'_> {
    /// Applies the retention rules to the next repository; true where there is none.
    fn expire_next(&self, sweep: &Sweep, at: &mut Position) -> Result<bool, StoreError> {
        if sweep.retention.is_empty() {
            return Ok(true);
        }
        let next = {
            let names = self.write.open_table(REPOSITORIES)?;
            let behind = format!("{}\0", at.repository);
            let start = if at.repository.is_empty() { "" } else { behind.as_str() };
            let next = names.range(start..)?.next().transpose()?;
            next.map(|(name, _)| name.value().to_string())
        };
        let Some(next) = next else { return Ok(true) };
        let name: Name = next.parse().map_err(damaged)?;
        at.repository = next;
        if let Some(rule) = sweep.retention.iter().find(|rule| rule.matches(&name))
            && sweep.is_about(&name)
        {
            self.expire(&name, rule)?;
        }
        Ok(false)
    }

    /// Removes the tags that a rule does not keep; what they pointed at is untagged from now on.
    fn expire(&self, name: &Name, rule: &Rule) -> Result<(), StoreError> {
        let mut newer = 0;
        for (pushed, tag, target) in self.tags_by_age(name)? {
            let is_kept = match subject_of(&tag) {
                Some(subject) => self.has_manifest(name, &subject)?,
                None => {
                    newer += 1;
                    rule.keeps(newer - 1, pushed, self.now)
                }
            };
            if !is_kept {
                self.remove_tag(name, &tag)?;
                self.removed.borrow_mut().push(Removed::tag(name, tag.as_str(), &target));
            }
        }
        Ok(())
    }

    /// All tags of a repository, the newest first: when each was pushed, and what it points at.
    fn tags_by_age(&self, name: &Name) -> Result<Vec<(u64, Tag, Digest)>, StoreError> {
        let range = below(name.as_str(), "");
        let table = self.write.open_table(TAGS_OF)?;
        let mut tags = Vec::new();
        for row in table.range(range.start.as_str()..range.end.as_str())? {
            let (of, pushed) = row?;
            let parts: Vec<&str> = of.value().split('\0').collect();
            let [_, target, tag] = parts[..] else { return Err(damaged(of.value())) };
            tags.push((pushed.value(), tag.parse().map_err(damaged)?, digest(target)?));
        }
        tags.sort_by(|one: &(u64, Tag, Digest), other| {
            (other.0, other.1.as_str()).cmp(&(one.0, one.1.as_str()))
        });
        Ok(tags)
    }

    /// Looks at the next row of a stage; true where there is none.
    fn sweep_next(
        &self,
        sweep: &Sweep,
        ages: Ages,
        until: u64,
        at: &mut Position,
    ) -> Result<bool, StoreError> {
        let Some(next) = ages.next(self.write, &at.place, until)? else { return Ok(true) };
        let (name, digest) = parse_key(&next.1)?;
        at.place = next;
        match (sweep.is_about(&name), at.stage) {
            (false, _) => {}
            (true, 1) => self.sweep_piece(&name, &digest)?,
            (true, _) => self.sweep_manifest(sweep, ages, &name, &digest)?,
        }
        Ok(false)
    }

    fn sweep_piece(&self, name: &Name, digest: &Digest) -> Result<(), StoreError> {
        let of = key(&[name.as_str(), &digest.to_string()]);
        match self.has_rows(REFERENCED_BY, &of)? {
            true => UNREFERENCED.stop(self.write, &of).map(drop),
            false => self.remove_piece(name, digest).map(drop),
        }
    }

    /// Removes a manifest without tags, unless something that is not removed keeps it.
    fn sweep_manifest(
        &self,
        sweep: &Sweep,
        ages: Ages,
        name: &Name,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        let text = digest.to_string();
        let of = key(&[name.as_str(), &text]);
        let is_settled = !self.has_manifest(name, digest)? || self.has_rows(TAGS_OF, &of)?;
        // What another manifest keeps goes with that one, whose age counts.
        if is_settled || self.has_rows(REFERENCED_BY, &of)? || self.is_led_to(name, &text)? {
            return ages.stop(self.write, &of).map(drop);
        }
        let Some(related) = self.related(name, &text)? else {
            // A tag leads to it: it is looked at again when it may be old enough.
            return ages.start(self.write, &of, sweep.now);
        };
        let mut youngest = 0;
        for other in &related {
            let other = key(&[name.as_str(), other]);
            for ages in [UNTAGGED, NEVER_TAGGED] {
                youngest = youngest.max(ages.since(self.write, &other)?.unwrap_or(0));
            }
        }
        let is_due = sweep.keep_untagged == 0 || youngest.saturating_add(sweep.keep_untagged) <= sweep.now;
        match is_due {
            true => self.remove_manifest(name, digest).map(drop),
            false => ages.start(self.write, &of, youngest),
        }
    }

    /// Whether a manifest has its subject here, which takes it along. An index may be a referrer of something that it
    /// keeps itself, so it has an age of its own.
    fn is_led_to(&self, name: &Name, text: &str) -> Result<bool, StoreError> {
        Ok(!self.is_index(name, text)? && self.subject_here(name, text)?.is_some())
    }
}

/// What a tag belongs to that is made of a digest, as signatures have it (`sha256-<hex>.sig`): it is not counted as a
/// version of the image, and stays as long as its subject.
fn subject_of(tag: &Tag) -> Option<Digest> {
    let (algorithm, rest) = tag.as_str().split_once('-')?;
    let hex = rest.split('.').next()?;
    format!("{algorithm}:{hex}").parse().ok()
}
