//! Content of foreign seeders, 50 ms away: Kubo over TCP and over QUIC, one and three of them, and an HTTP provider.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use super::{
    Room,
    turns::{Contender, Taken, in_turns},
};
use crate::{
    Failure,
    proxy::{Link, Proxy},
    report::{Row, Target},
    rpc::Rpc,
    server::{Distant, Kubo, KuboSettings, Ocipfs, Serve},
};

const ROUND_TRIP: Duration = Duration::from_millis(50);
const SEEDERS: usize = 3;
/// How often Kubo tries to fetch over HTTP before it has failed.
const KUBO_TRIES: usize = 3;
/// Kubo's own fetches take long.
const MIB: usize = 64;
/// As profiles of today chunk.
const CHUNKER: &str = "&chunker=size-1048576&raw-leaves=true";

pub fn run(room: &Room) -> Result<(), Failure> {
    // Built before anything is measured.
    room.programs.kubo()?;
    let (tar, _) = room.new_tar(room.plan.size(MIB))?;
    room.show(http(room, &tar)?);
    let seeders = (0..SEEDERS).map(|_| Kubo::distant(room, &link())).collect::<Result<Vec<_>, _>>()?;
    let mut cid = String::new();
    for seeder in &seeders {
        cid = seeder.node.rpc().add_with(&tar, CHUNKER)?;
    }
    let file = File { cid, size: tar.metadata()?.len() };
    room.show(quic(room, &seeders[0], &file));
    room.show(tcp(room, &seeders[0], &file));
    room.show(several(room, &seeders, &file));
    room.show(served(room, &tar, &seeders[0], &file)?);
    Ok(())
}

fn link() -> Link {
    Link::new(ROUND_TRIP, None)
}

/// A file at the seeders.
struct File {
    cid: String,
    size: u64,
}

impl File {
    fn title(&self, what: &str) -> String {
        let (mib, ms) = (self.size >> 20, ROUND_TRIP.as_millis());
        format!("cold cat of {mib} MiB, blocks of 1 MiB, at {ms} ms: {what}")
    }

    /// Reads it from a node that does not have it.
    fn read(&self, rpc: Rpc) -> Result<Taken, Failure> {
        let start = Instant::now();
        let came = rpc.cat(&self.cid, None)?;
        let taken = Taken::rate(came, start.elapsed());
        if came == self.size { Ok(taken) } else { Err(format!("{came} bytes came").into()) }
    }

    fn by_ocipfs(&self, room: &Room, addresses: &[&str], peers: usize) -> Result<Taken, Failure> {
        let node = Ocipfs::connected_at_with_rpc(room, addresses, peers)?;
        let taken = self.read(node.rpc()?)?;
        node.discard()?;
        Ok(taken)
    }

    fn by_kubo(&self, room: &Room, address: &str) -> Result<Taken, Failure> {
        let node = Kubo::start(room, None)?;
        node.rpc().call(&format!("swarm/connect?arg={address}"))?;
        let taken = self.read(node.rpc())?;
        node.discard()?;
        Ok(taken)
    }
}

fn quic(room: &Room, seeder: &Distant, file: &File) -> Row {
    let both = [&*seeder.tcp, &*seeder.quic];
    let contenders = vec![
        Contender::new("ocipfs", || file.by_ocipfs(room, &both, 1)),
        Contender::new("Kubo over QUIC", || file.by_kubo(room, &seeder.quic)),
        Contender::new("ocipfs over QUIC", || file.by_ocipfs(room, &[&seeder.quic], 1)),
    ];
    let series = in_turns(room, room.plan.few(), contenders);
    let row = Row::new("foreign", file.title("Kubo offers TCP and QUIC"), series);
    let row = row.ratio("Kubo over QUIC", Target::at_least(1.8));
    let rates = row.values("ocipfs").to_vec();
    row.check("ocipfs", "MB/s", &rates, Target::at_least(18.0))
}

fn tcp(room: &Room, seeder: &Distant, file: &File) -> Row {
    let contenders = vec![
        Contender::new("ocipfs", || file.by_ocipfs(room, &[&seeder.tcp], 1)),
        Contender::new("Kubo", || file.by_kubo(room, &seeder.tcp)),
    ];
    let series = in_turns(room, room.plan.few(), contenders);
    let row = Row::new("foreign", file.title("Kubo offers TCP"), series);
    let row = row.ratio("Kubo", Target::at_least(1.8));
    let rates = row.values("ocipfs").to_vec();
    row.check("ocipfs", "MB/s", &rates, Target::at_least(15.0))
}

