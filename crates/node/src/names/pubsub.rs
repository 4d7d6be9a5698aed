//! IPNS over pubsub, as Kubo has it: a topic for each name, whose messages are records. Whoever follows a name hears of a
//! change at once; whoever joins asks for the last record by `fetch`. <https://specs.ipfs.tech/ipns/ipns-pubsub-router/>

mod guard;
mod topics;

use cid::multibase::Base;
use libp2p::{
    PeerId,
    gossipsub::{self, ConfigBuilder, IdentTopic, MessageAuthenticity, MessageId, TopicHash},
    identity::Keypair,
    kad::RecordKey,
};

pub use guard::Behaviour;
pub use libp2p::gossipsub::MessageAcceptance as Verdict;

use crate::Error;

/// Messages that wait for one peer: half of its own, half of what is passed on. Room for all of the latter is allocated for
/// each peer that connects.
const WAITING: usize = 128;

pub type Event = gossipsub::Event;

/// A record of a name that is listened for, as a peer told it.
#[derive(Debug)]
pub struct Heard {
    pub name: PeerId,
    pub record: Vec<u8>,
    /// The peer that told it.
    pub from: PeerId,
    /// The message to be passed on, if it is right and new.
    pub message: Option<MessageId>,
}

/// Passes on only what was found to be right.
///
/// Messages are signed by a key of this process, not by the node's identity: gossipsub drops what seems to come from
/// itself and forwards nothing to its author, so a second node with the same identity would never hear the first.
pub fn behaviour() -> Result<Behaviour, Error> {
    let failed = |e: &dyn std::fmt::Display| Error::Start(e.to_string());
    let config = ConfigBuilder::default().validate_messages().connection_handler_queue_len(WAITING).build();
    let author = MessageAuthenticity::Signed(Keypair::generate_ed25519());
    Behaviour::new(author, config.map_err(|e| failed(&e))?).map_err(|e| failed(&e))
}

const PREFIX: &str = "/record/";
/// The topic of a name has some 70 bytes, that of the longest peer id some 110.
const MAX_TOPIC_BYTES: usize = 128;

/// The topic of a record's key.
pub fn topic(key: &RecordKey) -> IdentTopic {
    IdentTopic::new(format!("{PREFIX}{}", Base::Base64Url.encode(key)))
}

/// The name whose topic it is.
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
    use crate::Name;

    #[test]
    fn the_topic_of_a_name_is_the_one_that_kubo_uses() {
        let name: Name = "k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8".parse().unwrap();
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
