//! Members of a private swarm are admitted and removed by its admin, and its key is replaced.

mod bridge;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use libtest_mimic::Trial;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    following::{current, known, name_of, push},
    harness::{Layer, Serve, finish, last_line, noise, ocipfs, trials, until},
    http::{get, get_found},
    names::image::Image,
};

const LOOPBACK: [&str; 2] = ["--swarm-listen", "/ip4/127.0.0.1/tcp/0"];
/// What the admin is told until the overlap of two keys ends.
const UNDER_WAY: &str = "is being replaced already";

pub fn trials() -> Vec<Trial> {
    let mut all = trials![
        a_removed_member_is_disconnected_everywhere_at_once_and_gets_nothing,
        a_key_holder_who_is_not_admitted_is_not_connected,
        an_invited_node_is_admitted_by_its_peer_id,
        members_and_the_admission_list_are_known_after_a_restart,
        the_swarm_key_is_replaced_while_both_keys_are_accepted,
        what_the_admin_alone_may_do_is_refused_on_other_nodes,
        a_node_that_knows_no_admin_tells_of_the_admission_list_that_it_does_not_use,
    ];
    all.extend(bridge::trials());
    all
}

/// A private swarm with an admin, and directories for its nodes.
struct Swarm {
    dir: TempDir,
    key: PathBuf,
    admin_id: String,
    admin: Serve,
}

impl Swarm {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("swarm.key");
        last_line(ocipfs(dir.path()).args(["swarm", "key"]).arg(&key));
        let arguments = [&LOOPBACK[..], &["--swarm-key", key.to_str().unwrap()]].concat();
        let admin = Serve::start_in(&dir.path().join("admin"), &arguments);
        let admin_id = admin.ask(&["-q", "swarm", "admin", "init"]);
        Self { dir, key, admin_id, admin }
    }

    fn dir(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Admits a node that has a directory, and starts it.
    fn member(&self, name: &str) -> Serve {
        self.admit(name);
        self.start(name, &self.key)
    }

    fn admit(&self, name: &str) -> String {
        let peer = last_line(ocipfs(&self.dir(name)).args(["-q", "swarm", "id"]));
        self.admin.ask(&["swarm", "allow", &peer]);
        peer
    }

    /// Starts a node that knows the admin's address.
    fn start(&self, name: &str, key: &Path) -> Serve {
        let arguments = [
            &LOOPBACK[..],
            &["--swarm-key", key.to_str().unwrap(), "--swarm-admin", &self.admin_id],
            &["--peer", self.admin.address(), "--find-timeout", "2s"],
        ]
        .concat();
        Serve::start_in(&self.dir(name), &arguments)
    }
}

fn peers(node: &Serve) -> Vec<String> {
    let peers = node.json(&["swarm", "peers"]);
    let mut peers: Vec<String> =
        peers.as_array().unwrap().iter().map(|peer| peer["peer"].as_str().unwrap().into()).collect();
    peers.sort();
    peers
}

async fn connected(one: &Serve, other: &Serve) {
    let (first, second) = (one.peer().to_string(), other.peer().to_string());
    until("they are connected", || peers(one).contains(&second) && peers(other).contains(&first)).await;
}

/// Holds that a node does not get connected to another one. For a moment it may seem to be: it hears of the refusal after its own
/// part of the handshake.
async fn is_turned_away(node: &Serve, from: &Serve) {
    node.command(&["swarm", "connect", from.address()]);
    let (peer, other) = (node.peer().to_string(), from.peer().to_string());
    assert!(!peers(from).contains(&peer));
    until("it is turned away", || !peers(node).contains(&other)).await;
    assert!(!peers(from).contains(&peer));
}

fn members(node: &Serve) -> Vec<String> {
    let listed = node.json(&["swarm", "members"]);
    let all = listed["members"].as_array().unwrap().iter();
    all.map(|member| member["peer"].as_str().unwrap().into()).collect()
}

