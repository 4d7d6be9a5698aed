use std::path::Path;

use super::*;

fn open(dir: &Path, key: &SwarmKey, admin: Option<PeerId>) -> Members {
    let options = Options { swarm_admin: admin, ..Options::new(dir) };
    Members::open(&options, key, PeerId::random()).unwrap()
}

/// The node of an admin and of another member, each with a directory.
struct Swarm {
    dirs: [tempfile::TempDir; 2],
    key: SwarmKey,
    admin: Members,
    member: Members,
}

impl Swarm {
    fn new() -> Self {
        let (dirs, key) = ([(); 2].map(|()| tempfile::tempdir().unwrap()), SwarmKey::generate());
        let admin = open(dirs[0].path(), &key, None);
        let id = admin.init_admin([]).unwrap();
        let member = open(dirs[1].path(), &key, Some(id));
        admin.allow(member.0.me).unwrap();
        Self { dirs, key, admin, member }
    }

    /// Tells the member what is new at the admin.
    fn tell(&self) -> (bool, Option<Refused>) {
        self.member.receive(self.admin.news_for(&self.member.sequences()))
    }
}

#[test]
fn a_list_with_a_higher_sequence_replaces_one_with_a_lower_sequence() {
    let swarm = Swarm::new();
    let (peer, before) = (PeerId::random(), swarm.admin.news_for(&Message::default()));
    assert!(swarm.member.admits(&peer), "without a list every key holder is a member");
    assert!(matches!(swarm.tell(), (true, None)));
    assert!(!swarm.member.admits(&peer) && swarm.member.admits(&swarm.admin.0.me));
    assert!(matches!(swarm.tell(), (false, None)), "it has it already");
    assert!(swarm.admin.allow(peer).unwrap() && !swarm.admin.allow(peer).unwrap());
    assert!(matches!(swarm.tell(), (true, None)));
    assert!(swarm.member.admits(&peer));
    assert!(swarm.admin.remove(peer).unwrap() && !swarm.admin.remove(peer).unwrap());
    swarm.tell();
    assert!(!swarm.member.admits(&peer));
    // An old list is not taken again.
    assert!(matches!(swarm.member.receive(before), (false, Some(Refused::Older { .. }))));
    assert!(!swarm.member.admits(&peer));
    assert!(matches!(swarm.admin.remove(swarm.admin.0.me), Err(AdminError::Oneself)));
    assert!(matches!(swarm.member.allow(peer), Err(AdminError::NoKey)));
}

#[test]
fn a_list_of_an_unknown_admin_is_refused() {
    let (swarm, other) = (Swarm::new(), Swarm::new());
    swarm.tell();
    let news = other.admin.news_for(&Message::default());
    assert!(matches!(swarm.member.receive(news.clone()), (false, Some(Refused::Signature(_)))));
    let dir = tempfile::tempdir().unwrap();
    let open = open(dir.path(), &swarm.key, None);
    assert!(matches!(open.receive(news), (false, Some(Refused::NoAdmin))));
    assert_eq!(open.list(), None);
}

#[test]
fn members_are_known_after_a_restart_and_forgotten_with_another_admin() {
    let swarm = Swarm::new();
    swarm.tell();
    swarm.member.save().unwrap();
    let admin = swarm.admin.admin();
    let again = open(swarm.dirs[1].path(), &swarm.key, admin);
    assert_eq!(again.list(), swarm.admin.list());
    assert_eq!(open(swarm.dirs[0].path(), &swarm.key, None).admin(), admin, "it has the key");
    let other = Swarm::new().admin.admin();
    assert_eq!(open(swarm.dirs[1].path(), &swarm.key, other).list(), None);
    let options = Options { swarm_admin: other, ..Options::new(swarm.dirs[0].path()) };
    let refused = Members::open(&options, &swarm.key, PeerId::random()).err().unwrap();
    assert!(matches!(refused, AdminError::OtherAdmin { .. }));
}

#[test]
fn a_new_swarm_key_is_taken_by_members_and_kept_over_a_restart() {
    let swarm = Swarm::new();
    swarm.tell();
    let old = swarm.key.bytes();
    let new = swarm.admin.rekey(Duration::from_secs(1000)).unwrap();
    assert!(matches!(swarm.admin.rekey(Duration::from_secs(1000)), Err(AdminError::UnderWay(_))));
    assert!(matches!(swarm.tell(), (true, None)));
    let expected = Keys { dial: old, accepted: vec![new.bytes()] };
    assert_eq!(swarm.member.ring().keys(), expected);
    assert_eq!(swarm.member.newest_key(), new);
    swarm.member.save().unwrap();
    let admin = swarm.admin.admin();
    for configured in [&swarm.key, &new] {
        let again = open(swarm.dirs[1].path(), configured, admin);
        assert_eq!((again.ring().keys(), again.newest_key()), (expected.clone(), new.clone()));
    }
    let fingerprints = [swarm.key.fingerprint(), new.fingerprint()];
    let dir = swarm.dirs[1].path();
    assert!(
        succeeds(dir, &fingerprints[0], &fingerprints[1])
            && succeeds(dir, &fingerprints[1], &fingerprints[0])
    );
    // A directory that moved to another swarm does not take its key from here.
    let other = SwarmKey::generate();
    assert!(!succeeds(dir, &fingerprints[0], &other.fingerprint()));
    assert_eq!(open(dir, &other, admin).newest_key(), other);
}

#[test]
fn the_new_key_of_another_swarm_is_refused() {
    let swarm = Swarm::new();
    swarm.tell();
    let admin = swarm.admin.admin();
    let dir = tempfile::tempdir().unwrap();
    let stranger = open(dir.path(), &SwarmKey::generate(), admin);
    swarm.admin.rekey(Duration::from_secs(10)).unwrap();
    let news = swarm.admin.news_for(&Message::default());
    assert!(matches!(stranger.receive(news), (true, Some(Refused::OtherKey))));
    assert_eq!(stranger.newest_key(), stranger.0.configured);
}

#[test]
fn a_new_key_is_not_told_without_an_admission_list() {
    let swarm = Swarm::new();
    swarm.tell();
    swarm.admin.rekey(Duration::from_secs(10)).unwrap();
    swarm.tell();
    swarm.member.state().list = None;
    assert!(swarm.member.news_for(&Message::default()).key.is_empty());
}
