//! Invitations: a machine joins a private swarm by one string.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use libtest_mimic::Trial;

use crate::{
    following::{name_of, pulls, push},
    harness::{Serve, finish, last_line, noise, ocipfs, trials},
    names::image::Image,
};

/// Free ports of loopback: the directory of a joined node has a settings file, so the harness chooses none.
const LOOPBACK: [&str; 2] = ["--swarm-listen", "/ip4/127.0.0.1/tcp/0"];

pub fn trials() -> Vec<Trial> {
    trials![
        a_node_that_joined_by_an_invitation_serves_what_is_pushed_at_the_inviting_node,
        an_invitation_that_expired_or_was_cut_short_makes_no_node_directory,
        a_node_directory_with_settings_joins_no_other_swarm,
        a_node_in_no_private_swarm_invites_to_none,
    ]
}

/// The first node of a private swarm, with a new key.
pub fn first() -> Serve {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("swarm.key");
    last_line(ocipfs(dir.path()).args(["swarm", "key"]).arg(&key));
    Serve::start(&["--swarm-key", key.to_str().unwrap()])
}

fn invite(node: &Serve, arguments: &[&str]) -> String {
    node.ask(&[&["-q", "swarm", "invite"], arguments].concat())
}

async fn a_node_that_joined_by_an_invitation_serves_what_is_pushed_at_the_inviting_node() {
    let publisher = first();
    let image = Image::with_layer("joined", noise(100_000));
    push(&publisher, "app", "1", &image).await;
    let dir = tempfile::tempdir().unwrap();
    let joined = dir.path().join("node");
    last_line(ocipfs(&joined).args(["join", &invite(&publisher, &["--follow", "self"])]));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&joined), mode(&joined.join("swarm.key"))), (0o700, 0o600));
    let follower = Serve::start_in(&joined, &LOOPBACK);
    assert!(!follower.log().contains("other users can read"), "{}", follower.log());
    assert_eq!(follower.status()["network"], "private");
    pulls(&follower, "app", "1", &image).await;
    // A member invites as well, and what it follows can be followed by name.
    let again = dir.path().join("third");
    let name = name_of(&publisher);
    last_line(ocipfs(&again).args(["join", &invite(&follower, &["--follow", &name])]));
    publisher.kill();
    let third = Serve::start_in(&again, &LOOPBACK);
    pulls(&third, "app", "1", &image).await;
}

async fn an_invitation_that_expired_or_was_cut_short_makes_no_node_directory() {
    let node = first();
    let dir = tempfile::tempdir().unwrap();
    let joined = dir.path().join("node");
    // It expires with the beginning of the second in which it is made.
    let expired = invite(&node, &["--expires", "0s"]);
    finish(ocipfs(&joined).args(["join", &expired]))
        .failed(1, &["the invitation expired at ", "check the clock"]);
    let whole = invite(&node, &[]);
    finish(ocipfs(&joined).args(["join", &whole[..whole.len() - 9]]))
        .failed(1, &["invalid invitation: it was cut short", "ocipfs swarm invite"]);
    finish(ocipfs(&joined).args(["join", "k51abc"])).failed(1, &["not an invitation", "ocipfs swarm invite"]);
    assert!(!joined.exists());
}

async fn a_node_directory_with_settings_joins_no_other_swarm() {
    let (one, other) = (first(), first());
    let dir = tempfile::tempdir().unwrap();
    let joined = dir.path().join("node");
    last_line(ocipfs(&joined).args(["join", &invite(&one, &[])]));
    let key = fs::read(joined.join("swarm.key")).unwrap();
    finish(ocipfs(&joined).args(["join", &invite(&other, &[])]))
        .failed(2, &["has settings already", "--data-dir"]);
    assert_eq!(fs::read(joined.join("swarm.key")).unwrap(), key);
    // One that was part of another network, and has no settings, neither.
    let before = Serve::start(&[]);
    before.command(&["status"]);
    let data_dir = before.data_dir().to_path_buf();
    finish(ocipfs(&data_dir).args(["join", &invite(&other, &[])])).failed(1, &["belongs to", "hint: "]);
    assert!(!data_dir.join("swarm.key").exists());
}

async fn a_node_in_no_private_swarm_invites_to_none() {
    let node = Serve::start(&[]);
    node.command(&["swarm", "invite"]).failed(1, &["in no private swarm", "ocipfs swarm key"]);
    first().command(&["swarm", "invite", "--follow", "no name"]).failed(1, &["hint: `ocipfs name ls`"]);
}
