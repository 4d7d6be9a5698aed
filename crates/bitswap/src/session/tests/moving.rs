//! Requests that move from one peer to another.

use super::*;

#[test]
fn requests_move_from_a_complete_peer_to_a_partial_one() {
    let mut scene = Scene::new(2, 10);
    scene.plan();
    scene.pass(MOMENT);
    scene.on_block(0, 0);
    assert_eq!(numbers(&scene.plan().0), (1..10).collect::<Vec<_>>());
    scene.on_have(1, 1);
    scene.on_have(1, 5);
    scene.pass(MOMENT);
    assert_eq!(scene.plan().0, [(1, 5)], "the front stays where it is");
    assert_eq!(scene.cancelled, [(0, 5)]);
    scene.on_dont_have(1, 5);
    assert_eq!(scene.plan().0, [(0, 5)], "and comes back where it was an error");
}

#[test]
fn requests_move_from_a_busy_peer_to_an_idle_one_the_last_ones_first() {
    let mut scene = Scene::new(2, 12);
    scene.plan();
    (0..12).for_each(|n| scene.on_have(0, n));
    assert_eq!(numbers(&scene.plan().0), (1..12).collect::<Vec<_>>());
    (8..12).for_each(|n| scene.on_have(1, n));
    scene.pass(MOMENT);
    assert_eq!(scene.plan().0, [(1, 11)], "it never delivered a block, so it is tried with one");
    scene.pass(MOMENT);
    scene.on_block(1, 11);
    assert_eq!(scene.plan().0, [(1, 10), (1, 9), (1, 8)]);
    assert_eq!(scene.cancelled, [(0, 11), (0, 10), (0, 9), (0, 8)]);
}

#[test]
fn requests_do_not_move_back_and_forth_between_a_complete_and_a_partial_peer() {
    let mut scene = Scene::new(2, 14);
    scene.plan();
    scene.pass(MOMENT);
    scene.on_block(0, 0);
    scene.plan();
    (1..14).for_each(|n| scene.on_have(1, n));
    scene.pass(MOMENT);
    assert!(!scene.plan().0.is_empty(), "some move to the partial peer");
    scene.cancelled.clear();
    // Hedging begins later.
    for _ in 0..4 {
        scene.pass(Duration::from_millis(100));
        scene.heard.extend(scene.peers.iter().map(|peer| (*peer, scene.now)));
        let (blocks, haves) = scene.plan();
        assert_eq!((blocks, haves), (vec![], vec![]));
    }
    assert_eq!(scene.cancelled, []);
}

#[test]
fn a_request_moves_to_an_idle_complete_peer_although_busy_partial_ones_have_room() {
    let mut scene = Scene::new(3, 40);
    scene.plan();
    (0..40).for_each(|n| scene.on_have(1, n));
    let asked = scene.plan().0;
    assert!(asked.len() > 10 && asked.iter().all(|(peer, _)| *peer == 1), "{asked:?}");
    scene.session.presume_complete(&scene.peers[2]);
    scene.pass(MOMENT);
    let moved = scene.plan().0;
    assert!(moved.iter().any(|(peer, _)| *peer == 2), "{moved:?}");
}
