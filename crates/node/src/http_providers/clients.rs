//! The HTTP clients that providers are asked with: shared, since each reads the certificates of the system.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use reqwest::{
    Client, ClientBuilder,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect::Policy,
};
use tokio::{sync::OnceCell, task::spawn_blocking};

use super::endpoint::HttpEndpoint;
use crate::{address::is_private, install_cryptography};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a provider may take to find a block, and to send the next bytes of it.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Idle connections are closed before most servers do it.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes that one HTTP/2 connection may hold unread, as for QUIC: 80 MB/s at a round trip of 50 ms.
const HTTP2_WINDOW: u32 = 4 << 20;
const HTTP2_STREAM_WINDOW: u32 = 2 << 20;

/// The clients of a node, each made when it is first needed.
#[derive(Default)]
pub struct Clients {
    /// For the providers that the user named.
    named: OnceCell<Client>,
    /// For those that records name.
    found: OnceCell<Client>,
}

impl Clients {
    /// Returns the client for a provider. One whose record gives a name and the address to connect to has its own, since the
    /// address is an option of the client, and two records may give one name different addresses.
    pub async fn client(&self, endpoint: &HttpEndpoint, is_from_record: bool) -> Result<Client, String> {
        if let Some((name, at)) = endpoint.pinned() {
            let name = name.to_owned();
            return build(is_from_record, move |builder| builder.resolve(&name, at)).await;
        }
        let shared = if is_from_record { &self.found } else { &self.named };
        shared.get_or_try_init(|| build(is_from_record, |builder| builder)).await.cloned()
    }
}

/// Creates a client. That of records neither uses a proxy nor resolves names to private addresses.
async fn build(
    is_from_record: bool,
    adapt: impl FnOnce(ClientBuilder) -> ClientBuilder + Send + 'static,
) -> Result<Client, String> {
    let build = move || {
        install_cryptography();
        let mut builder = Client::builder()
            .user_agent(concat!("ocipfs/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .http2_initial_connection_window_size(HTTP2_WINDOW)
            .http2_initial_stream_window_size(HTTP2_STREAM_WINDOW)
            .redirect(Policy::none());
        if is_from_record {
            builder = builder.no_proxy().dns_resolver(Arc::new(PublicAddresses));
        }
        adapt(builder).build()
    };
    let built = spawn_blocking(build).await.map_err(|error| error.to_string())?;
    built.map_err(|error| error.to_string())
}

/// Resolves names with the system's resolver, and leaves out private addresses.
struct PublicAddresses;

impl Resolve for PublicAddresses {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = found.filter(|at| !is_private(at.ip().to_canonical())).collect();
            match public.is_empty() {
                true => Err(io::Error::other("the name has no public address").into()),
                false => Ok(Box::new(public.into_iter()) as Addrs),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn providers_share_a_client_unless_their_record_pins_an_address() {
        let clients = Clients::default();
        let named: HttpEndpoint = "http://192.0.2.1".parse().unwrap();
        clients.client(&named, false).await.unwrap();
        assert!(clients.named.initialized() && !clients.found.initialized());
        let pinned = "/ip4/192.0.2.1/tcp/443/tls/sni/example.org/http".parse().unwrap();
        let pinned = HttpEndpoint::of_address(&pinned).unwrap();
        clients.client(&pinned, true).await.unwrap();
        assert!(!clients.found.initialized());
        clients.client(&named, true).await.unwrap();
        assert!(clients.found.initialized());
    }
}
