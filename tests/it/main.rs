//! One integration binary, because each links the swarm again: a harness and one file a story.

#[path = "../clients/mod.rs"]
mod clients;
mod harness;
#[path = "../peers/mod.rs"]
mod peers;

mod memory;
mod pulling;
mod serving;

fn main() {
    let arguments = libtest_mimic::Arguments::from_args();
    let stories = [memory::trials(), pulling::trials(), serving::trials()];
    libtest_mimic::run(&arguments, stories.into_iter().flatten().collect()).exit();
}
