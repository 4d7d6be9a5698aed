//! A socket of the mDNS group on one interface.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
};

use socket2::{Domain, Protocol, Type};
use tokio::net::UdpSocket;

const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const PORT: u16 = 5353;
/// RFC 6762, section 11: no router forwards packets to this group.
const TTL: u32 = 255;

/// Sends to the group and receives from it, on the interface with one address.
pub(super) struct Socket(UdpSocket);

impl Socket {
    /// Joins the group on the interface that has the address `ip`.
    pub(super) fn open(ip: Ipv4Addr) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        // Other programs of the machine take part in the group as well.
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.set_nonblocking(true)?;
        #[cfg(target_os = "linux")]
        {
            // Bound to the group it gets nothing that was sent to this machine alone; without the groups of other sockets it gets
            // nothing from other interfaces.
            socket.set_multicast_all_v4(false)?;
            socket.bind(&SocketAddr::from((GROUP, PORT)).into())?;
        }
        #[cfg(not(target_os = "linux"))]
        socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)).into())?;
        socket.join_multicast_v4(&GROUP, &ip)?;
        socket.set_multicast_if_v4(&ip)?;
        socket.set_multicast_ttl_v4(TTL)?;
        // Nodes on one machine find each other, too.
        socket.set_multicast_loop_v4(true)?;
        Ok(Self(UdpSocket::from_std(socket.into())?))
    }

    /// Sends a packet to the group, if there is one to send.
    pub(super) async fn send(&self, packet: Option<Vec<u8>>) {
        let Some(packet) = packet else { return };
        if let Err(error) = self.0.send_to(&packet, SocketAddrV4::new(GROUP, PORT)).await {
            tracing::debug!(%error, "cannot send an mDNS packet");
        }
    }

    /// Receives a packet of another mDNS socket. Returns its length and where it came from; `None` after an error.
    pub(super) async fn receive(&self, packet: &mut [u8]) -> Option<(usize, Ipv4Addr)> {
        loop {
            match self.0.recv_from(packet).await {
                // Packets from other ports are questions of clients that expect an answer to themselves: not of peers.
                Ok((length, SocketAddr::V4(from))) if from.port() == PORT => {
                    return Some((length, *from.ip()));
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(%error, "cannot receive mDNS packets");
                    return None;
                }
            }
        }
    }
}
