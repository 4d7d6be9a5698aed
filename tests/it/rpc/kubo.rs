//! Kubo's own command line as a client, and its CIDs beside ours.

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::Rpc;
use crate::{
    clients::KUBO,
    harness::{blocking, client_trial, noise, trial_within, trials},
    peers::kubo::Kubo,
};

/// Kubo's command line is started more than two hundred times.
const MANY_STARTS: Duration = Duration::from_secs(600);

pub fn trials() -> Vec<Trial> {
    let mut all = trials![needs KUBO.available();
        kubo_cli_adds_reads_pins_and_publishes_through_our_rpc,
        kubo_cli_exports_and_imports_through_our_rpc,
        rpc_refs_equal_those_of_kubo,
        rpc_cids_of_files_with_modes_and_times_equal_those_of_kubo,
    ];
    let name = concat!(module_path!(), "::rpc_cids_equal_those_of_kubo_for_the_same_options");
    let story = rpc_cids_equal_those_of_kubo_for_the_same_options;
    all.push(match KUBO.available() {
        Ok(()) => trial_within(name, MANY_STARTS, story),
        Err(missing) => client_trial(name, Err(missing), story),
    });
    all
}

/// Writes the files that both add.
fn write_tree(kubo: &Kubo) {
    let dir = kubo.dir().join("d");
    fs::create_dir_all(dir.join("sub/empty")).unwrap();
    fs::write(dir.join("a"), "hi\n").unwrap();
    fs::write(dir.join("sub/b c+d%"), noise(600_000)).unwrap();
    std::os::unix::fs::symlink("a", dir.join("link")).unwrap();
    fs::write(kubo.dir().join("big"), noise(3_000_000)).unwrap();
    fs::write(kubo.dir().join("none"), "").unwrap();
}

async fn kubo_cli_adds_reads_pins_and_publishes_through_our_rpc() {
    let rpc = Rpc::start(&["--find-timeout", "1s"]);
    let ours = Kubo::client(&rpc.api());
    blocking(move || {
        write_tree(&ours);
        let added = ours.run(&["add", "-r", "d"]);
        let root = added.lines().last().unwrap().split(' ').nth(1).unwrap().to_owned();
        assert!(added.contains(" d/sub/b c+d%\n") && added.contains(" d/link\n"), "{added}");
        assert!(ours.bytes(&["cat", &format!("/ipfs/{root}/sub/b c+d%")]).unwrap() == noise(600_000));
        let ranged =
            ours.bytes(&["cat", "--offset", "500", "--length", "7", &format!("/ipfs/{root}/sub/b c+d%")]);
        assert!(ranged.unwrap() == noise(600_000)[500..507]);
        let listed = ours.run(&["ls", &root]);
        assert!(listed.contains(" 3 a") && listed.contains("sub/"), "{listed}");
        ours.run(&["get", "-o", "out", &root]);
        assert!(fs::read(ours.dir().join("out/sub/b c+d%")).unwrap() == noise(600_000));
        assert_eq!(fs::read_link(ours.dir().join("out/link")).unwrap().to_str(), Some("a"));
        assert!(ours.dir().join("out/sub/empty").is_dir());
        assert!(ours.run(&["pin", "ls", "--type", "recursive"]).contains(&root));
        assert!(ours.run(&["pin", "ls", &format!("/ipfs/{root}/a")]).contains("indirect through"));
        assert!(ours.run(&["refs", "-r", &root]).lines().count() >= 6);
        assert!(ours.run(&["dag", "stat", &root]).contains(&root));
        let name = ours.run(&["name", "publish", "-Q", &root]);
        assert_eq!(ours.run(&["name", "resolve", name.trim()]).trim(), format!("/ipfs/{root}"));
        assert_eq!(ours.run(&["cat", &format!("/ipns/{}/a", name.trim())]), "hi\n");
        ours.run(&["key", "gen", "other"]);
        assert_eq!(ours.run(&["key", "list"]), "self\nother\n");
        ours.run(&["key", "rename", "other", "another"]);
        ours.run(&["key", "rm", "another"]);
        ours.run(&["pin", "rm", &root]);
        ours.run(&["repo", "gc"]);
        assert!(
            ours.try_run(&["cat", &format!("/ipfs/{root}/a")]).unwrap_err().contains("no provider found")
        );
        for command in
            [&["id"][..], &["version"], &["swarm", "peers"], &["swarm", "addrs"], &["repo", "stat"]]
        {
            ours.run(command);
        }
        prints_the_node_in_numbers(&ours);
        assert!(ours.try_run(&["files", "ls"]).is_err());
    })
    .await;
}

