//! Whole connections over links.

use super::*;

const LONG: Duration = Duration::from_secs(20);

/// Two ends of a connection over `link`, and the proxy that makes it.
fn pair(proxy: &mut Proxy, link: Link) -> (TcpStream, TcpStream) {
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    proxy.lead(target.local_addr().unwrap(), link);
    let client = TcpStream::connect(proxy.address()).unwrap();
    let (server, _) = target.accept().unwrap();
    for end in [&client, &server] {
        end.set_read_timeout(Some(LONG)).unwrap();
        end.set_nodelay(true).unwrap();
    }
    (client, server)
}

fn noise(length: usize, seed: u64) -> Vec<u8> {
    let word = |i: u64| (i + seed).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (0..length as u64).map(|i| (word(i) >> 56) as u8).collect()
}

/// Sends `bytes` and gives what came out at the other end, and when the last of it did.
fn send(mut from: TcpStream, mut to: TcpStream, bytes: Vec<u8>) -> (Vec<u8>, Duration) {
    let start = Instant::now();
    let length = bytes.len();
    let sender = thread::spawn(move || from.write_all(&bytes).map(|()| from));
    let mut got = vec![0; length];
    to.read_exact(&mut got).unwrap();
    sender.join().unwrap().unwrap();
    (got, start.elapsed())
}

#[test]
fn bytes_come_out_in_order_both_ways() {
    let mut proxy = Proxy::bind().unwrap();
    let (client, server) = pair(&mut proxy, Link::new(Duration::from_millis(6), None));
    let (there, back) = (noise(3 << 20, 1), noise(3 << 20, 2));
    let (from, to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    let expected = back.clone();
    let backward = thread::spawn(move || send(from, to, back).0);
    assert!(send(client, server, there.clone()).0 == there);
    assert!(backward.join().unwrap() == expected);
}

#[test]
fn a_round_trip_takes_what_was_asked() {
    let mut proxy = Proxy::bind().unwrap();
    let (mut client, mut server) = pair(&mut proxy, Link::new(Duration::from_millis(40), None));
    let echo = thread::spawn(move || {
        let mut byte = [0];
        while server.read_exact(&mut byte).is_ok() {
            server.write_all(&byte).unwrap();
        }
    });
    let took: Vec<_> = (0..5)
        .map(|_| {
            let start = Instant::now();
            client.write_all(&[7]).unwrap();
            client.read_exact(&mut [0]).unwrap();
            start.elapsed()
        })
        .collect();
    drop(client);
    echo.join().unwrap();
    assert!(took.iter().all(|t| *t >= Duration::from_millis(40)), "{took:?}");
    // A busy machine is late now and then, not each time.
    assert!(took.iter().any(|t| *t < Duration::from_millis(45)), "{took:?}");
}

#[test]
fn one_shaper_holds_all_its_connections_to_its_cap() {
    let cap = 40_000_000;
    let way = Way { shapers: vec![Shaper::new(cap)], delay: Duration::ZERO };
    let link = Link { there: way.clone(), back: Way::default() };
    let start = Instant::now();
    let transfers: Vec<_> = (0..2)
        .map(|seed| {
            let mut proxy = Proxy::bind().unwrap();
            let (client, server) = pair(&mut proxy, link.clone());
            thread::spawn(move || (proxy, send(client, server, vec![seed; 8 << 20])).1)
        })
        .collect();
    for transfer in transfers {
        transfer.join().unwrap();
    }
    let rate = (16 << 20) as f64 / start.elapsed().as_secs_f64();
    let passed = way.shapers[0].passed();
    assert_eq!(passed, 16 << 20);
    assert!(rate < cap as f64 * 1.02, "{rate}");
    assert!(rate > cap as f64 * 0.6, "{rate}");
}

#[test]
fn an_end_that_closes_is_seen_at_the_other_after_the_last_byte() {
    let mut proxy = Proxy::bind().unwrap();
    let (mut client, mut server) = pair(&mut proxy, Link::new(Duration::from_millis(10), None));
    client.write_all(b"last words").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut said = String::new();
    server.read_to_string(&mut said).unwrap();
    assert_eq!(said, "last words");
    drop(server);
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
}
