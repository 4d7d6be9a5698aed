//! IPNS over pubsub, as in Kubo: one topic per name, whose messages are records. Subscribers receive a change at once;
//! a new one gets the last record by `fetch`. <https://specs.ipfs.tech/ipns/ipns-pubsub-router/>

mod guard;
mod topics;

use cid::multibase::Base;
use libp2p::{
    PeerId,
    gossipsub::{self, ConfigBuilder, IdentTopic, MessageAuthenticity, TopicHash},
    identity::Keypair,
    kad::RecordKey,
};

pub use guard::Behaviour;

use crate::StartError;

/// Messages queued for one peer: half of them own, half forwarded. The memory of the latter half is allocated for each
/// connected peer.
const MAX_QUEUED_MESSAGES: usize = 128;

pub type Event = gossipsub::Event;

/// Creates the gossipsub behaviour, which forwards only validated messages.
///
/// Messages are signed by a key of this process, not by the node's identity: gossipsub drops messages that seem to come
/// from itself and forwards none to their author, so a second node with the same identity would receive nothing from
/// the first.
pub fn behaviour() -> Result<Behaviour, StartError> {
    let config = ConfigBuilder::default()
        .validate_messages()
        .connection_handler_queue_len(MAX_QUEUED_MESSAGES)
        .build();
    let author = MessageAuthenticity::Signed(Keypair::generate_ed25519());
    let config = config.map_err(|e| StartError::Swarm(e.into()))?;
    Behaviour::new(author, config).map_err(|e| StartError::Swarm(e.into()))
}

const PREFIX: &str = "/record/";
/// The topic of a name has about 70 bytes, that of the longest peer id about 110.
const MAX_TOPIC_BYTES: usize = 128;

/// Returns the topic of a record's key.
pub fn topic(key: &RecordKey) -> IdentTopic {
    IdentTopic::new(format!("{PREFIX}{}", Base::Base64Url.encode(key)))
}

/// Returns the name of a topic.
pub fn name_of(topic: &TopicHash) -> Option<PeerId> {
    if topic.as_str().len() > MAX_TOPIC_BYTES {
        return None;
    }
    let key = Base::Base64Url.decode(topic.as_str().strip_prefix(PREFIX)?).ok()?;
    PeerId::from_bytes(key.strip_prefix(b"/ipns/")?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::IpnsName;

    #[test]
    fn the_pubsub_topic_of_a_name_is_the_one_that_kubo_uses() {
        let name: IpnsName =
            "k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8".parse().unwrap();
        let topic = topic(&name.key());
        assert_eq!(
            topic.hash().as_str(),
            "/record/L2lwbnMvACQIARIg5GgLL4yNIQkOaqMn8bs0Krjn2SOPHjWDGlTWqPXJESQ"
        );
        assert_eq!(name_of(&topic.hash()), Some(*name.peer()));
        for other in ["", "/record/", "/record/!", "/record/L2lwbnMv", "/other/L2lwbnMvACQIARIg"] {
            assert_eq!(name_of(&TopicHash::from_raw(other)), None, "{other}");
        }
    }
}
