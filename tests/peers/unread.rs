//! Connections without a swarm, whose streams carry what the other side does not read.

use std::{future::poll_fn, task::Poll, time::Duration};

use futures::{AsyncWriteExt, future::join_all};
use libp2p::{
    Multiaddr, Transport,
    core::{
        Endpoint,
        muxing::{StreamMuxerBox, StreamMuxerExt, SubstreamBox},
        transport::{DialOpts, PortUse},
        upgrade::Version,
    },
    identity::Keypair,
    noise, tcp, yamux,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time,
};

const SOON: Duration = Duration::from_secs(30);

/// A connection that takes part in no protocol of its own accord.
pub struct Connection {
    requests: mpsc::Sender<oneshot::Sender<SubstreamBox>>,
    driver: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connection {
    /// Connects to `address`, which may end in a peer id.
    pub async fn dial(key: &Keypair, address: &str) -> Self {
        let mut transport = tcp::tokio::Transport::default()
            .upgrade(Version::V1Lazy)
            .authenticate(noise::Config::new(key).expect("noise"))
            .multiplex(yamux::Config::default())
            .boxed();
        let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
        let mut address: Multiaddr = address.parse().expect("a multiaddr");
        address.pop();
        let dial = transport.dial(address, options).expect("a TCP address");
        let (_, muxer) = time::timeout(SOON, dial).await.expect("an answer").expect("a connection");
        let (requests, queue) = mpsc::channel(1);
        Self { requests, driver: tokio::spawn(drive(muxer, queue)) }
    }

    /// Opens a stream without a protocol; none once the connection is closed.
    pub async fn open(&self) -> Option<SubstreamBox> {
        let (reply, stream) = oneshot::channel();
        self.requests.send(reply).await.ok()?;
        stream.await.ok()
    }

    /// Opens streams, each of which carries `bytes` as far as the other side grants, and keeps them open.
    pub async fn leave_unread(&self, streams: usize, bytes: &[u8]) -> Vec<SubstreamBox> {
        let opened = join_all((0..streams).map(|_| self.open())).await;
        let written = opened.into_iter().flatten().map(|mut stream| async move {
            // Where the window is used up, this waits.
            let _ = time::timeout(SOON, stream.write_all(bytes)).await;
            stream
        });
        join_all(written).await
    }
}

/// Polls a connection until it ends. Streams that the other side opens are dropped.
async fn drive(mut muxer: StreamMuxerBox, mut queue: mpsc::Receiver<oneshot::Sender<SubstreamBox>>) {
    let mut wanted = None;
    let end = poll_fn(|cx| {
        loop {
            while let Poll::Ready(inbound) = muxer.poll_inbound_unpin(cx) {
                if inbound.is_err() {
                    return Poll::Ready(());
                }
            }
            if let Poll::Ready(Err(_)) = muxer.poll_unpin(cx) {
                return Poll::Ready(());
            }
            if wanted.is_none() {
                match queue.poll_recv(cx) {
                    Poll::Ready(Some(reply)) => wanted = Some(reply),
                    Poll::Ready(None) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
            match muxer.poll_outbound_unpin(cx) {
                Poll::Ready(Ok(stream)) => {
                    let _ = wanted.take().map(|reply: oneshot::Sender<_>| reply.send(stream));
                }
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    });
    end.await;
}
