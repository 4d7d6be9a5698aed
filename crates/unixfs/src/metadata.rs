//! Modes and times of files and directories (UnixFS 1.5), which the root of each has.

use ocipfs_block::varint;

/// Mode and time of a file, a directory or a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The permissions, with the setuid, setgid and sticky bits.
    pub mode: Option<u32>,
    /// When it was changed: seconds since 1970, and nanoseconds.
    pub mtime: Option<(i64, u32)>,
}

impl Metadata {
    /// Returns whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds the fields to a `Data` message: they are its last ones.
    pub(crate) fn append_to(&self, data: &mut Vec<u8>) {
        if let Some(mode) = self.mode {
            data.push(7 << 3);
            varint::put(data, mode.into());
        }
        if let Some((seconds, nanos)) = self.mtime {
            let mut time = vec![1 << 3];
            varint::put(&mut time, seconds as u64);
            if nanos > 0 {
                time.push(2 << 3 | 5);
                time.extend_from_slice(&nanos.to_le_bytes());
            }
            data.push(8 << 3 | 2);
            varint::put(data, time.len() as u64);
            data.extend(time);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_written_as_the_last_fields_of_a_unixfs_node() {
        let written = |mode, mtime| {
            let mut data = Vec::new();
            Metadata { mode, mtime }.append_to(&mut data);
            data
        };
        assert!(written(None, None).is_empty());
        assert_eq!(written(Some(0o644), None), [0x38, 0xa4, 3]);
        assert_eq!(written(None, Some((5, 0))), [0x42, 2, 8, 5]);
        assert_eq!(written(Some(0), Some((5, 1))), [0x38, 0, 0x42, 7, 8, 5, 0x15, 1, 0, 0, 0]);
        // Before 1970.
        assert_eq!(written(None, Some((-1, 0))).len(), 2 + 1 + 10);
    }
}
