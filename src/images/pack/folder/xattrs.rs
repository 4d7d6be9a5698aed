//! The extended attributes that belong to a file wherever it is unpacked.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::entry::Attribute;
use super::{Error, cannot_read};

/// Reads the attributes of `path`, itself and not what it links to, sorted by name.
pub(super) fn read(path: &Path) -> Result<Vec<Attribute>, Error> {
    let names = match xattr::list(path) {
        Ok(names) => names,
        Err(error) if error.kind() == ErrorKind::Unsupported => return Ok(Vec::new()),
        Err(error) => return Err(cannot_read(path)(error)),
    };
    let mut attributes = Vec::new();
    for name in names.filter(|name| travels(name)) {
        if name.as_bytes().contains(&b'=') {
            let path = path.into();
            return Err(Error::AttributeName { path, name });
        }
        if let Some(value) = xattr::get(path, &name).map_err(cannot_read(path))? {
            attributes.push(Attribute { name, value });
        }
    }
    attributes.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(attributes)
}

/// Leaves out what the host's kernel, its SELinux policy or its overlay file system keeps there.
fn travels(name: &OsStr) -> bool {
    let name = name.as_bytes();
    !name.starts_with(b"system.") && name != b"security.selinux" && !name.starts_with(b"trusted.overlay")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extended_attributes_of_the_host_are_not_packed() {
        for (name, expected) in [
            ("user.comment", true),
            ("security.capability", true),
            ("security.selinux", false),
            ("system.posix_acl_access", false),
            ("trusted.overlay.opaque", false),
            ("trusted.md5sum", true),
        ] {
            assert_eq!(travels(OsStr::new(name)), expected, "{name}");
        }
    }

    #[test]
    fn a_missing_path_is_an_error_that_names_it() {
        let error = read(Path::new("/nowhere/at/all")).map(drop).unwrap_err();
        assert!(error.to_string().starts_with("cannot read /nowhere/at/all"));
    }
}
