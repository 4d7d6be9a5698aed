//! Work of a follower for one push, however much content exists: blocks that it fetches and blocks that it
//! reads.

use std::sync::atomic::Ordering;

use ocipfs_oci::{Name, Tag};

use super::*;
use crate::images::repository::Pushed;

impl Machine {
    /// Waits until all that another machine pushed is complete here.
    async fn until_current(&self, publisher: &Machine) {
        let (name, start) = (publisher.publisher.name(), Instant::now());
        loop {
            let (root, behind) =
                (publisher.publisher.state().root, publisher.publisher.behind().await.unwrap());
            let served =
                self.resolver.followed().complete_root(self.resolver.content(), &name).await.unwrap();
            if behind == 0 && root.is_some() && served.map(|served| served.directory) == root {
                return;
            }
            assert!(
                start.elapsed() < Duration::from_secs(120),
                "{root:?}, {behind} behind, {served:?} served"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Blocks that it fetched, and those that it read, so far.
    fn work(&self) -> [u64; 2] {
        let work = self.pusher.store.work();
        [work.puts.load(Ordering::Relaxed), work.reads.load(Ordering::Relaxed)]
    }
}

/// The manifest of an image under many tags of many repositories.
fn put_everywhere(pusher: &Pusher, pushed: Pushed, names: Vec<Name>, tags: Vec<Tag>) {
    let put = move |edit: &crate::images::repository::Edit| {
        names.iter().try_for_each(|name| edit.put_manifest(name, &pushed, &tags, None, &[]))
    };
    pusher.repositories.edit(put).unwrap();
}

/// Returns the work of a follower for one more image in `app`, for so many tags in `app` and so many other
/// repositories.
async fn work_for_a_push(repositories: u32, tags: u32) -> [u64; 2] {
    let publisher = Machine::start(SharePolicy::All, &[]).await;
    let image = publisher.pusher.push("app", "one", Some("v000000"));
    let app: Name = "app".parse().unwrap();
    let pushed = publisher.pusher.repositories.manifest(&app, &image.digest).unwrap().unwrap();
    // Long names, so that the directory of all is sharded early.
    let names = (0..repositories).map(|n| format!("{n:0200}").parse().unwrap()).collect();
    let tag = |n: u32| format!("v{n:06}").parse().unwrap();
    put_everywhere(&publisher.pusher, pushed.clone(), names, vec![tag(0)]);
    put_everywhere(&publisher.pusher, pushed, vec![app], (0..tags).map(tag).collect());
    let follower = Machine::start(SharePolicy::All, &[&publisher]).await;
    follower.until_current(&publisher).await;
    let before = follower.work();
    publisher.pusher.push("app", "two", Some("v000100-rc1"));
    follower.until_current(&publisher).await;
    let after = follower.work();
    publisher.end().await;
    follower.end().await;
    [after[0] - before[0], after[1] - before[1]]
}

/// Holds that the work is about the same with so many more repositories or tags. On a busy machine a follower may read something
/// again, which is measured again then: what grows with the number grows each time.
async fn does_not_grow(few: (u32, u32), many: (u32, u32)) {
    let mut measured = Vec::new();
    for _ in 0..3 {
        let work = [work_for_a_push(few.0, few.1).await, work_for_a_push(many.0, many.1).await];
        if work[0].into_iter().zip(work[1]).all(|(few, many)| many <= few + few / 2 + 4) {
            return;
        }
        measured.push(work);
    }
    panic!("the work of a push at {few:?} and at {many:?} repositories and tags: {measured:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cost_of_a_push_at_a_follower_does_not_grow_with_the_number_of_repositories() {
    does_not_grow((500, 1), (2000, 1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cost_of_a_tag_at_a_follower_does_not_grow_with_the_number_of_tags() {
    does_not_grow((1, 2500), (1, 10_000)).await;
}
