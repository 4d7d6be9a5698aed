//! The OCI distribution API, endpoint by endpoint, at one node and through a second.

mod blobs;
mod conformance;
mod manifests;
mod ranges;
mod refusals;

use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    [manifests::trials(), blobs::trials(), ranges::trials(), refusals::trials(), conformance::trials()]
        .into_iter()
        .flatten()
        .collect()
}
