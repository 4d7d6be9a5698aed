//! Two peers in one process: one serves a block, the other fetches it.

use std::{error::Error, io, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::StreamExt;
use libp2p::{Swarm, SwarmBuilder, noise, swarm::SwarmEvent, tcp, yamux};
use multihash_codetable::{Code, MultihashDigest};
use ocipfs_bitswap::{Behaviour, BlockMemory, Blocks, Cid, ClientHandle, Rates, start};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// A store of one block, or of none.
struct One(Option<(Cid, Bytes)>);

impl Blocks for One {
    fn size(&self, cid: &Cid) -> io::Result<Option<u64>> {
        Ok(self.get(cid)?.map(|block| block.len() as u64))
    }

    fn get(&self, cid: &Cid) -> io::Result<Option<Bytes>> {
        Ok(self.0.as_ref().filter(|(stored, _)| stored == cid).map(|(_, block)| block.clone()))
    }
}

fn peer(
    store: One,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<(Swarm<Behaviour>, ClientHandle), Box<dyn Error>> {
    let (behaviour, client, _server) =
        start(Arc::new(store), BlockMemory::default(), Rates::default(), tasks, stop);
    let swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)?
        .with_behaviour(|_| behaviour)?
        .build();
    Ok((swarm, client))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let block = Bytes::from_static(b"hello");
    let cid = Cid::new_v1(0x55, Code::Sha2_256.digest(&block));
    let (mut provider, _) = peer(One(Some((cid, block))), &tasks, &stop)?;
    let (mut reader, client) = peer(One(None), &tasks, &stop)?;
    provider.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
    let (session, mut blocks) = client.begin();
    client.want(session, vec![(cid, 0)]);
    let fetched = async {
        loop {
            tokio::select! {
                event = provider.select_next_some() => if let SwarmEvent::NewListenAddr { address, .. } = event {
                    reader.dial(address)?;
                },
                _ = reader.select_next_some() => {}
                fetched = blocks.recv() => return Ok::<_, Box<dyn Error>>(fetched.ok_or("the client has stopped")?),
            }
        }
    };
    let fetched = tokio::time::timeout(Duration::from_secs(10), fetched).await??;
    println!("{}: {:?}", fetched.block.cid, fetched.block.data);
    stop.cancel();
    Ok(())
}
