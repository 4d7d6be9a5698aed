//! A sweep: tags that no retention rule keeps, blobs whose grace period is over, and manifests that were untagged for
//! long enough, with all that only they keep.
//!
//! A dry run is the same in one transaction that is not committed.

mod stages;

use ocipfs_oci::Name;
use redb::WriteTransaction;

use super::{
    Edit, Removed, Repositories, RetentionPolicy, RetentionRule,
    ages::{Ages, NEVER_TAGGED, Place, UNREFERENCED, UNTAGGED},
};
use crate::content::StoreError;
pub use stages::subject_of;

/// Rows that are looked at in one transaction.
const BATCH_SIZE: usize = if cfg!(test) { 3 } else { 200 };

/// Selection of the content to sweep.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// Seconds since 1970.
    now: u64,
    /// Only this repository.
    only: Option<Name>,
    retention: Vec<RetentionRule>,
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
    /// Selects the content that is due by the policy.
    pub fn due(policy: &RetentionPolicy, now: u64) -> Self {
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

    /// Selects the content that is due by the policy, and all untagged manifests.
    pub fn untagged(policy: &RetentionPolicy, now: u64) -> Self {
        let all = Some(u64::MAX);
        Self { untagged_until: all, never_tagged_until: all, keep_untagged: 0, ..Self::due(policy, now) }
    }

    /// Selects untagged manifests, the oldest first, until so many bytes are free.
    pub fn room(policy: &RetentionPolicy, now: u64, bytes: u64) -> Self {
        let grace = policy.upload_grace.as_secs();
        Self {
            retention: Vec::new(),
            unreferenced_until: None,
            never_tagged_until: now.checked_sub(grace),
            enough: bytes,
            ..Self::untagged(policy, now)
        }
    }

    /// Restricts the sweep to one repository.
    pub fn only(self, only: Option<Name>) -> Self {
        Self { only, ..self }
    }

    /// Leaves the retention rules out.
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
struct SweepPosition {
    stage: usize,
    repository: String,
    place: Place,
    freed: u64,
    /// A manifest was removed since stage 2, so that others may be free that were looked at before it.
    goes_on: bool,
}

impl Repositories {
    /// Removes what is to be swept, in steps, or only tells what would be removed. `each` is told of it.
    pub fn sweep(&self, sweep: &Sweep, dry: bool, mut each: impl FnMut(Removed)) -> Result<(), StoreError> {
        if dry {
            return self.database().rehearse(|write| {
                let mut position = Some(SweepPosition::default());
                while let Some(now) = position {
                    let (removed, next) = step(write, sweep, now)?;
                    removed.into_iter().for_each(&mut each);
                    position = next;
                }
                Ok(())
            });
        }
        let mut position = Some(SweepPosition::default());
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
        self.read(|read| {
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

/// Continues a sweep. Returns the removed content and the next position.
fn step(
    write: &WriteTransaction,
    sweep: &Sweep,
    mut at: SweepPosition,
) -> Result<(Vec<Removed>, Option<SweepPosition>), StoreError> {
    let edit = Edit::at(write, sweep.now);
    for _ in 0..BATCH_SIZE {
        let before = edit.removed.borrow().len();
        let is_at_end = match sweep.stage(at.stage) {
            None if at.goes_on => {
                at = SweepPosition { stage: 2, freed: at.freed, ..SweepPosition::default() };
                continue;
            }
            None if at.stage > 0 => return Ok((edit.take_removed(), None)),
            None => edit.expire_next(sweep, &mut at)?,
            Some((_, None)) => true,
            Some((ages, Some(until))) => edit.sweep_next(sweep, ages, until, &mut at)?,
        };
        {
            let removed = edit.removed.borrow();
            at.goes_on |= at.stage > 1 && removed.len() > before;
            at.freed += removed[before..].iter().map(Removed::freed_bytes).sum::<u64>();
        }
        if is_at_end {
            at = SweepPosition {
                repository: String::new(),
                place: Place::default(),
                stage: at.stage + 1,
                ..at
            };
        }
        if at.freed >= sweep.enough {
            return Ok((edit.take_removed(), None));
        }
    }
    Ok((edit.take_removed(), Some(at)))
}
