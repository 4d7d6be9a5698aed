//! Two muxers connected by an in-memory pipe, and hand-written frames.

mod early_window;

use std::{future::poll_fn, sync::Arc, task::Poll, time::Duration};

use futures::AsyncReadExt;
use libp2p_core::muxing::{StreamMuxerBox, StreamMuxerExt, SubstreamBox};
use proptest::prelude::*;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
    time::{sleep, timeout},
};
use tokio_util::compat::TokioAsyncReadCompatExt;

use super::*;
use crate::unread::{Charge, FRAME_OVERHEAD, MAX_PIECE};

const KIB: usize = 1024;

fn account(limit: usize) -> Arc<Account> {
    Arc::new(Account::new(limit))
}

/// Polls a muxer and sends the streams it accepts, until it ends.
fn accept(socket: DuplexStream, account: &Arc<Account>) -> tokio::sync::mpsc::Receiver<SubstreamBox> {
    let config = Config::with_account(Arc::clone(account));
    let upgraded = config.upgrade(socket.compat(), yamux::Mode::Server).into_inner();
    let mut muxer = StreamMuxerBox::new(upgraded.unwrap());
    let (accepted, streams) = tokio::sync::mpsc::channel(1024);
    tokio::spawn(async move {
        let _ = poll_fn(|cx| {
            loop {
                match muxer.poll_inbound_unpin(cx) {
                    Poll::Ready(Ok(stream)) => drop(accepted.try_send(stream)),
                    Poll::Ready(Err(e)) => return Poll::Ready(e),
                    Poll::Pending => break,
                }
            }
            muxer.poll_unpin(cx).map(|event| event.unwrap_err())
        })
        .await;
    });
    streams
}

fn header(kind: u8, flags: u16, stream: u32, length: u32) -> [u8; 12] {
    let mut header = [0; 12];
    header[1] = kind;
    header[2..4].copy_from_slice(&flags.to_be_bytes());
    header[4..8].copy_from_slice(&stream.to_be_bytes());
    header[8..].copy_from_slice(&length.to_be_bytes());
    header
}

/// Writes data frames of `length` bytes on new streams, as far as the other side reads the socket.
async fn fill(
    socket: &mut DuplexStream,
    streams: std::ops::Range<u32>,
    frames: usize,
    length: usize,
) -> bool {
    let body = vec![7; length];
    for stream in streams {
        for frame in 0..frames {
            let header = header(0, u16::from(frame == 0), stream * 2 + 1, length as u32);
            let written = async {
                socket.write_all(&header).await?;
                socket.write_all(&body).await
            };
            if !matches!(timeout(Duration::from_millis(50), written).await, Ok(Ok(()))) {
                return false;
            }
        }
    }
    true
}

#[tokio::test(start_paused = true)]
async fn unread_streams_of_many_connections_stay_within_the_memory_limit() {
    let account = account(1024 * KIB);
    let mut kept = Vec::new();
    for _ in 0..8 {
        let (mut near, far) = duplex(4 * KIB);
        let streams = accept(far, &account);
        assert!(!fill(&mut near, 0..20, 16, 16 * KIB).await, "everything was taken");
        kept.push((near, streams));
    }
    assert!(account.held() > 512 * KIB, "{}", account.held());
    assert!(account.held() <= 1024 * KIB + 8 * (MAX_PIECE + FRAME_OVERHEAD), "{}", account.held());
    // Without a limit it would be 8 x 20 x 256 KiB.
}

#[tokio::test(start_paused = true)]
async fn one_byte_frames_are_charged_with_their_overhead() {
    let account = account(256 * KIB);
    let (mut near, far) = duplex(4 * KIB);
    let _streams = accept(far, &account);
    assert!(!fill(&mut near, 0..1, 200_000, 1).await);
    assert!(account.held() <= 256 * KIB + MAX_PIECE);
    assert!(account.held() / (1 + FRAME_OVERHEAD) < 4000);
}