async fn a_removed_member_is_disconnected_everywhere_at_once_and_gets_nothing() {
    let swarm = Swarm::new();
    let (one, removed) = (swarm.member("one"), swarm.member("removed"));
    connected(&swarm.admin, &one).await;
    connected(&swarm.admin, &removed).await;
    removed.ask(&["swarm", "connect", one.address()]);
    connected(&one, &removed).await;
    let image = Image::with_layer("before", noise(50_000));
    push(&swarm.admin, "app", "1", &image).await;
    let name = name_of(&swarm.admin);
    removed.ask(&["name", "follow", &name]);
    known(&removed, "app", "1", &image).await;
    // What is fetched before it is requested has come, too.
    current(&removed, &swarm.admin).await;

    let received = || removed.status()["received_blocks"].clone();
    let (peer, before) = (removed.peer().to_string(), received());
    swarm.admin.ask(&["swarm", "remove", &peer]);
    let begun = Instant::now();
    until("it is disconnected", || !peers(&one).contains(&peer) && !peers(&swarm.admin).contains(&peer))
        .await;
    eprintln!("a removed member is disconnected after {:?}", begun.elapsed());
    assert!(!members(&one).contains(&peer) && members(&one).contains(&one.peer().to_string()));

    // What happens from now on: a name and its gossip, and the blocks of a layer.
    let later = Image::with_layer("after", noise(60_000));
    push(&swarm.admin, "app", "2", &later).await;
    let layers = [Layer::add(&swarm.admin, &noise(70_000)), Layer::add(&one, &noise(80_000))];
    for node in [&swarm.admin, &one] {
        node.command(&["swarm", "connect", removed.address()]).failed(1, &["cannot reach"]);
        is_turned_away(&removed, node).await;
    }
    for layer in &layers {
        assert_eq!(get(&removed.url(&layer.manifest_path())).await.status, 404);
    }
    assert_eq!(get(&removed.url("/v2/app/manifests/2")).await.status, 404);
    assert_eq!(received(), before);
    // Members among themselves go on.
    assert_eq!(get_found(&one.url(&layers[0].manifest_path())).await.status, 200);
    // Nor does a restart help, of either side.
    one.stop();
    removed.stop();
    let (one, removed) = (swarm.start("one", &swarm.key), swarm.start("removed", &swarm.key));
    connected(&swarm.admin, &one).await;
    is_turned_away(&removed, &one).await;
    // It may come back.
    swarm.admin.ask(&["swarm", "allow", &peer]);
    connected(&swarm.admin, &removed).await;
}

async fn a_key_holder_who_is_not_admitted_is_not_connected() {
    let swarm = Swarm::new();
    let member = swarm.member("member");
    connected(&swarm.admin, &member).await;
    let stranger = swarm.start("stranger", &swarm.key);
    for node in [&swarm.admin, &member] {
        is_turned_away(&stranger, node).await;
        node.command(&["swarm", "connect", stranger.address()])
            .failed(1, &["the peer is not in the admission list of the swarm"]);
    }
    // An admin of its own is not theirs.
    stranger.stop();
    let other = Swarm::new();
    let key = swarm.key.to_str().unwrap();
    let dir = swarm.dir("impostor");
    last_line(ocipfs(&dir).args(["-q", "swarm", "id"]));
    fs::copy(other.dir("admin").join("admin.key"), dir.join("admin.key")).unwrap();
    let impostor = Serve::start_in(&dir, &[&LOOPBACK[..], &["--swarm-key", key]].concat());
    impostor.ask(&["swarm", "allow", member.peer()]);
    member.command(&["swarm", "connect", impostor.address()]).failed(1, &["cannot reach"]);
    // As a member it is heard, and its list refused.
    swarm.admin.ask(&["swarm", "allow", impostor.peer()]);
    until("the member knows", || members(&member).contains(&impostor.peer().to_string())).await;
    impostor.command(&["swarm", "connect", member.address()]);
    until("its list is refused", || {
        impostor.log().contains("refused the admission list")
            || member.log().contains("refused the admission list")
    })
    .await;
    assert!(members(&member).contains(&swarm.admin.peer().to_string()));
}

