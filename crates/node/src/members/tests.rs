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
    assert!(matches!(stranger.receive(news), (false, Some(Refused::OtherKey))));
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

#[test]
fn the_list_of_another_swarm_of_the_same_admin_is_refused() {
    let (swarm, dir) = (Swarm::new(), tempfile::tempdir().unwrap());
    let stranger = open(dir.path(), &SwarmKey::generate(), swarm.admin.admin());
    let news = swarm.admin.news_for(&Message::default());
    assert!(matches!(stranger.receive(news), (false, Some(Refused::OtherSwarm))));
    assert_eq!(stranger.list(), None);
    // Nor does the node directory take its list along to a swarm of another admin.
    swarm.tell();
    swarm.member.save().unwrap();
    let moved = open(swarm.dirs[1].path(), &SwarmKey::generate(), Swarm::new().admin.admin());
    assert_eq!(moved.list(), None);
    let without = open(swarm.dirs[1].path(), &SwarmKey::generate(), None);
    assert_eq!(without.list(), None);
}

#[test]
fn the_members_stay_the_same_where_the_swarm_key_is_replaced_by_hand() {
    let swarm = Swarm::new();
    let removed = PeerId::random();
    swarm.admin.allow(removed).unwrap();
    swarm.admin.remove(removed).unwrap();
    swarm.tell();
    swarm.member.save().unwrap();
    let before = swarm.admin.list().unwrap();
    let key = SwarmKey::generate();
    let [admin, member] =
        [(0, None), (1, swarm.admin.admin())].map(|(n, admin)| open(swarm.dirs[n].path(), &key, admin));
    assert!(!member.admits(&removed) && member.list().as_ref() == Some(&before));
    assert!(member.news_for(&Message::default()).list.is_empty(), "others would refuse it");
    // Nor does a write lose it.
    member.save().unwrap();
    let member_again = open(swarm.dirs[1].path(), &key, swarm.admin.admin());
    assert_eq!(member_again.list().as_ref(), Some(&before));
    let renewed = admin.list().unwrap();
    assert!(!admin.admits(&removed) && renewed.members.is_superset(&before.members));
    assert!(renewed.sequence == before.sequence + 1 && renewed.swarm == key.fingerprint());
    assert!(matches!(member.receive(admin.news_for(&member.sequences())), (true, None)));
    assert_eq!(member.list(), admin.list());
    let peer = PeerId::random();
    admin.allow(peer).unwrap();
    assert!(admin.list().unwrap().members.is_superset(&before.members) && admin.admits(&peer));
    // A list of the key before does not come back.
    assert!(matches!(
        member.receive(swarm.admin.news_for(&Message::default())),
        (false, Some(Refused::OtherSwarm))
    ));
}

#[test]
fn a_list_is_for_the_newest_key_and_taken_by_new_nodes_with_either() {
    let swarm = Swarm::new();
    let new = swarm.admin.rekey(Duration::from_secs(1000)).unwrap();
    assert_eq!(swarm.admin.list().unwrap().swarm, new.fingerprint());
    for key in [&swarm.key, &new] {
        let dir = tempfile::tempdir().unwrap();
        let fresh = open(dir.path(), key, swarm.admin.admin());
        let told = fresh.receive(swarm.admin.news_for(&fresh.sequences()));
        assert!(matches!(told, (true, None)), "{told:?}");
        assert_eq!((fresh.list(), fresh.newest_key()), (swarm.admin.list(), new.clone()));
    }
}

