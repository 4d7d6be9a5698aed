//! The values of settings, as text on the command line, in the environment and in the file.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::FromStr,
    time::Duration,
};

use bytesize::ByteSize;
use serde::Deserialize;

const DNS_PORT: u16 = 53;

/// Implements the conversion that serde uses, by parsing.
macro_rules! from_text {
    ($($type:ty),+) => {$(
        impl TryFrom<String> for $type {
            type Error = <Self as FromStr>::Err;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }
    )+};
}

from_text!(IpnsNameArgument, PeerName, Time, Age, Size, Listen, DnsServer);

/// An IPNS name, with or without `/ipns/` in front.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct IpnsNameArgument(pub ocipfs_node::IpnsName);

impl FromStr for IpnsNameArgument {
    type Err = ocipfs_node::InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.strip_prefix("/ipns/").unwrap_or(text).parse().map(Self)
    }
}

/// A peer ID, alone or at the end of a multiaddr.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct PeerName(pub ocipfs_node::PeerId);

impl FromStr for PeerName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.rsplit('/').next().unwrap_or(text);
        name.parse().map(Self).map_err(|_| {
            format!(
                "invalid peer ID {text:?}: expected the last line of `ocipfs swarm id`, such as 12D3KooW..."
            )
        })
    }
}

/// A duration of more than zero: `10s`, `1m 30s`, `500ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Time(pub Duration);

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match duration(text, "10s, 500ms or 1m 30s")? {
            time if time.is_zero() => Err(format!("invalid duration {text:?}: it must be greater than zero")),
            time => Ok(Self(time)),
        }
    }
}

/// A duration that may be zero: `7d`, `0s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Age(pub Duration);

impl FromStr for Age {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        duration(text, "7d, 1h 30m or 0s").map(Self)
    }
}

fn duration(text: &str, examples: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| format!("invalid duration {text:?}: expected a number and a unit, such as {examples}"))
}

/// A number of bytes: `500MB`, `10GiB`, `4096`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "SizeText")]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let size = text.parse::<ByteSize>();
        size.map(|size| Self(size.0)).map_err(|_| {
            format!("invalid size {text:?}: expected bytes, or a number and a unit, such as 500MB or 10GiB")
        })
    }
}

/// A size in the file: a number, or text.
#[derive(Deserialize)]
#[serde(untagged)]
enum SizeText {
    Bytes(u64),
    Text(String),
}

impl TryFrom<SizeText> for Size {
    type Error = String;

    fn try_from(size: SizeText) -> Result<Self, String> {
        match size {
            SizeText::Bytes(bytes) => Ok(Self(bytes)),
            SizeText::Text(text) => text.parse(),
        }
    }
}

/// An address to listen on: `127.0.0.1:5050`, `[::1]:5050`, `localhost:5050`, or `:5050` for all IPv4 interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Listen(pub SocketAddr);

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let at_port = |host: &str, ip: Ipv4Addr| {
            let port = text.strip_prefix(host)?.strip_prefix(':')?.parse().ok()?;
            Some(SocketAddr::from((ip, port)))
        };
        let address = text.parse().ok();
        let address = address.or_else(|| at_port("localhost", Ipv4Addr::LOCALHOST));
        let address = address.or_else(|| at_port("", Ipv4Addr::UNSPECIFIED));
        address.map(Self).ok_or_else(|| {
            format!(
                "invalid address {text:?}: expected an IP address and a port, such as 127.0.0.1:5050, \
                 localhost:5050 or :5050 (all interfaces)"
            )
        })
    }
}

/// The address of a DNS server: `192.0.2.1`, `192.0.2.1:5353` or `[2001:db8::1]:53`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct DnsServer(pub SocketAddr);

impl FromStr for DnsServer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address = text.parse().or_else(|_| text.parse().map(|ip: IpAddr| SocketAddr::new(ip, DNS_PORT)));
        address.map(Self).map_err(|_| {
            format!(
                "invalid DNS server {text:?}: expected an IP address, with or without a port, such as 192.0.2.1, \
                 192.0.2.1:53 or [2001:db8::1]:53"
            )
        })
    }
}

/// Deserializes a list, or a single value in place of a list of one.
pub mod list {
    use std::{fmt, marker::PhantomData};

    use serde::{
        Deserialize, Deserializer,
        de::{
            Error, MapAccess, SeqAccess, Visitor,
            value::{MapAccessDeserializer, SeqAccessDeserializer, StrDeserializer},
        },
    };

    struct OneOrMany<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for OneOrMany<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a value or a list of values")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Vec<T>, E> {
            T::deserialize(StrDeserializer::new(text)).map(|value| vec![value])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Vec<T>, A::Error> {
            Vec::deserialize(SeqAccessDeserializer::new(list))
        }

        fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Vec<T>, A::Error> {
            T::deserialize(MapAccessDeserializer::new(table)).map(|value| vec![value])
        }
    }

    pub fn deserialize<'de, T, D>(deserializer: D) -> Result<Option<Vec<T>>, D::Error>
    where
        T: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        deserializer.deserialize_any(OneOrMany(PhantomData)).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_named_by_its_id_or_an_address() {
        let id = "12D3KooWNdH5vzZ6HK3XTmLz9R82zucX1Jwibw1h3WEejRsVVPWh";
        for text in [id.to_owned(), format!("/p2p/{id}"), format!("/ip4/192.0.2.1/tcp/4001/p2p/{id}")] {
            assert_eq!(text.parse::<PeerName>().unwrap().0.to_string(), id);
        }
        assert!("somebody".parse::<PeerName>().unwrap_err().contains("swarm id"));
    }

    #[test]
    fn listen_addresses_accept_localhost_or_only_a_port() {
        for (text, address) in [
            ("127.0.0.1:5050", "127.0.0.1:5050"),
            ("[::1]:0", "[::1]:0"),
            ("localhost:5050", "127.0.0.1:5050"),
            (":5050", "0.0.0.0:5050"),
        ] {
            assert_eq!(text.parse::<Listen>().unwrap().0, address.parse().unwrap());
        }
        for text in ["5050", "localhost", "example.org:5050", ":", ":70000", "localhost:x"] {
            assert!(text.parse::<Listen>().unwrap_err().contains("localhost:5050"), "{text}");
        }
    }

    #[test]
    fn invalid_settings_are_quoted_with_the_expected_form() {
        for (error, told) in [
            ("ten".parse::<Size>().unwrap_err(), "invalid size \"ten\": expected bytes"),
            ("soon".parse::<Time>().unwrap_err(), "invalid duration \"soon\": expected a number and a unit"),
            ("0s".parse::<Time>().unwrap_err(), "greater than zero"),
            ("dns.example".parse::<DnsServer>().unwrap_err(), "invalid DNS server \"dns.example\""),
        ] {
            assert!(error.contains(told), "{error}");
        }
        assert_eq!("0s".parse(), Ok(Age(Duration::ZERO)));
        assert_eq!("10GiB".parse(), Ok(Size(10 << 30)));
    }
}