fn several(room: &Room, seeders: &[Distant], file: &File) -> Row {
    // Over TCP: datagrams at this rate take more than two cores to delay.
    let all: Vec<_> = seeders.iter().map(|seeder| &*seeder.tcp).collect();
    let contenders = vec![
        Contender::new("ocipfs, three seeders", || file.by_ocipfs(room, &all, SEEDERS)),
        Contender::new("ocipfs, one seeder", || file.by_ocipfs(room, &all[..1], 1)),
    ];
    let series = in_turns(room, room.plan.few(), contenders);
    let row = Row::new("foreign", file.title("from several"), series);
    row.ratio("ocipfs, one seeder", Target::at_least(2.5))
}

/// The other way: Kubo reads few blocks ahead, from any server.
fn served(room: &Room, tar: &Path, seeder: &Distant, file: &File) -> Result<Row, Failure> {
    let (ours, _proxy, address) = Ocipfs::behind_with_rpc(room, link())?;
    let cid = ours.rpc()?.add_with(tar, CHUNKER)?;
    if cid != file.cid {
        return Err(format!("the CIDs differ: {cid} and {}", file.cid).into());
    }
    let contenders = vec![
        Contender::new("Kubo from ocipfs", || file.by_kubo(room, &address)),
        Contender::new("Kubo from Kubo", || file.by_kubo(room, &seeder.tcp)),
    ];
    let series = in_turns(room, room.plan.few(), contenders);
    let row = Row::new("foreign", file.title("by Kubo, over TCP"), series);
    Ok(row.ratio("Kubo from Kubo", Target::at_least(1.0)))
}

/// The server is a node's gateway, which both are told of: ocipfs by its user, Kubo by a router.
fn http(room: &Room, tar: &Path) -> Result<Row, Failure> {
    let source = Ocipfs::start(room, &Serve { rpc: true, gateway: true, ..Serve::default() })?;
    let file = File { cid: source.rpc()?.add_with(tar, CHUNKER)?, size: tar.metadata()?.len() };
    let (mut web, mut swarm) = (Proxy::bind()?, Proxy::bind()?);
    web.lead(source.registry()?, link());
    swarm.lead(source.swarm()?, link());
    let port = web.address().port();
    let router = Router::start(source.peer(), &format!("/ip4/127.0.0.1/tcp/{port}/http"))?;
    let over_http = || {
        let http_providers = vec![format!("http://127.0.0.1:{port}")];
        let node = Ocipfs::start(room, &Serve { rpc: true, http_providers, ..Serve::default() })?;
        let taken = file.read(node.rpc()?)?;
        node.discard()?;
        Ok(taken)
    };
    let by_kubo = || {
        let settings = KuboSettings { router: Some(router.url.clone()), ..KuboSettings::default() };
        let try_once = || {
            let node = Kubo::start_with(room, &settings)?;
            let taken = file.read(node.rpc());
            node.discard()?;
            taken
        };
        // About each tenth time its session takes late answers of its only provider for `DONT_HAVE`, and waits until it is killed.
        (1..KUBO_TRIES).fold(try_once(), |taken, _| taken.or_else(|_| try_once()))
    };
    let contenders = vec![
        Contender::new("ocipfs over HTTP", over_http),
        Contender::new("ocipfs over Bitswap", || file.by_ocipfs(room, &[&source.at(&swarm)], 1)),
        Contender::new("Kubo over HTTP", by_kubo),
    ];
    let series = in_turns(room, room.plan.few(), contenders);
    let row = Row::new("foreign", file.title("an HTTP provider"), series);
    let row = row.ratio("ocipfs over Bitswap", Target::at_least(0.5));
    Ok(row.ratio("Kubo over HTTP", Target::at_least(3.0)))
}

/// A router that names one provider of everything.
struct Router {
    url: String,
}

impl Router {
    fn start(peer: &str, address: &str) -> Result<Self, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}", listener.local_addr()?);
        let provider = serde_json::json!({
            "Schema": "peer", "ID": peer, "Addrs": [address], "Protocols": ["transport-ipfs-gateway-http"],
        });
        let body = serde_json::json!({ "Providers": [provider] }).to_string();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let body = body.clone();
                // Kubo also opens connections on which it sends nothing.
                thread::spawn(move || answer(stream, &body));
            }
        });
        Ok(Self { url })
    }
}

/// Answers a request, whatever it is.
fn answer(mut stream: TcpStream, body: &str) -> io::Result<()> {
    let mut head = BufReader::new(stream.try_clone()?).lines();
    while head.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
}
