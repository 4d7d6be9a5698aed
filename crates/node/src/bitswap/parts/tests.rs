use futures::io::Cursor;
use libp2p::PeerId;

use super::*;
use crate::bitswap::{
    budget::{BlockMemory, Budget},
    wire::{Payload, Prefix},
};

fn message(length: usize) -> Message {
    let data = (0..length).map(|at| (at / 7) as u8).collect::<Vec<_>>().into();
    Message { blocks: vec![Payload { prefix: Prefix::V0, data }], ..Message::default() }
}

async fn queue(messages: Vec<Message>) -> Queue {
    let (out, queue) = mpsc::channel(messages.len());
    for message in messages {
        out.send(Outgoing::unbound(message)).await.unwrap();
    }
    Queue::new(queue)
}

async fn parts(queue: &mut Queue) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(part) = queue.part().await {
        let mut out = Cursor::new(Vec::new());
        part.write(&mut out, || ()).await.unwrap();
        all.push(out.into_inner());
    }
    all
}

/// The share of a peer that was asked for blocks.
fn share() -> Arc<Share> {
    let share = Budget::new(BlockMemory::default()).0.share(PeerId::random());
    share.asked();
    share
}

async fn read(open: &Open, bytes: Vec<u8>) -> Result<Vec<Message>, Error> {
    read_as(open, &share(), bytes).await
}

async fn read_as(open: &Open, share: &Arc<Share>, bytes: Vec<u8>) -> Result<Vec<Message>, Error> {
    let mut stream = Cursor::new(bytes);
    let mut all = Vec::new();
    while let Some(incoming) = open.read(&mut stream, share, || ()).await? {
        all.push(incoming.message);
    }
    Ok(all)
}

#[tokio::test]
async fn parts_are_put_together_whatever_stream_they_came_on() {
    for length in [PART, PART + 1, 1 << 20, 2 << 20] {
        let sent = message(length);
        let mut parts = parts(&mut queue(vec![sent.clone(), message(10)]).await).await;
        let small = parts.pop().unwrap();
        assert_eq!(
            parts.len(),
            sent.pieces(Version::V1_2).iter().map(Bytes::len).sum::<usize>().div_ceil(PART)
        );
        // The last stream comes first, with the small message among the parts; what came twice counts once.
        parts.reverse();
        parts.insert(1, parts[0].clone());
        parts.insert(1, small);
        let (open, share) = (Open::default(), share());
        let mut found = Vec::new();
        for part in parts {
            found.extend(read_as(&open, &share, part).await.unwrap());
        }
        assert_eq!(found, [message(10), sent], "{length}");
        assert!(open.messages.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn messages_go_whole_when_enough_went_in_parts() {
    let count = MOST_OPEN / (2 << 20) + 2;
    let sent = vec![message(2 << 20); count];
    let parts = parts(&mut queue(sent.clone()).await).await;
    let whole = parts.iter().filter(|part| part.len() > 2 << 20).count();
    assert!((1..count).contains(&whole), "{whole}");
    assert_eq!(read(&Open::default(), parts.concat()).await.unwrap(), sent);
}

#[tokio::test]
async fn what_is_no_part_ends_the_stream_with_its_reason() {
    let head = |numbers: &[u64]| {
        let mut head = BytesMut::new();
        numbers.iter().for_each(|number| put_varint(&mut head, *number));
        head.to_vec()
    };
    let mib = 1 << 20;
    for (numbers, part) in [
        (vec![mib, 1, 8], 0),
        (vec![mib, 1, u64::MAX], 0),
        (vec![0, 1, 0], 0),
        (vec![100 * mib, 1, 0], 0),
        (vec![mib, 1, 0], PART - 1),
        (vec![mib], 0),
    ] {
        let bytes = [head(&numbers), vec![0; part]].concat();
        assert!(read(&Open::default(), bytes).await.is_err(), "{numbers:?}");
    }
    let begun = |number, length| [head(&[length, number, 0]), vec![0; PART]].concat();
    let two_lengths = [begun(1, mib), begun(1, 2 * mib)].concat();
    assert!(read(&Open::default(), two_lengths).await.is_err());
    let too_much: Vec<u8> = (1..=9).flat_map(|number| begun(number, mib)).collect();
    assert!(read(&Open::default(), too_much).await.is_err());
    let just_enough: Vec<u8> = (1..=8).flat_map(|number| begun(number, mib)).collect();
    assert!(read(&Open::default(), just_enough).await.unwrap().is_empty());
}
