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

#[tokio::test(flavor = "multi_thread")]
async fn the_cost_of_a_push_at_a_follower_does_not_grow_with_the_number_of_repositories() {
    let [few, many] = [work_for_a_push(500, 1).await, work_for_a_push(2000, 1).await];
    for (few, many) in few.into_iter().zip(many) {
        assert!(many <= few + few / 2 + 4, "{few} blocks at 500 repositories, {many} at 2,000");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cost_of_a_tag_at_a_follower_does_not_grow_with_the_number_of_tags() {
    let [few, many] = [work_for_a_push(1, 2500).await, work_for_a_push(1, 10_000).await];
    for (few, many) in few.into_iter().zip(many) {
        assert!(many <= few + few / 2 + 4, "{few} blocks at 2,500 tags, {many} at 10,000");
    }
}