/// Holds that the commands which show traffic and settings print what the RPC answers, each in Kubo's own form.
fn prints_the_node_in_numbers(ours: &Kubo) {
    let traffic = ours.run(&["stats", "bw"]);
    let lines: Vec<&str> = traffic.lines().collect();
    assert_eq!(lines, ["Bandwidth", "TotalIn: 0 B", "TotalOut: 0 B", "RateIn: 0 B/s", "RateOut: 0 B/s"]);
    for command in [["bitswap", "stat"], ["stats", "bitswap"]] {
        let said = ours.run(&command);
        assert!(said.starts_with("bitswap status\n"), "{said}");
        let lines: Vec<&str> = said.lines().map(str::trim).collect();
        for line in
            ["blocks received: 0", "blocks sent: 0", "data sent: 0", "wantlist [0 keys]", "partners [0]"]
        {
            assert!(lines.contains(&line), "{line}: {said}");
        }
    }
    let config: Value = serde_json::from_str(&ours.run(&["config", "show"])).unwrap();
    let id = ours.run(&["id", "-f", "<id>"]);
    assert_eq!(config["Identity"], json!({ "PeerID": id.trim() }), "{config}");
    assert!(config["Addresses"]["API"].as_str().unwrap().starts_with("/ip4/127.0.0.1/tcp/"), "{config}");
    let listens = config["Addresses"]["Swarm"].as_array().unwrap();
    assert!(listens.iter().any(|address| address.as_str().unwrap().ends_with(id.trim())), "{config}");
}

async fn kubo_cli_exports_and_imports_through_our_rpc() {
    let (one, other) = (Rpc::start(&[]), Rpc::start(&[]));
    let [exporting, importing] = [&one, &other].map(|rpc| Kubo::client(&rpc.api()));
    blocking(move || {
        write_tree(&exporting);
        let root = exporting.run(&["add", "-rQ", "d"]).trim().to_owned();
        let archive = exporting.bytes(&["dag", "export", &root]).unwrap();
        // Kubo reads what we write, and writes the same.
        let kubo = Kubo::offline();
        fs::write(kubo.dir().join("d.car"), &archive).unwrap();
        assert!(kubo.run(&["dag", "import", "d.car"]).contains(&root));
        assert!(kubo.bytes(&["dag", "export", &root]).unwrap() == archive);
        fs::write(importing.dir().join("d.car"), archive).unwrap();
        assert!(importing.run(&["dag", "import", "d.car"]).contains(&root));
        assert_eq!(importing.run(&["cat", &format!("/ipfs/{root}/a")]), "hi\n");
        fs::write(importing.dir().join("block"), "block").unwrap();
        let block = importing.run(&["block", "put", "block"]).trim().to_owned();
        assert_eq!(importing.run(&["block", "get", &block]), "block");
        assert!(importing.run(&["block", "stat", &block]).contains("Size: 5"));
        importing.run(&["block", "rm", &block]);
    })
    .await;
    drop((one, other));
}

