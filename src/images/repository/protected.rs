use std::collections::BTreeSet;

use ocipfs_oci::{Digest, Name};

use super::{
    Repositories,
    tables::{REFERENCED_BY, TAGS_OF, key, last_part, open, rows_below},
};
use crate::content::StoreError;

impl Repositories {
    /// Returns a tag of those that stay whose image needs a manifest or a blob: it points at that, or at an index or a manifest
    /// that leads to it.
    pub fn protecting_tag(
        &self,
        name: &Name,
        digest: &Digest,
        is_immutable: &dyn Fn(&str) -> bool,
    ) -> Result<Option<String>, StoreError> {
        self.read(|read| {
            let (tags, above) = (open(read, TAGS_OF)?, open(read, REFERENCED_BY)?);
            let (mut waiting, mut seen) = (vec![digest.to_string()], BTreeSet::new());
            while let Some(text) = waiting.pop() {
                let of = key(&[name.as_str(), &text]);
                if let Some(tags) = &tags {
                    for row in rows_below(tags, &of, "")? {
                        let tag = last_part(row?.0.value()).to_owned();
                        if is_immutable(&tag) {
                            return Ok(Some(tag));
                        }
                    }
                }
                if let Some(above) = &above {
                    for row in rows_below(above, &of, "")? {
                        let manifest = last_part(row?.0.value()).to_owned();
                        if seen.insert(manifest.clone()) {
                            waiting.push(manifest);
                        }
                    }
                }
            }
            Ok(None)
        })
    }
}
