//! The protocols of a stream, and their negotiation.

use std::{
    convert::Infallible,
    future::{self, Ready},
};

use libp2p::{
    Stream, StreamProtocol,
    core::{
        UpgradeInfo,
        upgrade::{InboundUpgrade, OutboundUpgrade},
    },
};

use crate::{striping, wire::Version};

/// The protocol names offered for a stream, with or without striping.
#[derive(Clone, Copy, Debug)]
pub struct Protocols {
    pub striped: bool,
}

/// A stream and its negotiated protocol.
pub struct Negotiated {
    pub stream: Stream,
    pub version: Version,
    pub striped: bool,
}

impl Protocols {
    fn negotiated(stream: Stream, name: &StreamProtocol) -> Ready<Result<Negotiated, Infallible>> {
        let (striped, version) = (*name == striping::PROTOCOL, Version::of(name));
        future::ready(Ok(Negotiated { stream, version, striped }))
    }
}

impl UpgradeInfo for Protocols {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        let striped = self.striped.then_some(striping::PROTOCOL).into_iter();
        let names: Vec<_> = striped.chain(Version::PROTOCOLS.map(|(name, _)| name)).collect();
        names.into_iter()
    }
}

impl InboundUpgrade<Stream> for Protocols {
    type Output = Negotiated;
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, name: StreamProtocol) -> Self::Future {
        Self::negotiated(stream, &name)
    }
}

impl OutboundUpgrade<Stream> for Protocols {
    type Output = Negotiated;
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, name: StreamProtocol) -> Self::Future {
        Self::negotiated(stream, &name)
    }
}
