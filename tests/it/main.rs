//! One integration binary, because each links the swarm again: a harness and one file a story.

#[path = "../clients/mod.rs"]
mod clients;
mod harness;
#[path = "../peers/mod.rs"]
mod peers;

mod finding;
mod foreign;
mod memory;
mod peering;
mod private;
mod pulling;
mod serving;

fn main() {
    let arguments = libtest_mimic::Arguments::from_args();
    let stories = [
        finding::trials(),
        foreign::trials(),
        memory::trials(),
        peering::trials(),
        private::trials(),
        pulling::trials(),
        serving::trials(),
    ];
    libtest_mimic::run(&arguments, stories.into_iter().flatten().collect()).exit();
}
