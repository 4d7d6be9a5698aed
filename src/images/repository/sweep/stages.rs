//! Steps of a sweep: for the tags of one repository, one blob, or one manifest.

use std::collections::HashSet;

use ocipfs_oci::{Digest, Name, Tag};
use redb::ReadableTable;

use super::{
    super::{
        Edit, RetentionRule,
        ages::{Ages, NEVER_TAGGED, UNREFERENCED, UNTAGGED},
        tables::{REFERENCED_BY, REPOSITORIES, TAGS_OF, damaged, key, parse_key, rows_below},
    },
    Sweep, SweepPosition,
};
use crate::content::StoreError;

impl Edit<'_> {
    /// Applies the retention rules to the next repository; returns true if there is none left.
    pub(super) fn expire_next(&self, sweep: &Sweep, at: &mut SweepPosition) -> Result<bool, StoreError> {
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
    fn expire(&self, name: &Name, rule: &RetentionRule) -> Result<(), StoreError> {
        let mut newer = 0;
        for (pushed, tag) in self.tags_by_age(name)? {
            let is_kept = match subject_of(&tag) {
                Some(subject) => {
                    self.has_manifest(name, &subject)? || self.is_elsewhere(name, &subject.to_string())?
                }
                None => {
                    newer += 1;
                    rule.keeps(newer - 1, pushed, self.now)
                }
            };
            if !is_kept {
                self.remove_tag(name, &tag)?;
            }
        }
        Ok(())
    }

    /// All tags of a repository, the newest first, and when each was pushed.
    fn tags_by_age(&self, name: &Name) -> Result<Vec<(u64, Tag)>, StoreError> {
        let table = self.write.open_table(TAGS_OF)?;
        let mut tags = Vec::new();
        for row in rows_below(&table, name.as_str(), "")? {
            let (of, pushed) = row?;
            let parts: Vec<&str> = of.value().split('\0').collect();
            let [_, _, tag] = parts[..] else { return Err(damaged(of.value())) };
            tags.push((pushed.value(), tag.parse().map_err(damaged)?));
        }
        tags.sort_by(|one: &(u64, Tag), other| (other.0, other.1.as_str()).cmp(&(one.0, one.1.as_str())));
        Ok(tags)
    }

    /// Visits the next row of a stage; returns true if there is none left.
    pub(super) fn sweep_next(
        &self,
        sweep: &Sweep,
        ages: Ages,
        until: u64,
        at: &mut SweepPosition,
    ) -> Result<bool, StoreError> {
        let Some(next) = ages.next(self.write, &at.place, until)? else { return Ok(true) };
        let (name, digest) = parse_key(&next.1)?;
        at.place = next;
        match (sweep.is_about(&name), at.stage) {
            (false, _) => {}
            (true, 1) => self.sweep_blob(&name, &digest)?,
            (true, _) => self.sweep_manifest(sweep, ages, &name, &digest)?,
        }
        Ok(false)
    }

    fn sweep_blob(&self, name: &Name, digest: &Digest) -> Result<(), StoreError> {
        let of = key(&[name.as_str(), &digest.to_string()]);
        match self.has_rows(REFERENCED_BY, &of)? {
            true => UNREFERENCED.stop(self.write, &of).map(drop),
            false => self.remove_blob(name, digest).map(drop),
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
        if self.subject_elsewhere(name, &text)? {
            return Ok(());
        }
        let is_settled = !self.has_manifest(name, digest)? || self.has_rows(TAGS_OF, &of)?;
        let may_keep_itself = self.may_keep_itself(name, &text)?;
        let goes_with_subject = !may_keep_itself && self.subject_here(name, &text)?.is_some();
        // What another manifest keeps goes with that one, whose age counts.
        if is_settled || self.has_rows(REFERENCED_BY, &of)? || goes_with_subject {
            // One that may keep itself is looked at again, at the age that it has.
            return match may_keep_itself && !is_settled {
                true => Ok(()),
                false => ages.stop(self.write, &of).map(drop),
            };
        }
        let Some(related) = self.related(name, &text)? else {
            // A tag leads to it: it is looked at again when it may be old enough.
            return ages.start(self.write, &of, sweep.now);
        };
        let youngest = self.youngest(name, &related)?;
        let is_due = sweep.keep_untagged == 0 || youngest.saturating_add(sweep.keep_untagged) <= sweep.now;
        match is_due {
            true => self.remove_manifest(name, digest).map(drop),
            false => ages.start(self.write, &of, youngest),
        }
    }

    /// When the last of these manifests was pushed without a tag, or lost it.
    fn youngest(&self, name: &Name, manifests: &HashSet<String>) -> Result<u64, StoreError> {
        let mut youngest = 0;
        for text in manifests {
            let of = key(&[name.as_str(), text]);
            for ages in [UNTAGGED, NEVER_TAGGED] {
                youngest = youngest.max(ages.since(self.write, &of)?.unwrap_or(0));
            }
        }
        Ok(youngest)
    }
}

/// Returns the subject of a tag that is made of a digest, as for signatures (`sha256-<hex>.sig`). Such a tag
/// does not count as a version of the image, and stays as long as its subject.
pub fn subject_of(tag: &Tag) -> Option<Digest> {
    let (algorithm, rest) = tag.as_str().split_once('-')?;
    let hex = rest.split('.').next()?;
    format!("{algorithm}:{hex}").parse().ok()
}
