//! Pushes by HTTP and by real clients.

mod access;
mod client;
mod clients;
mod deletion;
mod discovery;
mod manifests;
mod restart;
mod uploads;

use libtest_mimic::Trial;

pub use client::{Repository, descriptor, manifest};
pub use clients::program;

pub fn trials() -> Vec<Trial> {
    [
        access::trials(),
        clients::trials(),
        deletion::trials(),
        discovery::trials(),
        manifests::trials(),
        restart::trials(),
        uploads::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
