//! Images are pushed to the RPC of one node and pulled from that of another.

use std::{fs, path::Path, time::Duration};

use libtest_mimic::Trial;
use ocipfs_oci::Digest;

use super::{HELLO, daemon, daemon_beside, file, load, nerdctl, push, push_to, pushed, run};
use crate::{
    clients::Nerdctl,
    harness::{blocking, trials, within},
};

pub fn trials() -> Vec<Trial> {
    trials![needs Nerdctl::available();
        nerdctl_pushes_an_image_that_another_node_pulls_and_runs,
        image_push_as_ipfs_gives_the_cid_of_nerdctl,
        nerdctl_pulls_an_image_by_its_ipns_name,
        nerdctl_compose_runs_an_image_in_ipfs,
        nerdctl_finds_the_rpc_by_its_address_and_fails_without_one,
        an_unknown_cid_fails_within_the_find_timeout,
    ]
}

async fn nerdctl_pushes_an_image_that_another_node_pulls_and_runs() {
    let source = daemon(&[]);
    let node = daemon_beside(&source);
    blocking(move || {
        let (pushing, cid) = pushed(&source);
        assert_eq!(push(&pushing, &[], "trial:1"), cid, "a repeated push has the same CID");
        let pulling = nerdctl(&node);
        pulling.run(&["pull", "-q", &format!("ipfs://{cid}")]).unwrap();
        let stored = node.status()["received_bytes"].as_u64();
        assert_eq!(run(&pulling, &format!("ipfs://{cid}"), &[]), HELLO);
        assert_eq!(run(&pulling, &cid, &["/bin/cat", "/hello"]), HELLO, "without the scheme");
        assert_eq!(node.status()["received_bytes"].as_u64(), stored, "a pulled image runs from its copy");
        let sum = run(&pulling, &cid, &["/bin/sha256sum", "/data/3"]);
        assert!(sum.starts_with(&Digest::sha256_of(&file(3)).hex()), "{sum}");
        // What a container changed is pushed by the second node, and comes back to the first.
        let change = ["/bin/sh", "-c", "echo changed > /changed"];
        pulling
            .run(&[&["run", "--name", "one", "--net", "none", cid.as_str()], &change[..]].concat())
            .unwrap();
        pulling.run(&["commit", "one", "trial:2"]).unwrap();
        let changed = push(&pulling, &[], "trial:2");
        pulling.run(&["rm", "one"]).unwrap();
        assert_eq!(run(&pushing, &format!("ipfs://{changed}"), &["/bin/cat", "/changed"]), "changed\n");
    })
    .await;
}

async fn image_push_as_ipfs_gives_the_cid_of_nerdctl() {
    let node = daemon(&[]);
    blocking(move || {
        let pushing = nerdctl(&node);
        load(&pushing);
        push_to(&pushing, &node, "team/app:1");
        let cid = node.ask(&["image", "push", "team/app:1", "--as", "ipfs"]);
        // It pulls the image, since what it loaded has annotations of the archive.
        let pulling = nerdctl(&node);
        let pulled = format!("{}/team/app:1", node.registry());
        pulling.run(&["pull", "-q", &pulled]).unwrap();
        pulling.run(&["tag", &pulled, "pulled:1"]).unwrap();
        assert_eq!(push(&pulling, &[], "pulled:1"), cid);
        pulling.run(&["rmi", "-f", "pulled:1", &pulled]).unwrap();
        assert_eq!(run(&pulling, &format!("ipfs://{cid}"), &[]), HELLO);
    })
    .await;
}

async fn nerdctl_pulls_an_image_by_its_ipns_name() {
    let source = daemon(&[]);
    let node = daemon_beside(&source);
    blocking(move || {
        let (_pushing, cid) = pushed(&source);
        let name = source.ask(&["name", "publish", "--key", "trial", &format!("/ipfs/{cid}")]);
        let pulling = nerdctl(&node);
        assert_eq!(run(&pulling, &format!("ipns://{name}"), &[]), HELLO);
    })
    .await;
}

async fn nerdctl_compose_runs_an_image_in_ipfs() {
    let source = daemon(&[]);
    let node = daemon_beside(&source);
    blocking(move || {
        let (_pushing, cid) = pushed(&source);
        let pulling = nerdctl(&node);
        let services =
            format!("services:\n  one:\n    image: ipfs://{cid}\n    network_mode: none\n    command: [\"cat\", \"/hello\"]\n");
        let compose = pulling.write("compose/compose.yaml", &services).unwrap();
        let said = pulling.beside(&[
            "sh",
            "-c",
            "\"$0\" compose -f \"$1\" up --quiet-pull 2>&1",
            pulling.program(),
            &compose,
        ]);
        let said = said.unwrap();
        assert!(said.contains("hello from ipfs"), "{said}");
        pulling.run(&["compose", "-f", &compose, "down"]).unwrap();
    })
    .await;
}

async fn nerdctl_finds_the_rpc_by_its_address_and_fails_without_one() {
    let node = daemon(&[]);
    blocking(move || {
        let api = fs::read_to_string(node.data_dir().join("api")).unwrap();
        let nerdctl = Nerdctl::start(Path::new("/nonexistent"), node.registry()).unwrap();
        load(&nerdctl);
        let cid = push(&nerdctl, &["--ipfs-address", &api], "trial:1");
        let image = format!("ipfs://{cid}");
        let by_address = ["run", "-q", "--rm", "--net", "none", "--ipfs-address", &api, &image];
        assert_eq!(nerdctl.run(&by_address).unwrap(), HELLO);
        nerdctl.run(&["rmi", "-f", &image]).unwrap();
        let refused = nerdctl.run(&["pull", "-q", &image]).unwrap_err();
        assert!(refused.contains("failed to get IPFS URL from ipfs path"), "{refused}");
        let data_dir = node.data_dir().to_owned();
        assert!(node.stop().success());
        assert!(!data_dir.join("api").exists(), "the file is removed at the end");
    })
    .await;
}

async fn an_unknown_cid_fails_within_the_find_timeout() {
    let source = daemon(&[]);
    let node = daemon(&["--peer", source.address(), "--find-timeout", "2s"]);
    let pull = blocking(move || {
        let nerdctl = nerdctl(&node);
        let unknown = "ipfs://bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy";
        nerdctl.run(&["pull", "-q", unknown])
    });
    let refused = within(Duration::from_secs(120), pull).await.unwrap_err();
    assert!(refused.contains("failed to cat"), "{refused}");
}
