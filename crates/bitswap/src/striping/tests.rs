use futures::io::Cursor;
use libp2p::PeerId;

use super::*;
use crate::{
    budget::{BlockMemory, Budget},
    wire::{Payload, Prefix},
};

fn message(length: usize) -> Message {
    let data = (0..length).map(|at| (at / 7) as u8).collect::<Vec<_>>().into();
    Message { blocks: vec![Payload { prefix: Prefix::V0, data }], ..Message::default() }
}

async fn queue(messages: Vec<Message>) -> SendQueue {
    let (out, queue) = mpsc::channel(messages.len());
    for message in messages {
        out.send(Outgoing::unbound(message)).await.unwrap();
    }
    SendQueue::new(queue)
}

async fn stripes(queue: &mut SendQueue) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(stripe) = queue.next_stripe().await {
        all.push(stripe.pieces().concat());
    }
    all
}

/// Returns the share of a peer with open requests.
fn share() -> Arc<Share> {
    let share = Budget::new(BlockMemory::default()).0.share(PeerId::random());
    share.requested();
    share
}

async fn read(reassembly: &Reassembly, bytes: Vec<u8>) -> Result<Vec<Message>, Error> {
    read_as(reassembly, &share(), bytes).await
}

async fn read_as(reassembly: &Reassembly, share: &Arc<Share>, bytes: Vec<u8>) -> Result<Vec<Message>, Error> {
    let mut stream = Cursor::new(bytes);
    let mut all = Vec::new();
    while let Some(incoming) = reassembly.read(&mut stream, share, || ()).await? {
        all.push(incoming.message);
    }
    Ok(all)
}

#[tokio::test]
async fn stripes_are_reassembled_from_any_stream_in_any_order() {
    for length in [STRIPE_SIZE, STRIPE_SIZE + 1, 1 << 20, 2 << 20] {
        let sent = message(length);
        let mut stripes = stripes(&mut queue(vec![sent.clone(), message(10)]).await).await;
        let small = stripes.pop().unwrap();
        assert_eq!(
            stripes.len(),
            sent.pieces(Version::V1_2).iter().map(Bytes::len).sum::<usize>().div_ceil(STRIPE_SIZE)
        );
        // The last stream comes first, with the small message among the stripes; a duplicate stripe counts once.
        stripes.reverse();
        stripes.insert(1, stripes[0].clone());
        stripes.insert(1, small);
        let (reassembly, share) = (Reassembly::default(), share());
        let mut found = Vec::new();
        for stripe in stripes {
            found.extend(read_as(&reassembly, &share, stripe).await.unwrap());
        }
        assert_eq!(found, [message(10), sent], "{length}");
        assert!(reassembly.messages.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn messages_are_sent_whole_once_the_striping_limit_is_reached() {
    let count = MAX_STRIPED_BYTES / (2 << 20) + 2;
    let sent = vec![message(2 << 20); count];
    let stripes = stripes(&mut queue(sent.clone()).await).await;
    let whole = stripes.iter().filter(|stripe| stripe.len() > 2 << 20).count();
    assert!((1..count).contains(&whole), "{whole}");
    assert_eq!(read(&Reassembly::default(), stripes.concat()).await.unwrap(), sent);
}

#[tokio::test]
async fn an_invalid_stripe_closes_the_stream_with_an_error() {
    let head = |numbers: &[u64]| {
        let mut head = BytesMut::new();
        numbers.iter().for_each(|number| put_varint(&mut head, *number));
        head.to_vec()
    };
    let mib = 1 << 20;
    for (numbers, stripe) in [
        (vec![mib, 1, 8], 0),
        (vec![mib, 1, u64::MAX], 0),
        (vec![0, 1, 0], 0),
        (vec![100 * mib, 1, 0], 0),
        (vec![mib, 1, 0], STRIPE_SIZE - 1),
        (vec![mib], 0),
    ] {
        let bytes = [head(&numbers), vec![0; stripe]].concat();
        assert!(read(&Reassembly::default(), bytes).await.is_err(), "{numbers:?}");
    }
    let begun = |number, length| [head(&[length, number, 0]), vec![0; STRIPE_SIZE]].concat();
    let two_lengths = [begun(1, mib), begun(1, 2 * mib)].concat();
    assert!(read(&Reassembly::default(), two_lengths).await.is_err());
    let too_much: Vec<u8> = (1..=9).flat_map(|number| begun(number, mib)).collect();
    assert!(read(&Reassembly::default(), too_much).await.is_err());
    let just_enough: Vec<u8> = (1..=8).flat_map(|number| begun(number, mib)).collect();
    assert!(read(&Reassembly::default(), just_enough).await.unwrap().is_empty());
}