async fn rpc_cids_equal_those_of_kubo_for_the_same_options() {
    let rpc = Rpc::start(&[]);
    let ours = Kubo::client(&rpc.api());
    blocking(move || {
        let kubo = Kubo::offline();
        write_tree(&ours);
        write_tree(&kubo);
        let many = "many";
        for dir in [&ours, &kubo].map(|kubo| kubo.dir().join(many)) {
            fs::create_dir(&dir).unwrap();
            // More than fit into a directory of one block.
            (0..6000).for_each(|n| fs::write(dir.join(format!("file with a long name {n}")), "").unwrap());
        }
        for options in [
            &[][..],
            &["--cid-version=1"],
            &["--cid-version=1", "--raw-leaves=false"],
            &["--raw-leaves"],
            &["--chunker=size-1000"],
            &["--chunker=size-1048576", "--cid-version=1"],
            &["--chunker=buzhash"],
            &["--chunker=rabin"],
            &["--chunker=rabin-20000"],
            &["--chunker=rabin-1000-3000-9000", "--cid-version=1"],
            &["--trickle", "--cid-version=1"],
            &["--trickle", "--raw-leaves", "--chunker=size-10000", "--max-file-links=3"],
            &["--hash=blake3"],
            &["--hash=sha2-512", "--cid-version=1"],
            &["--hash=blake2b-256"],
            &["--inline", "--cid-version=1"],
            &["--inline", "--inline-limit=64"],
            &["--wrap-with-directory"],
            &["--max-file-links=3", "--cid-version=1"],
            &["--empty-dirs=false"],
            &["--fscache"],
            &["--cid-base=base32"],
            &["--cid-base=base58btc", "--cid-version=1"],
            &["--upgrade-cidv0-in-output"],
        ] {
            for paths in [&["-r", "d"][..], &["big"], &["none"]] {
                let args = [&["add", "-q", "--progress=false"], options, paths].concat();
                assert_eq!(ours.run(&args), kubo.run(&args), "{args:?}");
                let args = [&args[..], &["--only-hash"]].concat();
                assert_eq!(ours.run(&args), kubo.run(&args), "{args:?}");
            }
        }
        for options in [&[][..], &["--cid-version=1"]] {
            let args = [&["add", "-rQ", "--progress=false", many], options].concat();
            assert_eq!(ours.run(&args), kubo.run(&args), "{args:?}");
        }
    })
    .await;
    drop(rpc);
}

async fn rpc_refs_equal_those_of_kubo() {
    let rpc = Rpc::start(&[]);
    let ours = Kubo::client(&rpc.api());
    blocking(move || {
        let kubo = Kubo::offline();
        write_tree(&ours);
        write_tree(&kubo);
        let root = kubo.run(&["add", "-rQ", "--progress=false", "d"]);
        ours.run(&["add", "-rQ", "--progress=false", "d"]);
        for options in [
            &[][..],
            &["-e"],
            &["-r"],
            &["-e", "-r"],
            &["-e", "-r", "--cid-base=base32"],
            &["--format=<src> <dst> <linkname>"],
        ] {
            let args = [&["refs"], options, &[root.trim()]].concat();
            // Of nodes below each other the order is another one.
            let sorted = |text: String| {
                let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
                lines.sort();
                lines
            };
            let refs = sorted(ours.run(&args));
            assert!(!refs.is_empty(), "{args:?}");
            assert_eq!(refs, sorted(kubo.run(&args)), "{args:?}");
        }
    })
    .await;
    drop(rpc);
}

async fn rpc_cids_of_files_with_modes_and_times_equal_those_of_kubo() {
    let rpc = Rpc::start(&[]);
    let ours = Kubo::client(&rpc.api());
    blocking(move || {
        let kubo = Kubo::offline();
        write_tree(&kubo);
        // Both add the same files, which have the same times.
        let path = |name: &str| kubo.dir().join(name).display().to_string();
        let paths = ["d", "big", "none"].map(path);
        let [tree, big, none] = paths.each_ref().map(String::as_str);
        fs::set_permissions(big, fs::Permissions::from_mode(0o4751)).unwrap();
        for options in [
            &["--preserve-mode"][..],
            &["--preserve-mtime"],
            &["--preserve-mode", "--preserve-mtime", "--cid-version=1"],
            &["--mode=0640"],
            &["--mtime=86400", "--mtime-nsecs=5", "--cid-version=1"],
            &["--mode=0600", "--mtime=-5", "--wrap-with-directory"],
            &["--preserve-mode", "--mode=0600", "--inline"],
        ] {
            for paths in [&["-r", tree][..], &[big], &[none]] {
                let args = [&["add", "-q", "--progress=false"], options, paths].concat();
                let cids = kubo.run(&args);
                assert_eq!(ours.run(&args), cids, "{args:?}");
                assert_eq!(ours.run(&[&args[..], &["--only-hash"]].concat()), cids, "{args:?}");
            }
        }
        let small = ours.run(&["add", "-Q", "--preserve-mtime", &format!("{tree}/a")]);
        assert_eq!(ours.run(&["cat", small.trim()]), "hi\n");
        let args = ["add", "-q", "--raw-leaves", "--mode=0640", big];
        assert!(ours.try_run(&args).unwrap_err().contains("can't be used with UnixFS metadata"));
    })
    .await;
    drop(rpc);
}
