//! Rate limits of the access rules: per user and per address.

use std::{
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

use axum::http::request::Parts;

use crate::{
    access::{Buckets, Rate},
    http::origin::ClientAddress,
    registry::error::ApiError,
};

/// The buckets of all clients.
#[derive(Default)]
pub struct RateLimits {
    users: Buckets<String>,
    addresses: Buckets<IpAddr>,
}

impl RateLimits {
    /// Counts a request of a user.
    pub fn take_user(&self, user: &str, rate: Option<Rate>) -> Result<(), ApiError> {
        let Some(rate) = rate else { return Ok(()) };
        let taken = self.users.take(&user.to_owned(), rate, Instant::now());
        taken.map_err(|wait| refusal("user", user, wait))
    }

    /// Counts a request from an address; `is_proxied` believes what the last proxy says of it.
    pub fn take_address(
        &self,
        request: &Parts,
        is_proxied: bool,
        rate: Option<Rate>,
    ) -> Result<(), ApiError> {
        let Some(rate) = rate else { return Ok(()) };
        let Some(address) = address(request, is_proxied) else { return Ok(()) };
        let taken = self.addresses.take(&address, rate, Instant::now());
        taken.map_err(|wait| refusal("address", &address.to_string(), wait))
    }
}

fn refusal(kind: &str, who: &str, wait: Duration) -> ApiError {
    let seconds = wait.as_secs_f64().ceil() as u64;
    ApiError::too_many(seconds.max(1), format!("too many requests of {kind} {who}: try again in {seconds} s"))
}

/// The address that a request comes from. Of IPv6 it is the network, of which a client has all addresses.
fn address(request: &Parts, is_proxied: bool) -> Option<IpAddr> {
    let forwarded = || {
        let header = request.headers.get_all("x-forwarded-for").iter().next_back()?;
        header.to_str().ok()?.rsplit(',').next()?.trim().parse().ok()
    };
    let connected = || request.extensions.get().map(|ClientAddress(address)| address.ip());
    let address: IpAddr = is_proxied.then(forwarded).flatten().or_else(connected)?;
    Some(match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) >> 64 << 64).into(),
        address => address,
    })
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    #[test]
    fn rate_limits_count_the_forwarded_address_only_behind_a_proxy_and_ipv6_by_network() {
        let of = |peer: &str, forwarded: &str, is_proxied| {
            let request = Request::get("/v2/").header("x-forwarded-for", forwarded).body(()).unwrap();
            let mut parts = request.into_parts().0;
            parts.extensions.insert(ClientAddress(peer.parse().unwrap()));
            address(&parts, is_proxied).unwrap().to_string()
        };
        assert_eq!(of("192.0.2.1:9", "198.51.100.7", false), "192.0.2.1");
        assert_eq!(of("127.0.0.1:9", "203.0.113.1, 198.51.100.7", true), "198.51.100.7");
        assert_eq!(of("127.0.0.1:9", "nonsense", true), "127.0.0.1");
        assert_eq!(of("[2001:db8::1:2:3:4]:9", "", false), "2001:db8::");
    }
}
