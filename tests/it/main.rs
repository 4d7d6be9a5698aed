//! One integration binary, because each links the swarm again: a harness and one file a story.

mod authority;
#[path = "../clients/mod.rs"]
mod clients;
mod dns;
#[path = "../go/mod.rs"]
mod go;
mod harness;
mod http;
mod http_providers;
mod offline;
#[path = "../peers/mod.rs"]
mod peers;
mod ports;
mod web;

mod access;
mod admin;
mod arriving;
mod bad_input;
mod bundles;
mod clock;
mod commands;
mod damage;
mod deleting;
mod digests;
mod disk_full;
mod docs;
mod exposed;
mod finding;
mod following;
mod foreign;
mod gateway;
mod identity;
mod images;
mod invitations;
mod killing;
mod layers;
mod mdns;
mod members;
mod memory;
mod names;
mod nat;
mod nerdctl;
mod packages;
mod page;
mod peering;
mod platforms;
mod policy;
mod private;
mod progress;
mod pulling;
mod push;
mod readers;
mod registry;
mod routers;
mod rpc;
mod seeds;
mod serving;
mod space;
mod stopping;
mod tls;
mod tools;
mod upgrade;

fn main() {
    // The one that the program uses; the tests' clients speak no TLS, and do not start without one.
    rustls::crypto::ring::default_provider().install_default().expect("the first provider");
    let arguments = libtest_mimic::Arguments::from_args();
    let stories = [
        access::trials(),
        admin::trials(),
        arriving::trials(),
        bad_input::trials(),
        bundles::trials(),
        clock::trials(),
        commands::trials(),
        damage::trials(),
        deleting::trials(),
        digests::trials(),
        disk_full::trials(),
        docs::trials(),
        exposed::trials(),
        finding::trials(),
        following::trials(),
        foreign::trials(),
        gateway::trials(),
        http_providers::trials(),
        identity::trials(),
        images::trials(),
        invitations::trials(),
        killing::trials(),
        layers::trials(),
        mdns::trials(),
        members::trials(),
        memory::trials(),
        names::trials(),
        nat::trials(),
        nerdctl::trials(),
        packages::trials(),
        page::trials(),
        peering::trials(),
        platforms::trials(),
        policy::trials(),
        private::trials(),
        progress::trials(),
        pulling::trials(),
        push::trials(),
        readers::trials(),
        registry::trials(),
        routers::trials(),
        rpc::trials(),
        seeds::trials(),
        serving::trials(),
        space::trials(),
        stopping::trials(),
        tls::trials(),
        tools::trials(),
        upgrade::trials(),
    ];
    libtest_mimic::run(&arguments, stories.into_iter().flatten().collect()).exit();
}
