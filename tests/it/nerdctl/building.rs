//! Images are built on images in IPFS, through registries.

use std::{
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use libtest_mimic::Trial;

use super::{HELLO, daemon, daemon_beside, nerdctl, push, pushed, run};
use crate::{
    clients::Nerdctl,
    harness::{blocking, trials},
    ports::free_port,
};

pub fn trials() -> Vec<Trial> {
    [
        trials![needs Nerdctl::builds(); nerdctl_builds_on_an_image_in_ipfs_through_our_registry],
        trials![needs Nerdctl::available(); nerdctls_own_registry_serves_images_from_our_rpc],
    ]
    .into_iter()
    .flatten()
    .collect()
}

async fn nerdctl_builds_on_an_image_in_ipfs_through_our_registry() {
    let source = daemon(&[]);
    let node = daemon_beside(&source);
    blocking(move || {
        let (pushing, cid) = pushed(&source);
        let building = Nerdctl::start_to_build(node.data_dir(), node.registry()).unwrap();
        let text = format!(
            "FROM {}/ipfs/{cid}\nRUN echo built > /built\nCMD [\"/bin/cat\", \"/built\", \"/hello\"]\n",
            node.registry()
        );
        building.write("build/Dockerfile", &text).unwrap();
        building.run(&["build", "-q", "-t", "built:1", &building.path("build")]).unwrap();
        assert_eq!(run(&building, "built:1", &[]), format!("built\n{HELLO}"));
        let built = push(&building, &[], "built:1");
        assert_eq!(run(&pushing, &format!("ipfs://{built}"), &[]), format!("built\n{HELLO}"));
    })
    .await;
}

async fn nerdctls_own_registry_serves_images_from_our_rpc() {
    let source = daemon(&[]);
    let node = daemon_beside(&source);
    blocking(move || {
        let (_pushing, cid) = pushed(&source);
        let pulling = nerdctl(&node);
        // It cannot say which port it chose, so one is chosen that was free just now.
        let port = free_port();
        let registry = format!("localhost:{port}");
        let _serving =
            pulling.background(&["ipfs", "registry", "serve", "--listen-registry", &registry]).unwrap();
        let begin = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begin.elapsed() < Duration::from_secs(60), "nerdctl's registry does not listen");
            thread::sleep(Duration::from_millis(50));
        }
        for _ in 0..2 {
            let image = format!("{registry}/ipfs/{cid}");
            assert_eq!(run(&pulling, &image, &[]), HELLO);
            pulling.run(&["rmi", "-f", &image]).unwrap();
        }
    })
    .await;
}
