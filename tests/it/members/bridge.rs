//! A member of a private swarm is removed, on hosts that find each other on a bridge.

use std::{path::Path, time::Instant};

use libtest_mimic::Trial;
use serde_json::Value;

use crate::{
    harness::{blocking, client_trial, last_line, noise, ocipfs},
    mdns::{HOSTS, LISTEN, bridge, new_key},
    nat::{
        hosts::{Host, until},
        lab::{self, Lab},
    },
};

pub fn trials() -> Vec<Trial> {
    let name = "members::bridge::a_removed_member_gets_nothing_from_any_other_host";
    vec![client_trial(name, lab::available(), || blocking(removed))]
}

/// A private swarm on the hosts of a bridge: its admin, a member that stays, and one that is removed.
struct Swarm<'a> {
    admin: Host<'a>,
    member: Host<'a>,
    removed: Host<'a>,
}

impl<'a> Swarm<'a> {
    /// Starts the hosts, which find each other, and waits until all are connected.
    fn start(lab: &'a Lab, dir: &Path) -> Self {
        let key = new_key(dir, "swarm.key");
        let key = key.to_str().expect("UTF-8");
        let common = [&LISTEN[..], &["--swarm-key", key, "--find-timeout", "2s"]].concat();
        let [(first, _), (second, _), (third, _)] = HOSTS;
        let admin = Host::start_in(lab, first, &dir.join(first), &common);
        let id = admin.node.ask(&["-q", "swarm", "admin", "init"]);
        for host in [second, third] {
            let peer = last_line(ocipfs(&dir.join(host)).args(["-q", "swarm", "id"]));
            admin.node.ask(&["swarm", "allow", &peer]);
        }
        let arguments = [&common[..], &["--swarm-admin", &id]].concat();
        let start = |host| Host::start_in(lab, host, &dir.join(host), &arguments);
        let swarm = Self { admin, member: start(second), removed: start(third) };
        let all = [&swarm.admin, &swarm.member, &swarm.removed];
        until("all are connected", || all.iter().all(|host| peers(host).len() == 2).then_some(()));
        swarm
    }

    /// Lets the removed member dial the others, each until it is turned away.
    fn dials(&self) {
        let peer = self.removed.node.peer();
        for (host, (_, address)) in [&self.admin, &self.member].into_iter().zip(HOSTS) {
            let ip = address.split('/').next().expect("an address");
            let other = host.node.peer();
            let known = format!("/ip4/{ip}/tcp/4001/p2p/{other}");
            // It hears of the refusal after its own part of the handshake, so it may say that it is connected.
            self.removed.node.command(&["swarm", "connect", &known]);
            assert!(!peers(host).iter().any(|known| known == peer), "{ip}");
            until("it is turned away", || {
                (!peers(&self.removed).iter().any(|known| known == other)).then_some(())
            });
            assert!(!peers(host).iter().any(|known| known == peer), "{ip}");
        }
    }
}

fn peers(host: &Host) -> Vec<String> {
    let peers = host.node.json(&["swarm", "peers"]);
    let peers = peers.as_array().expect("a list").iter();
    peers.map(|peer| peer["peer"].as_str().expect("a peer ID").into()).collect()
}

/// What the newest record of the name says that a host follows.
fn followed(host: &Host) -> Value {
    host.node.status()["followed"][0]["value"].clone()
}

fn publish(host: &Host, key: &str, cid: &str) -> String {
    host.node.ask(&["-q", "name", "publish", "--key", key, cid])
}

/// Bytes that no other number gives.
fn content(number: u8) -> Vec<u8> {
    let mut bytes = noise(600_000);
    bytes[..8].fill(number);
    bytes
}

fn removed() {
    let lab = bridge();
    let dir = tempfile::tempdir().expect("a directory");
    let swarm = Swarm::start(&lab, dir.path());
    let Swarm { admin, member, removed } = &swarm;
    // As a member it gets blocks of both, and hears of a name that it follows.
    let (seen, unseen) = (admin.add_unannounced(&content(1)), member.add_unannounced(&content(2)));
    assert!(until("it is fetched", || removed.cat(&seen).ok()) == content(1));
    let name = publish(admin, "news", &seen);
    for host in [member, removed] {
        host.node.ask(&["name", "follow", &name]);
        until("the name is heard of", || (followed(host) == format!("/ipfs/{seen}")).then_some(()));
    }

    let (peer, received) = (removed.node.peer(), removed.node.status()["received_blocks"].clone());
    admin.node.ask(&["swarm", "remove", peer]);
    let begun = Instant::now();
    until("both have disconnected it", || {
        [admin, member].iter().all(|host| !peers(host).iter().any(|known| known == peer)).then_some(())
    });
    eprintln!("a removed member on a bridge is disconnected after {:?}", begun.elapsed());

    // From now on: blocks that were there before and new ones, a name that it follows and a new one.
    let later = [admin.add_unannounced(&content(3)), member.add_unannounced(&content(4))];
    let other = publish(admin, "others", &later[0]);
    assert_eq!(publish(admin, "news", &later[0]), name);
    until("the member hears of it", || (followed(member) == format!("/ipfs/{}", later[0])).then_some(()));
    assert_eq!(member.node.ask(&["name", "resolve", &other]), format!("/ipfs/{}", later[0]));
    swarm.dials();
    for cid in [&unseen, &later[0], &later[1]] {
        let error = removed.cat(cid).expect_err("no member serves it");
        assert!(error.starts_with("500"), "{error}");
        until("a member has it", || member.cat(cid).ok());
    }
    let said = removed.node.command(&["name", "resolve", &other]);
    assert!(said.code == Some(1) && !said.stdout.contains(&later[0]), "{said:?}");
    assert_eq!(followed(removed), format!("/ipfs/{seen}"));
    assert_eq!(removed.node.status()["received_blocks"], received);
    until("it is connected to none", || peers(removed).is_empty().then_some(()));
}
