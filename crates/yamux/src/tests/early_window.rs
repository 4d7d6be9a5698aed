//! The window that the peer is granted before its streams are read.

use super::*;
use crate::grants::{DATA, EARLY_WINDOW, WINDOW_UPDATE};

const FIN_FLAG: u16 = 4;
const RST_FLAG: u16 = 8;
const ALL: usize = yamux::DEFAULT_CREDIT as usize + EARLY_WINDOW as usize;

/// Reads frames until a window update for a stream comes, and returns its bytes.
async fn window_update(near: &mut DuplexStream, stream: u32) -> u32 {
    loop {
        let mut head = [0; 12];
        near.read_exact(&mut head).await.unwrap();
        let word = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().unwrap());
        if head[1] == DATA {
            near.read_exact(&mut vec![0; word(8) as usize]).await.unwrap();
        }
        if head[1] == WINDOW_UPDATE && word(4) == stream {
            return word(8);
        }
    }
}

/// Bytes that differ from place to place.
fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at / 7 + at / 1000) as u8).collect()
}

/// Writes a data frame.
async fn send(near: &mut DuplexStream, flags: u16, stream: u32, body: &[u8]) {
    near.write_all(&header(DATA, flags, stream, body.len() as u32)).await.unwrap();
    near.write_all(body).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_the_peer_opens_has_a_large_window_before_it_is_read() {
    let account = account(32 << 20);
    let (mut near, far) = duplex(8 << 20);
    let mut streams = accept(far, &account);
    near.write_all(&header(WINDOW_UPDATE, SYN_FLAG, 1, 0)).await.unwrap();
    assert_eq!(window_update(&mut near, 1).await, EARLY_WINDOW);
    let body = bytes(ALL);
    for part in body.chunks(60_000) {
        send(&mut near, 0, 1, part).await;
    }
    near.write_all(&header(WINDOW_UPDATE, FIN_FLAG, 1, 0)).await.unwrap();
    // Another stream is not held up meanwhile.
    send(&mut near, SYN_FLAG | FIN_FLAG, 3, b"hello").await;
    let (mut first, mut second) = (streams.recv().await.unwrap(), streams.recv().await.unwrap());
    let mut text = Vec::new();
    second.read_to_end(&mut text).await.unwrap();
    assert_eq!(text, b"hello");
    let mut got = Vec::new();
    first.read_to_end(&mut got).await.unwrap();
    assert!(got == body, "{} of {} bytes", got.len(), body.len());
    drop((first, second));
    assert_eq!(account.held(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_window_grows_while_a_frame_is_read_goes_on() {
    let account = account(32 << 20);
    let (mut near, far) = duplex(8 << 20);
    let mut streams = accept(far, &account);
    near.write_all(&header(WINDOW_UPDATE, SYN_FLAG, 1, 0)).await.unwrap();
    assert_eq!(window_update(&mut near, 1).await, EARLY_WINDOW);
    let body = bytes(yamux::DEFAULT_CREDIT as usize + 10_000);
    let (within, beyond) = body.split_at(yamux::DEFAULT_CREDIT as usize);
    send(&mut near, 0, 1, within).await;
    // Half of a frame that the window of yamux has no room for; yamux grants more before the other half comes.
    let (half, rest) = beyond.split_at(beyond.len() / 2);
    near.write_all(&header(DATA, 0, 1, beyond.len() as u32)).await.unwrap();
    near.write_all(half).await.unwrap();
    let mut stream = streams.recv().await.unwrap();
    let mut got = vec![0; body.len()];
    let sent = async {
        window_update(&mut near, 1).await;
        near.write_all(rest).await.unwrap();
    };
    let both = futures::future::join(stream.read_exact(&mut got), sent);
    timeout(Duration::from_secs(5), both).await.expect("all bytes").0.unwrap();
    assert!(got == body);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_sends_more_than_it_was_granted_is_disconnected() {
    let account = account(64 << 20);
    let (mut near, far) = duplex(8 << 20);
    let mut streams = accept(far, &account);
    send(&mut near, SYN_FLAG, 1, &[]).await;
    let stream = streams.recv().await.unwrap();
    for part in bytes(ALL + 100_000).chunks(16 << 10) {
        send(&mut near, 0, 1, part).await;
    }
    let mut rest = Vec::new();
    timeout(Duration::from_secs(5), near.read_to_end(&mut rest)).await.expect("an end").unwrap();
    drop(stream);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(account.held(), 0);
}

#[tokio::test(start_paused = true)]
async fn held_bytes_of_a_dropped_or_reset_stream_are_released() {
    let account = account(32 << 20);
    let (mut near, far) = duplex(8 << 20);
    let mut streams = accept(far, &account);
    for (id, reset) in [(1, false), (3, true)] {
        send(&mut near, SYN_FLAG, id, &[]).await;
        let mut stream = streams.recv().await.unwrap();
        for part in bytes(ALL / 2).chunks(50_000) {
            send(&mut near, 0, id, part).await;
        }
        sleep(Duration::from_secs(1)).await;
        assert!(account.held() > ALL / 2);
        if reset {
            near.write_all(&header(DATA, RST_FLAG, id, 0)).await.unwrap();
            sleep(Duration::from_secs(1)).await;
            let mut got = Vec::new();
            let _ = stream.read_to_end(&mut got).await;
            assert!(got.len() < ALL / 2, "what is held is lost with a reset");
        }
        drop(stream);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(account.held(), 0);
    }
    send(&mut near, SYN_FLAG | FIN_FLAG, 5, b"still here").await;
    let mut got = Vec::new();
    streams.recv().await.unwrap().read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"still here");
}

#[tokio::test(start_paused = true)]
async fn no_early_window_is_granted_while_memory_is_short() {
    let account = account(512 * KIB);
    let (mut near, far) = duplex(8 << 20);
    let mut streams = accept(far, &account);
    send(&mut near, SYN_FLAG, 1, &bytes(200 * KIB)).await;
    let _first = streams.recv().await.unwrap();
    sleep(Duration::from_secs(1)).await;
    send(&mut near, SYN_FLAG, 3, &[]).await;
    let _second = streams.recv().await.unwrap();
    let update = timeout(Duration::from_secs(5), window_update(&mut near, 3)).await;
    assert!(update.is_err(), "{update:?}");
}

/// A foreign muxer with windows of its own at the other end.
#[tokio::test(start_paused = true)]
async fn streams_of_another_yamux_arrive_whole_in_both_directions() {
    let account = account(8 << 20);
    let (near, far) = duplex(64 * KIB);
    let mut streams = accept(far, &account);
    let mut other = yamux::Connection::new(near.compat(), yamux::Config::default(), yamux::Mode::Client);
    let mut opened = Vec::new();
    for _ in 0..5 {
        opened.push(poll_fn(|cx| other.poll_new_outbound(cx)).await.unwrap());
    }
    tokio::spawn(async move {
        while let Ok(_stream) = poll_fn(|cx| other.poll_next_inbound(cx)).await.unwrap() {}
    });
    let writers = opened.into_iter().map(|mut stream| {
        tokio::spawn(async move {
            futures::AsyncWriteExt::write_all(&mut stream, &bytes(3 << 20)).await.unwrap();
            futures::AsyncWriteExt::close(&mut stream).await.unwrap();
            let mut back = Vec::new();
            stream.read_to_end(&mut back).await.unwrap();
            assert!(back == bytes(1 << 20));
        })
    });
    let writers: Vec<_> = writers.collect();
    for _ in 0..writers.len() {
        let mut stream = streams.recv().await.unwrap();
        tokio::spawn(async move {
            let mut got = Vec::new();
            stream.read_to_end(&mut got).await.unwrap();
            assert!(got == bytes(3 << 20));
            futures::AsyncWriteExt::write_all(&mut stream, &bytes(1 << 20)).await.unwrap();
            futures::AsyncWriteExt::close(&mut stream).await.unwrap();
        });
    }
    for writer in writers {
        timeout(Duration::from_secs(60), writer).await.expect("an end").unwrap();
    }
    sleep(Duration::from_secs(1)).await;
    assert_eq!(account.held(), 0);
}
