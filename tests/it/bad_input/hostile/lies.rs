//! A peer that has a layer, sends its manifest and its root as it should, and lies about the rest.

use bytes::Bytes;
use libtest_mimic::Trial;
use ocipfs_bitswap::wire::{Kind, WantlistEntry};
use ocipfs_node::Cid;

use super::{Failed, Made, Stage, fails};
use crate::{
    harness::{noise, trials},
    http::get,
    peers::hostile::{Answer, block, honest, presence},
};

pub fn trials() -> Vec<Trial> {
    trials![
        blocks_with_wrong_bytes_are_rejected,
        a_block_that_does_not_match_the_want_is_rejected,
        a_silent_peer_times_out,
        a_peer_that_sends_a_truncated_message_times_out,
        a_message_with_a_length_prefix_beyond_the_limit_is_rejected,
        a_message_beyond_the_size_limit_is_rejected,
        a_malformed_message_is_rejected,
        a_block_beyond_the_size_limit_is_rejected,
        a_peer_that_sends_only_have_times_out,
        a_peer_that_sends_dont_have_after_have_is_given_up,
        unsolicited_blocks_are_not_stored,
        a_message_with_a_million_empty_blocks_takes_bounded_memory,
        a_root_block_with_wrong_bytes_is_rejected,
        a_duplicate_block_is_received_once,
    ]
}

/// Messages that are sent instead of a block, by its CID, its bytes and the number of earlier lies.
type Lie = fn(&Cid, &Bytes, usize) -> Vec<Bytes>;

/// Answers honestly but for the blocks below the file's root, which it says it has.
fn lying(made: &Made, lie: Lie) -> Answer {
    let (blocks, before) = (made.blocks.clone(), [made.manifest(), made.root]);
    let mut lies = 0;
    Box::new(move |want: &WantlistEntry| match blocks.get(&want.cid) {
        Some(data) if want.kind == Kind::Block && !before.contains(&want.cid) => {
            lies += 1;
            lie(&want.cid, data, lies - 1)
        }
        _ => honest(&blocks, want),
    })
}

/// With only the liar, a pull fails by name; with an honest peer as well, it succeeds.
async fn pull_survives(lie: Lie) {
    let made = Made::of(noise(8 << 20));
    let stage = Stage::new(&made, lying(&made, lie)).await;
    match fails(&stage.reader, &made.layer).await {
        Failed::Refused(status, text) => assert!(status == 504 && text.contains("PEER_TIMEOUT"), "{text}"),
        Failed::BrokenOff => {
            assert!(stage.reader.log().contains("received for 3.0 s"), "{}", stage.reader.log())
        }
    }
    assert!(stage.hostile.asked() >= 3, "the liar was asked");
    stage.ends_well().await;

    // Long enough for the honest peer to come.
    let stage = Stage::with_timeout(&made, lying(&made, lie), "20s").await;
    let url = stage.reader.url(&made.layer.blob_path());
    let pull = tokio::spawn(async move { get(&url).await });
    stage.is_asked().await;
    stage.meet();
    let answer = pull.await.expect("an answer");
    assert!(answer.status == 200 && answer.body == made.layer.bytes, "{}", answer.status);
    stage.ends_well().await;
}

async fn blocks_with_wrong_bytes_are_rejected() {
    pull_survives(|cid, data, _| {
        let mut wrong = data.to_vec();
        wrong[0] ^= 1;
        block(cid, wrong.into())
    })
    .await;
}

async fn a_block_that_does_not_match_the_want_is_rejected() {
    pull_survives(|cid, _, n| block(cid, n.to_be_bytes().to_vec().into())).await;
}

async fn a_silent_peer_times_out() {
    pull_survives(|_, _, _| vec![]).await;
}

async fn a_peer_that_sends_a_truncated_message_times_out() {
    pull_survives(|cid, data, n| {
        let whole = block(cid, data.clone()).concat();
        if n == 0 { vec![whole[..whole.len() / 2].to_vec().into()] } else { vec![] }
    })
    .await;
}

/// 100 MB as it stands before a message.
const LENGTH: [u8; 4] = [0x80, 0xc2, 0xd7, 0x2f];

async fn a_message_with_a_length_prefix_beyond_the_limit_is_rejected() {
    pull_survives(|_, _, _| vec![Bytes::from_static(&LENGTH)]).await;
}

async fn a_message_beyond_the_size_limit_is_rejected() {
    pull_survives(|_, _, n| match n {
        0 => [vec![Bytes::from_static(&LENGTH)], vec![Bytes::from(vec![0; 1_000_000]); 100]].concat(),
        _ => vec![],
    })
    .await;
}

async fn a_malformed_message_is_rejected() {
    pull_survives(|_, _, _| vec![Bytes::from_static(b"\x0bhello world")]).await;
}

async fn a_block_beyond_the_size_limit_is_rejected() {
    pull_survives(|cid, data, _| block(cid, [&data[..], &data[..], &data[..]].concat().into())).await;
}

async fn a_peer_that_sends_only_have_times_out() {
    pull_survives(|cid, _, _| presence(cid, true)).await;
}

async fn a_peer_that_sends_dont_have_after_have_is_given_up() {
    pull_survives(|cid, _, _| presence(cid, false)).await;
}

async fn unsolicited_blocks_are_not_stored() {
    pull_survives(|cid, _, n| (0..20).flat_map(|m| block(cid, noise(20_000 + 100 * n + m).into())).collect())
        .await;
}

async fn a_message_with_a_million_empty_blocks_takes_bounded_memory() {
    pull_survives(|_, _, n| match n {
        0..4 => empty_blocks(),
        _ => vec![],
    })
    .await;
}

/// A message as long as it may be, full of the shortest blocks there are.
fn empty_blocks() -> Vec<Bytes> {
    const BLOCK: [u8; 8] = [3 << 3 | 2, 6, 1 << 3 | 2, 4, 1, 0x55, 0x12, 32];
    let count = (4 << 20) / BLOCK.len();
    vec![Bytes::from_static(&[0x80, 0x80, 0x80, 0x02]), BLOCK.repeat(count).into()]
}

async fn a_root_block_with_wrong_bytes_is_rejected() {
    let made = Made::of(noise(8 << 20));
    let wrong = || -> Answer { Box::new(|want| block(&want.cid, Bytes::from_static(b"something else"))) };
    let stage = Stage::new(&made, wrong()).await;
    let Failed::Refused(404 | 504, text) = fails(&stage.reader, &made.layer).await else {
        panic!("nothing can have begun")
    };
    assert!(text.contains(made.layer.cid()), "{text}");
    stage.meet();
    let answer = get(&stage.reader.url(&made.layer.blob_path())).await;
    assert!(answer.status == 200 && answer.body == made.layer.bytes);
    assert!(stage.reader.log().contains("blocks that were not requested"), "the sender is named");
    stage.ends_well().await;
}

async fn a_duplicate_block_is_received_once() {
    let made = Made::of(noise(8 << 20));
    let often: Lie = |cid, data, _| (0..5).flat_map(|_| block(cid, data.clone())).collect();
    let stage = Stage::new(&made, lying(&made, often)).await;
    let answer = get(&stage.reader.url(&made.layer.blob_path())).await;
    assert!(answer.status == 200 && answer.body == made.layer.bytes, "{}", answer.status);
    let received = stage.reader.status()["received_blocks"].as_u64().expect("a number");
    assert_eq!(received, made.blocks.len() as u64);
    assert!(!stage.reader.log().contains("blocks that were not requested"), "it did not lie");
    stage.ends_well().await;
}