async fn an_invited_node_is_admitted_by_its_peer_id() {
    let swarm = Swarm::new();
    let invitation = swarm.admin.ask(&["-q", "swarm", "invite"]);
    let dir = swarm.dir("invited");
    let said = finish(ocipfs(&dir).args(["join", &invitation]));
    assert_eq!(said.code, Some(0), "{said:?}");
    let config = fs::read_to_string(dir.join("config.toml")).unwrap();
    assert!(config.contains(&format!("swarm-admin = \"{}\"", swarm.admin_id)), "{config}");
    let peer = last_line(ocipfs(&dir).args(["-q", "swarm", "id"]));
    assert!(said.stderr.contains(&format!("`ocipfs swarm allow {peer}`")), "{said:?}");
    let invited = Serve::start_in(&dir, &LOOPBACK);
    assert_eq!(invited.peer(), peer);
    is_turned_away(&invited, &swarm.admin).await;
    swarm.admin.ask(&["swarm", "allow", &peer]);
    connected(&swarm.admin, &invited).await;
    until("it has the list", || members(&invited) == members(&swarm.admin)).await;
}

async fn members_and_the_admission_list_are_known_after_a_restart() {
    let swarm = Swarm::new();
    let member = swarm.member("member");
    connected(&swarm.admin, &member).await;
    until("it has the list", || members(&member) == members(&swarm.admin)).await;
    member.stop();
    // The admin is elsewhere: the member still knows who is admitted.
    let stranger = last_line(ocipfs(&swarm.dir("stranger")).args(["-q", "swarm", "id"]));
    let member = swarm.start("member", &swarm.key);
    assert_eq!(members(&member).len(), 2);
    assert!(!members(&member).contains(&stranger));
    let listed = swarm.admin.json(&["swarm", "members"]);
    assert_eq!(
        (listed["admin"].as_str(), listed["sequence"].as_u64()),
        (Some(swarm.admin_id.as_str()), Some(2))
    );
}

async fn the_swarm_key_is_replaced_while_both_keys_are_accepted() {
    let swarm = Swarm::new();
    let (member, late) = (swarm.member("member"), swarm.admit("late"));
    connected(&swarm.admin, &member).await;
    let new = swarm.dir("new.key");
    swarm.admin.ask(&["swarm", "rekey", new.to_str().unwrap(), "--overlap", "45s"]);
    assert_ne!(fs::read(&new).unwrap(), fs::read(&swarm.key).unwrap());
    swarm.admin.command(&["swarm", "rekey"]).failed(1, &[UNDER_WAY]);
    until("the member has the new key", || member.log().contains("the swarm key is being replaced")).await;
    // In the overlap a node with either key is connected.
    let late_node = swarm.start("late", &swarm.key);
    assert_eq!(late_node.peer(), late);
    swarm.admit("newcomer");
    let newcomer = swarm.start("newcomer", &new);
    connected(&swarm.admin, &late_node).await;
    connected(&swarm.admin, &newcomer).await;
    newcomer.ask(&["swarm", "connect", member.address()]);
    // No time is too short to replace a key while that is under way, since it is not looked at.
    let refused = || swarm.admin.command(&["swarm", "rekey", "--overlap", "0s"]).stderr;
    assert!(refused().contains(UNDER_WAY), "the overlap ended before the test had used it: {}", refused());
    // Afterwards the old key opens nothing, and those who were there go on, also after a restart with the old key in the
    // settings.
    until("the overlap has ended", || refused().contains("invalid overlap")).await;
    swarm.admit("absent");
    let absent = swarm.start("absent", &swarm.key);
    absent.command(&["swarm", "connect", swarm.admin.address()]).failed(1, &["cannot reach"]);
    assert_eq!(peers(&absent), [""; 0]);
    late_node.stop();
    connected(&swarm.admin, &swarm.start("late", &swarm.key)).await;
    member.stop();
    connected(&swarm.admin, &swarm.start("member", &new)).await;
    // A new invitation has the new key.
    let joined = swarm.dir("joined");
    last_line(ocipfs(&joined).args(["join", &swarm.admin.ask(&["-q", "swarm", "invite"])]));
    assert_eq!(fs::read(joined.join("swarm.key")).unwrap(), fs::read(&new).unwrap());
}

