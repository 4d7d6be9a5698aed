//! SIGKILL at any moment: acknowledged content is here afterwards, partial content is never served.

mod adding;
pub mod chance;
mod compacting;
mod fetching;
mod pushing;

use std::time::Duration;

use libtest_mimic::Trial;
use ocipfs_oci::{Algorithm, Digest, Hasher};

use crate::harness::{Serve, files_below, trial_within};

/// A kill takes a restart and some pulls.
const A_KILL_TAKES: Duration = Duration::from_secs(15);

/// How many kills a run makes while something is pushed: 20 unless `OCIPFS_TEST_KILLS` says otherwise.
fn all_kills() -> u32 {
    std::env::var("OCIPFS_TEST_KILLS").map_or(20, |text| text.parse().expect("a number"))
}

/// Returns half of [`all_kills`]: the number of kills in each of the other stories.
fn kills() -> u32 {
    all_kills().div_ceil(2)
}

pub fn trials() -> Vec<Trial> {
    let limit = Duration::from_secs(120) + A_KILL_TAKES * kills();
    vec![
        trial_within(
            "it::killing::an_added_layer_survives_sigkill_and_no_partial_layer_is_served",
            limit,
            adding::an_added_layer_survives_sigkill_and_no_partial_layer_is_served,
        ),
        trial_within(
            "it::killing::a_download_is_resumed_after_sigkill_and_no_partial_blob_is_served",
            limit,
            fetching::a_download_is_resumed_after_sigkill_and_no_partial_blob_is_served,
        ),
        trial_within(
            "it::killing::a_pushed_image_survives_sigkill_and_no_partial_image_is_served",
            limit + A_KILL_TAKES * kills(),
            pushing::a_pushed_image_survives_sigkill_and_no_partial_image_is_served,
        ),
        trial_within(
            "it::killing::the_index_survives_sigkill_while_it_is_compacted",
            limit,
            compacting::the_index_survives_sigkill_while_it_is_compacted,
        ),
    ]
}

/// A layer as far as a client needs to know it.
#[derive(Clone, Debug)]
struct Known {
    name: String,
    digest: Digest,
    size: u64,
}

/// Outcome of a pull as the client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Got {
    /// The whole blob, right.
    Whole,
    /// So many bytes, and no good end.
    Broken(u64),
    Refused(u16),
}

impl Known {
    fn url(&self, node: &Serve) -> String {
        node.url(&format!("/v2/{}/blobs/{}", self.name, self.digest))
    }
}

/// Pulls a layer, and holds that a good end has the right bytes behind it.
async fn pull(url: String, known: Known) -> Got {
    let Ok(mut response) = reqwest::get(url).await else { return Got::Broken(0) };
    if response.status() != 200 {
        return Got::Refused(response.status().as_u16());
    }
    let (mut hasher, mut size) = (Hasher::new(Algorithm::Sha256), 0);
    loop {
        match response.chunk().await {
            Ok(Some(bytes)) => {
                hasher.update(&bytes);
                size += bytes.len() as u64;
            }
            Ok(None) => break,
            Err(_) => return Got::Broken(size),
        }
    }
    assert_eq!((size, hasher.finish()), (known.size, known.digest), "{} with a good end", known.name);
    Got::Whole
}

/// Holds that a restarted node counts every file it has, and that nothing panicked.
#[track_caller]
fn nothing_is_left(node: &Serve) {
    assert_eq!(files_below(node.data_dir(), "incoming") as u64, node.stored("partial"));
    assert!(!node.log().contains("panicked"), "{}", node.log());
}
