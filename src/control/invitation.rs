//! Invitations to a private swarm: one string with all that a machine needs to join it.
//!
//! An invitation is `ocipfs-join-1.` and the unpadded base64url of a JSON document and of the first eight bytes of its sha256, so
//! that a string that was cut short or mistyped is refused. It contains the swarm key: anyone who reads it can join.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ocipfs_node::{IpnsName, Multiaddr, PeerId, SwarmKey};
use ocipfs_oci::Digest;
use serde::{Deserialize, Serialize};

use super::Failure;

const PREFIX: &str = "ocipfs-join-1.";
/// Characters of an invitation, and addresses in it.
const MAX_LENGTH: usize = 16 << 10;
const MAX_ADDRESSES: usize = 32;
const CHECKSUM_DIGITS: usize = 16;
const ASK_AGAIN: &str = "ask for a new one: `ocipfs swarm invite` prints it on any node of the swarm";

/// An invitation to a private swarm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// The key of the swarm.
    pub key: SwarmKey,
    /// Addresses of members, each with a peer ID.
    pub addresses: Vec<Multiaddr>,
    /// A name to follow.
    pub follow: Option<IpnsName>,
    /// The admin whose admission list counts in the swarm, if there is one.
    pub admin: Option<PeerId>,
    /// Sequence number of its admission list: the new node takes no older one.
    pub list: Option<u64>,
    /// When it expires, in seconds since 1970.
    pub expires: u64,
}

/// The JSON document within an invitation.
#[derive(Serialize, Deserialize)]
struct InvitationDocument {
    key: String,
    addresses: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    follow: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    admin: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    list: Option<u64>,
    expires: u64,
}

impl Invitation {
    /// Returns the string that is passed on.
    pub fn encode(&self) -> String {
        let document = InvitationDocument {
            key: self.key.to_string(),
            addresses: self.addresses.iter().map(ToString::to_string).collect(),
            follow: self.follow.map(|name| name.to_string()),
            admin: self.admin.map(|admin| admin.to_string()),
            list: self.list,
            expires: self.expires,
        };
        let json = serde_json::json!(document).to_string();
        format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(format!("{}{json}", checksum(json.as_bytes()))))
    }

    /// Parses an invitation, whether it expired or not.
    pub fn decode(text: &str) -> Result<Self, Failure> {
        let invalid = |why: &str| Failure::new(format!("invalid invitation: {why}")).hint(ASK_AGAIN);
        let text = text.trim();
        let encoded = text.strip_prefix(PREFIX).ok_or_else(|| {
            Failure::new(format!("not an invitation: one begins with `{PREFIX}`")).hint(ASK_AGAIN)
        })?;
        if text.len() > MAX_LENGTH {
            return Err(invalid(&format!("it is longer than {MAX_LENGTH} characters")));
        }
        let damaged = || invalid("it was cut short or changed on the way");
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(encoded).map_err(|_| damaged())?;
        let (sum, json) = bytes.split_at_checked(CHECKSUM_DIGITS).ok_or_else(damaged)?;
        if checksum(json).as_bytes() != sum {
            return Err(damaged());
        }
        let document: InvitationDocument =
            serde_json::from_slice(json).map_err(|e| invalid(&e.to_string()))?;
        let addresses = document.addresses.iter().take(MAX_ADDRESSES).map(|text| text.parse());
        let follow = document.follow.map(|name| name.parse());
        let admin = document.admin.map(|admin| admin.parse::<PeerId>());
        Ok(Self {
            key: document.key.parse().map_err(|e: ocipfs_node::InvalidSwarmKey| invalid(&e.to_string()))?,
            addresses: addresses
                .collect::<Result<_, _>>()
                .map_err(|e| invalid(&format!("an address in it: {e}")))?,
            follow: follow.transpose().map_err(|e: ocipfs_node::InvalidName| invalid(&e.to_string()))?,
            admin: admin.transpose().map_err(|_| invalid("the ID of the admin in it"))?,
            list: document.list,
            expires: document.expires,
        })
    }

    /// Refuses an invitation that has expired at `now`.
    pub fn check(&self, now: SystemTime) -> Result<(), Failure> {
        let expires = UNIX_EPOCH + Duration::from_secs(self.expires);
        if now <= expires {
            return Ok(());
        }
        let shown = |time| humantime::format_rfc3339_seconds(time);
        let message =
            format!("the invitation expired at {}, and it is {} on this machine", shown(expires), shown(now));
        Err(Failure::new(message).hint(format!("check the clock of this machine, or {ASK_AGAIN}")))
    }
}

fn checksum(bytes: &[u8]) -> String {
    Digest::sha256_of(bytes).hex()[..CHECKSUM_DIGITS].to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invitation() -> Invitation {
        Invitation {
            key: SwarmKey::generate(),
            addresses: vec!["/ip4/10.0.0.1/tcp/4001".parse().unwrap()],
            follow: None,
            admin: None,
            list: None,
            expires: 1_800_000_000,
        }
    }

    #[test]
    fn an_invitation_is_read_as_it_was_written() {
        let name = "k51qzi5uqu5dgutdk6i1ynyzgkqngpha5xpgia3a5qqp4jsh0u4csozksxel2r".parse().unwrap();
        let admin = "12D3KooWNdH5vzZ6HK3XTmLz9R82zucX1Jwibw1h3WEejRsVVPWh".parse().unwrap();
        for (follow, admin, list) in
            [(None, None, None), (Some(name), None, None), (None, Some(admin), Some(7))]
        {
            let written = Invitation { follow, admin, list, ..invitation() };
            assert_eq!(Invitation::decode(&format!(" {}\n", written.encode())).unwrap(), written);
        }
    }

    #[test]
    fn an_invitation_that_was_cut_short_or_changed_is_refused() {
        let text = invitation().encode();
        for length in 0..text.len() {
            assert!(Invitation::decode(&text[..length]).is_err(), "{length}");
        }
        for at in 0..text.len() {
            let mut other = text.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(other).unwrap();
            assert!(Invitation::decode(&other).is_err(), "{at}");
        }
        assert!(Invitation::decode(&format!("{PREFIX}{}", "A".repeat(MAX_LENGTH))).is_err());
    }

    #[test]
    fn an_invitation_expires_and_the_error_tells_both_times() {
        let invitation = invitation();
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        invitation.check(at(1_800_000_000)).unwrap();
        let failure = invitation.check(at(1_800_000_001)).unwrap_err();
        assert_eq!(
            failure.message,
            "the invitation expired at 2027-01-15T08:00:00Z, and it is 2027-01-15T08:00:01Z on this machine"
        );
    }
}