async fn what_the_admin_alone_may_do_is_refused_on_other_nodes() {
    let swarm = Swarm::new();
    let member = swarm.member("member");
    let peer = member.peer().to_string();
    member.command(&["swarm", "allow", &peer]).failed(1, &["does not have the admin key", "hint: "]);
    member.command(&["swarm", "remove", &peer]).failed(1, &["does not have the admin key"]);
    member.command(&["swarm", "rekey"]).failed(1, &["does not have the admin key"]);
    member.command(&["swarm", "admin", "init"]).failed(1, &["has an admin already", &swarm.admin_id]);
    swarm.admin.command(&["swarm", "remove", swarm.admin.peer()]).failed(1, &["stays a member"]);
    swarm.admin.command(&["swarm", "allow", "nonsense"]).failed(1, &["invalid peer ID", "hint: "]);
    swarm.admin.command(&["swarm", "rekey", "--overlap", "0s"]).failed(1, &["invalid overlap", "--overlap"]);
    let existing = swarm.key.to_str().unwrap();
    swarm.admin.command(&["swarm", "rekey", existing]).failed(1, &["cannot write the key to"]);
    let open = Serve::start(&[]);
    open.command(&["swarm", "members"]).failed(1, &["in no private swarm"]);
    let dir = tempfile::tempdir().unwrap();
    finish(ocipfs(dir.path()).args(["serve", "--swarm-admin", &swarm.admin_id]))
        .failed(2, &["--swarm-admin", "--swarm-key"]);
}

async fn a_node_that_knows_no_admin_tells_of_the_admission_list_that_it_does_not_use() {
    let swarm = Swarm::new();
    let peer = swarm.admit("open");
    let key = swarm.key.to_str().unwrap();
    let arguments = [&LOOPBACK[..], &["--swarm-key", key]].concat();
    let open = Serve::start_in(&swarm.dir("open"), &arguments);
    assert_eq!(open.peer(), peer);
    assert_eq!(open.json(&["swarm", "members"])["admission_list"], Value::Null);
    let said = open.command(&["swarm", "members"]);
    assert!(said.stderr.contains("there is no admission list"), "{said:?}");
    open.ask(&["swarm", "connect", swarm.admin.address()]);
    connected(&swarm.admin, &open).await;
    until("the admin told of it", || open.status()["admission_list"].is_object()).await;
    let list = open.json(&["swarm", "members"])["admission_list"].clone();
    assert_eq!(open.status()["admission_list"], list);
    assert_eq!(list["admin"], swarm.admin_id.as_str(), "{list}");
    assert_eq!(list["unused_from"], swarm.admin.peer(), "{list}");
    assert!(list["issued"].as_u64() > Some(0), "{list}");
    let said = open.command(&["swarm", "members"]);
    for text in ["this node does not use it", &format!("--swarm-admin {}", swarm.admin_id)] {
        assert!(said.stderr.contains(text), "{said:?}");
    }
    // At the admin it is in force.
    let own = swarm.admin.json(&["swarm", "members"])["admission_list"].clone();
    assert_eq!((&own["unused_from"], &own["issued"]), (&Value::Null, &list["issued"]), "{own}");
    assert_eq!(own["admin"], list["admin"]);
}
