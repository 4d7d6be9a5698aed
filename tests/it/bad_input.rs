//! Error handling: the right status or exit code, a reason, a hint, nothing half stored.

mod commands;
mod hostile;
mod manifests;
mod peers;
mod silent;
mod startup;

use libtest_mimic::Trial;

pub use hostile::Memory;

pub fn trials() -> Vec<Trial> {
    let stories =
        [commands::trials(), hostile::trials(), manifests::trials(), peers::trials(), startup::trials()];
    stories.into_iter().flatten().collect()
}
