//! Changes of repositories while a version of the tree is made.

use std::cell::RefCell;

use super::*;

type Change = Box<dyn FnOnce()>;

thread_local! {
    /// What happens as soon as the next work is counted.
    static INTERRUPTION: RefCell<Option<Change>> = const { RefCell::new(None) };
}

pub(super) fn interrupt() {
    if let Some(change) = INTERRUPTION.take() {
        change();
    }
}

impl Registry {
    /// Makes a version; once it has begun to write an index, there is a change.
    fn advance_during(&self, change: impl FnOnce(&Pusher) + 'static) {
        let pusher = Pusher { store: self.store.clone(), repositories: self.repositories.clone() };
        INTERRUPTION.set(Some(Box::new(move || change(&pusher))));
        self.advance();
        assert!(INTERRUPTION.take().is_none(), "the change happened meanwhile");
    }

    /// Fails unless a repository in the tree is whole: a layout that has what its index lists.
    fn check_whole(&self, name: &str) {
        let there = self.names(name);
        assert!(there.is_empty() || there == ["blobs", "index.json", "oci-layout"], "{name}: {there:?}");
        if there.is_empty() {
            return;
        }
        let root = self.published.find(self.published.current().unwrap(), &format!("{name}/index.json"));
        let index = self.store.get(&root.unwrap().unwrap()).unwrap().unwrap();
        let blobs = self.names(&format!("{name}/blobs/sha256"));
        for entry in Index::parse(&index).unwrap().manifests {
            assert!(blobs.contains(&entry.digest.hex()), "{name} lacks {}", entry.digest);
        }
    }
}

#[test]
fn a_repository_pushed_while_a_version_is_made_is_published_whole_or_not_at_all() {
    let registry = Registry::new();
    registry.push_blob("before", b"layer");
    registry.push("later", "image", Some("1"));
    registry.advance_during(|pusher| drop(pusher.push("before", "image", Some("1"))));
    registry.check_whole("before");
    registry.catch_up();
    assert_eq!(registry.names("before/blobs/sha256").len(), 4);
    registry.check_whole("before");
}

#[test]
fn a_manifest_deleted_while_a_version_is_made_is_in_its_index_and_its_blobs_or_in_neither() {
    let registry = Registry::new();
    let image = registry.push("app", "one", Some("1"));
    registry.push("app", "two", Some("2"));
    registry.advance_during(move |pusher| {
        pusher.edit(move |edit| edit.remove_manifest(&"app".parse().unwrap(), &image.digest).map(drop));
    });
    registry.check_whole("app");
    registry.catch_up();
    assert_eq!(registry.index("app").len(), 1);
    registry.check_whole("app");
}
