//! Clients in JavaScript and Go.

use std::fs;

use base64::{Engine, prelude::BASE64_STANDARD};
use libtest_mimic::Trial;

use super::Rpc;
use crate::{
    harness::{blocking, noise, trials},
    peers::{kubo_go, kubo_rpc, stargz_ipfs},
};

pub fn trials() -> Vec<Trial> {
    let mut all = trials![needs kubo_rpc::available(); kubo_rpc_client_goes_through_its_calls];
    all.extend(trials![needs kubo_go::available(); kubos_client_in_go_goes_through_its_calls]);
    all.extend(trials![needs stargz_ipfs::available();
        the_client_of_nerdctl_and_stargz_adds_and_reads_ranges,
    ]);
    all
}

async fn kubo_rpc_client_goes_through_its_calls() {
    let rpc = Rpc::start(&["--find-timeout", "1s"]);
    let url = rpc.url();
    let said = blocking(move || kubo_rpc::run(&url)).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(said, "done");
}

async fn kubos_client_in_go_goes_through_its_calls() {
    let rpc = Rpc::start(&["--find-timeout", "1s"]);
    let api = rpc.api();
    let said = blocking(move || kubo_go::run(&api)).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(said, "done");
}

async fn the_client_of_nerdctl_and_stargz_adds_and_reads_ranges() {
    let dir = tempfile::tempdir().unwrap();
    let (ipfs_path, file) = (dir.path().join("ipfs"), dir.path().join("file"));
    let bytes = noise(1_094_146);
    fs::write(&file, &bytes).unwrap();
    let rpc = Rpc::start(&["--ipfs-path", ipfs_path.to_str().unwrap()]);
    let said =
        blocking(move || stargz_ipfs::run(&ipfs_path, &file)).await.unwrap_or_else(|error| panic!("{error}"));
    let cid = rpc.add("cid-version=1&only-hash=true", &bytes).await;
    let part = BASE64_STANDARD.encode(&bytes[100_000..400_000]);
    assert!(said == format!("{cid} 1094146 {part}"), "{}", &said[..100]);
}