#[test]
fn a_new_node_takes_the_newer_of_two_lists_and_none_older_than_its_invitation_tells() {
    let swarm = Swarm::new();
    let removed = PeerId::random();
    swarm.admin.allow(removed).unwrap();
    let old = swarm.admin.news_for(&Message::default());
    swarm.admin.remove(removed).unwrap();
    let news = swarm.admin.news_for(&Message::default());
    let [one, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let fresh = open(one.path(), &swarm.key, swarm.admin.admin());
    fresh.receive(old.clone());
    assert!(fresh.admits(&removed), "it cannot know better yet");
    fresh.receive(news.clone());
    assert!(!fresh.admits(&removed));
    expect_list(other.path(), swarm.admin.list().unwrap().sequence).unwrap();
    let invited = open(other.path(), &swarm.key, swarm.admin.admin());
    assert!(matches!(invited.receive(old.clone()), (false, Some(Refused::Older { .. }))));
    assert_eq!(invited.list(), None);
    assert!(matches!(invited.receive(news), (true, None)));
    invited.save().unwrap();
    let again = open(other.path(), &swarm.key, swarm.admin.admin());
    assert!(matches!(again.receive(old), (false, Some(Refused::Older { .. }))) && !again.admits(&removed));
}

#[test]
fn of_two_lists_with_one_number_the_later_one_counts() {
    let swarm = Swarm::new();
    swarm.tell();
    // The admin's directory was restored from a backup, and the list changed in another way.
    let list = swarm.admin.list().unwrap();
    let peer = PeerId::random();
    let mut members = list.members.clone();
    members.insert(peer);
    let key = admin::load(swarm.dirs[0].path()).unwrap().unwrap();
    let sealed = |issued| {
        let later = AdmissionList { members: members.clone(), issued, ..list.clone() };
        Message { list: list::seal(&later, &key).unwrap(), ..Message::default() }
    };
    assert!(matches!(swarm.member.receive(sealed(list.issued - 1)), (false, None)));
    assert!(!swarm.member.admits(&peer));
    assert!(matches!(swarm.member.receive(sealed(list.issued + 1)), (true, None)));
    assert!(swarm.member.admits(&peer));
}

#[test]
fn a_list_of_an_older_version_counts_at_its_node_until_the_admin_has_signed_it_again() {
    let swarm = Swarm::new();
    swarm.tell();
    let key = admin::load(swarm.dirs[0].path()).unwrap().unwrap();
    let list = swarm.admin.list().unwrap();
    let old = list::seal_old(&list, &key);
    for members in [&swarm.admin, &swarm.member] {
        let mut saved = members.state().saved();
        saved.list.clone_from(&old);
        file::save(&members.0.data_dir, &saved).unwrap();
    }
    let member = open(swarm.dirs[1].path(), &swarm.key, swarm.admin.admin());
    assert_eq!(member.list().unwrap().members, list.members);
    assert!(member.news_for(&Message::default()).list.is_empty(), "others would refuse it");
    let admin = open(swarm.dirs[0].path(), &swarm.key, None);
    let renewed = admin.list().unwrap();
    assert!(renewed.sequence == list.sequence + 1 && renewed.swarm == swarm.key.fingerprint());
    assert!(matches!(member.receive(admin.news_for(&member.sequences())), (true, None)));
    assert_eq!(member.list(), admin.list());
}

#[tokio::test(start_paused = true)]
async fn members_that_cannot_be_written_count_and_are_written_again_until_they_are() {
    let swarm = Swarm::new();
    let path = swarm.dirs[1].path().join(FILE);
    // A directory in its place: no rename succeeds.
    std::fs::create_dir(&path).unwrap();
    let running = tokio::spawn(swarm.member.clone().run());
    tokio::time::sleep(FIRST_RETRY).await;
    swarm.tell();
    tokio::time::sleep(FIRST_RETRY * 5).await;
    assert!(path.is_dir() && swarm.member.list() == swarm.admin.list());
    std::fs::remove_dir(&path).unwrap();
    tokio::time::sleep(MAX_RETRY * 2).await;
    running.abort();
    let again = open(swarm.dirs[1].path(), &swarm.key, swarm.admin.admin());
    assert_eq!(again.list(), swarm.admin.list());
}

#[test]
fn an_admin_whose_first_list_cannot_be_written_is_made_by_the_next_try() {
    let dir = tempfile::tempdir().unwrap();
    let members = open(dir.path(), &SwarmKey::generate(), None);
    let path = dir.path().join(FILE);
    std::fs::create_dir(&path).unwrap();
    assert!(matches!(members.init_admin([]), Err(AdminError::Save(_))));
    assert!(members.list().is_none() && members.admin().is_none());
    std::fs::remove_dir(&path).unwrap();
    let admin = members.init_admin([]).unwrap();
    assert!(matches!(members.init_admin([]), Err(AdminError::Exists(there)) if there == admin));
}

#[test]
fn a_list_that_peers_tell_of_is_known_where_no_admin_is_trusted() {
    let swarm = Swarm::new();
    let (dir, peers) = (tempfile::tempdir().unwrap(), [PeerId::random(), PeerId::random()]);
    let open = open(dir.path(), &swarm.key, None);
    open.hear_of_list(peers[0], &Message::default());
    assert_eq!(open.told_list(), None);
    // A peer of an earlier version does not say who signed it.
    let told = swarm.admin.sequences();
    open.hear_of_list(peers[0], &Message { list_admin: None, ..told.clone() });
    assert_eq!(open.told_list().map(|list| (list.peer, list.admin)), Some((peers[0], None)));
    open.hear_of_list(peers[1], &told);
    let list = open.told_list().unwrap();
    assert_eq!((list.peer, list.admin, list.sequence), (peers[1], swarm.admin.admin(), 2));
    assert!(list.issued > 0);
    // An older one changes nothing, and where an admin is trusted none is told of.
    open.hear_of_list(peers[0], &Message { list_sequence: 1, ..told.clone() });
    assert_eq!(open.told_list(), Some(list));
    swarm.member.hear_of_list(peers[0], &told);
    assert_eq!(swarm.member.told_list(), None);
}