#[tokio::test(start_paused = true)]
async fn a_connection_whose_unread_streams_fill_the_memory_is_closed_and_others_are_read() {
    let account = account(512 * KIB);
    let (mut near, far) = duplex(4 * KIB);
    let mut held = accept(far, &account);
    assert!(!fill(&mut near, 0..20, 16, 16 * KIB).await);

    let (mut other, far) = duplex(4 * KIB);
    let mut streams = accept(far, &account);
    let read = tokio::spawn(async move {
        let mut stream = streams.recv().await.unwrap();
        let mut bytes = vec![0; 128 * KIB];
        stream.read_exact(&mut bytes).await.unwrap();
    });
    assert!(fill(&mut other, 0..1, 128, KIB).await, "the other connection is not read");
    read.await.unwrap();

    sleep(Duration::from_secs(15)).await;
    let mut rest = Vec::new();
    timeout(Duration::from_secs(1), near.read_to_end(&mut rest)).await.expect("an end").unwrap();
    while held.recv().await.is_some() {}
    assert_eq!(account.held(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_receives_every_byte_with_a_small_account() {
    let account = account(40 * KIB);
    let (mut near, far) = duplex(4 * KIB);
    let mut streams = accept(far, &account);
    let reader = tokio::spawn(async move {
        let mut stream = streams.recv().await.unwrap();
        let mut bytes = vec![0; 10 * KIB];
        for _ in 0..20 {
            sleep(Duration::from_secs(8)).await;
            stream.read_exact(&mut bytes).await.unwrap();
        }
    });
    let body = vec![7; 200 * KIB];
    near.write_all(&header(0, SYN_FLAG, 1, body.len() as u32)).await.unwrap();
    near.write_all(&body).await.unwrap();
    reader.await.unwrap();
    assert_eq!(account.held(), 0);
}

const SYN_FLAG: u16 = 1;

/// Frames that open a stream and reset it at once, data for it, and a connection that breaks within a frame.
#[tokio::test(start_paused = true)]
async fn frames_for_streams_that_yamux_does_not_accept_leave_nothing_behind() {
    let account = account(1024 * KIB);
    let (mut near, far) = duplex(4 * KIB);
    let streams = accept(far, &account);
    for id in 0..10_000 {
        near.write_all(&header(1, 1 | 8, 2 * id + 1, 0)).await.unwrap();
    }
    for _ in 0..200 {
        near.write_all(&header(0, 0, 1, 16 << 10)).await.unwrap();
        near.write_all(&[7; 16 << 10]).await.unwrap();
    }
    assert_eq!(account.held(), 0);
    near.write_all(&header(0, 1, 30_001, 16 << 10)).await.unwrap();
    near.write_all(&[7; 1000]).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    drop((near, streams));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(account.held(), 0);
}

/// A frame, as a peer sends it.
#[derive(Clone, Debug)]
enum Frame {
    Data { flags: u16, length: u32 },
    Other { kind: u8, flags: u16, length: u32 },
}

fn frame() -> impl Strategy<Value = Frame> {
    prop_oneof![
        (0u16..16, 0u32..50_000).prop_map(|(flags, length)| Frame::Data { flags, length }),
        (1u8..4, 0u16..16, any::<u32>()).prop_map(|(kind, flags, length)| Frame::Other {
            kind,
            flags,
            length
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The frames carry the same data after cutting, for all sizes of reads.
    #[test]
    fn split_frames_carry_the_same_bytes_and_flags(
        frames in prop::collection::vec(frame(), 1..8),
        sizes in prop::collection::vec(1usize..30_000, 1..8),
    ) {
        let (mut sent, mut data, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for (at, frame) in frames.iter().enumerate() {
            match *frame {
                Frame::Data { flags, length } => {
                    let body = vec![at as u8; length as usize];
                    sent.extend(header(0, flags, 1, length));
                    sent.extend(&body);
                    // What comes with a reset is not read.
                    if flags & 8 == 0 {
                        data.extend(body);
                    }
                }
                Frame::Other { kind, flags, length } => {
                    sent.extend(header(kind, flags, 1, length));
                    others.push(header(kind, flags, 1, length));
                }
            }
        }
        let streams = Streams::new(account(1 << 30));
        streams.opened(1);
        let mut cut = Frames::new(futures::io::Cursor::new(sent), streams);
        let mut received = Vec::new();
        futures::executor::block_on(async {
            for size in sizes.iter().cycle() {
                let mut buffer = vec![0; *size];
                match cut.read(&mut buffer).await.unwrap() {
                    0 => break,
                    n => received.extend(&buffer[..n]),
                }
            }
        });
        let (mut got, mut got_others) = (Vec::<u8>::new(), Vec::<[u8; 12]>::new());
        let mut flags_seen = Vec::<u16>::new();
        let mut rest = &received[..];
        while let Some((head, after)) = rest.split_at_checked(12) {
            rest = after;
            let length = u32::from_be_bytes(head[8..12].try_into().unwrap()) as usize;
            if head[1] == 0 {
                prop_assert!(length <= MAX_PIECE);
                got.extend(&rest[..length]);
                rest = &rest[length..];
                flags_seen.push(u16::from_be_bytes([head[2], head[3]]));
            } else {
                got_others.push(<[u8; 12]>::try_from(head).unwrap());
            }
        }
        prop_assert_eq!(got, data);
        prop_assert_eq!(got_others, others);
        // Each flag is seen once for each frame that carried it.
        for flag in [1, 2, 4, 8] {
            let told = flags_seen.iter().filter(|flags| *flags & flag != 0).count();
            let carried = frames.iter().filter(|f| matches!(f, Frame::Data { flags, .. } if flags & flag != 0));
            prop_assert_eq!(told, carried.count());
        }
    }

    /// The account is empty at the end, for all orders of reads and drops.
    #[test]
    fn the_account_holds_exactly_the_charged_bytes_that_were_neither_read_nor_dropped(
        steps in prop::collection::vec((0u32..4, 0u32..4, 1u32..20_000), 1..200),
    ) {
        let account = account(1 << 30);
        let streams = Streams::new(Arc::clone(&account));
        let mut held = std::collections::HashMap::<u32, usize>::new();
        for (step, id, bytes) in steps {
            match step {
                0 => {
                    streams.opened(id);
                    held.entry(id).or_default();
                }
                1 => {
                    let charged = streams.charge(id, bytes, Waker::noop());
                    let expected = if held.contains_key(&id) { Charge::Done } else { Charge::NoStream };
                    prop_assert_eq!(charged, expected);
                    held.entry(id).and_modify(|held| *held += bytes as usize);
                }
                2 => {
                    if let Some(held) = held.get_mut(&id) {
                        let read = (*held).min(bytes as usize);
                        streams.read(id, read);
                        *held -= read;
                    }
                }
                _ => {
                    streams.dropped(id);
                    held.remove(&id);
                }
            }
            let bytes: usize = held.values().sum();
            prop_assert!(account.held() >= bytes && account.held() <= bytes + 200 * FRAME_OVERHEAD);
            prop_assert_eq!(account.held(), streams.held());
        }
        held.into_keys().for_each(|id| streams.dropped(id));
        prop_assert_eq!(account.held(), 0);
    }
}
