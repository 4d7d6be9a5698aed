//! Commands from the rest of the node, and events of the protocols.

use libp2p::{
    PeerId, identify,
    kad::{self, InboundRequest},
    swarm::{DialError, DialFailure},
};

use super::{Behaviour, BehavioursEvent, DataProtocolsEvent, dht::Dht};
use crate::{command::SwarmCommand, members, routing};

impl Behaviour {
    pub(super) fn on_command(&mut self, command: SwarmCommand) {
        match command {
            SwarmCommand::Provide(cid, reply) => self.provide(&cid, reply),
            SwarmCommand::Withdraw(cid) => self.withdraw(&cid),
            SwarmCommand::FindProviders(cid, found) => self.find_providers(&cid, &found),
            SwarmCommand::FindFile(raw, search) => self.find_file(&raw, &search),
            SwarmCommand::AskForFile(raw, peer, roots) => self.ask_for_file(&raw, peer, &roots),
            SwarmCommand::Reach(peer, addresses) => self.reach(peer, addresses),
            SwarmCommand::PutValue(record, reply) => self.put_value(&record, reply),
            SwarmCommand::FetchValues(key, found) => self.fetch_values(&key, &found),
            SwarmCommand::FindValues(key, found) => self.find_values(&key, &found),
            SwarmCommand::Subscribe(key) => self.subscribe(&key),
            SwarmCommand::Unsubscribe(key) => self.unsubscribe(&key),
            SwarmCommand::Publish(record) => self.publish(record),
            SwarmCommand::Store(record) => self.store(record),
            SwarmCommand::MembersChanged => self.on_members_changed(true),
            SwarmCommand::ReportValidation(from, message, verdict) => {
                self.report_validation(&from, message.as_ref(), verdict)
            }
        }
    }

    pub(super) fn on_event(&mut self, event: BehavioursEvent) {
        match event {
            BehavioursEvent::Identify(identify::Event::Received { peer_id, connection_id, info }) => {
                let is_told = info.protocols.contains(&members::PROTOCOL);
                self.on_identify(peer_id, connection_id, info);
                if is_told {
                    self.ask_for_members(peer_id);
                }
            }
            BehavioursEvent::Identify(_) => {}
            BehavioursEvent::Dcutr(event) => self.on_hole_punching(&event),
            BehavioursEvent::Autonat(event) => self.on_address_test(&event),
            BehavioursEvent::AutonatServer(_) => {}
            BehavioursEvent::Relay(()) => {}
            BehavioursEvent::Data(DataProtocolsEvent::Kad(event)) => self.on_kad(Dht::Main, event),
            BehavioursEvent::Data(DataProtocolsEvent::LanKad(event)) => self.on_kad(Dht::Lan, event),
            BehavioursEvent::Data(DataProtocolsEvent::Bitswap(event)) => match event {},
            BehavioursEvent::Data(DataProtocolsEvent::Fetch(event)) => self.on_fetch(event),
            BehavioursEvent::Data(DataProtocolsEvent::Pubsub(event)) => self.on_pubsub(event),
            BehavioursEvent::Data(DataProtocolsEvent::Members(event)) => self.on_members(event),
        }
    }

    fn on_kad(&mut self, dht: Dht, event: kad::Event) {
        match event {
            kad::Event::OutboundQueryProgressed { id, result, step, .. } => {
                self.on_query((dht, id), result, step.last);
            }
            kad::Event::InboundRequest { request: InboundRequest::AddProvider { record: Some(record) } } => {
                self.store_provider(dht, record);
            }
            kad::Event::InboundRequest {
                request: InboundRequest::PutRecord { source, record: Some(record), .. },
            } => {
                let (key, value) = (record.key.clone(), record.value.clone());
                match self.kad(dht).store_mut().offer(source, record) {
                    Ok(()) => self.on_stored_record(source, &key, value),
                    Err(error) => tracing::debug!(peer = %source, %error, "cannot store value"),
                }
            }
            _ => {}
        }
    }

    fn store_provider(&mut self, dht: Dht, record: kad::ProviderRecord) {
        // A record without an address is useless.
        if record.addresses.is_empty() {
            return;
        }
        let network = self.connections.network_of(&record.provider);
        let peers = self.peers.clone();
        let sender = routing::SenderInfo { network, is_preferred: |peer: &PeerId| peers.is_wanted(peer) };
        if let Err(error) = self.kad(dht).store_mut().add_provider_from(record, sender) {
            tracing::debug!(%error, "cannot store provider record");
        }
    }

    pub(super) fn on_dial_failure(&mut self, failed: &DialFailure) {
        let Some(peer) = failed.peer_id.filter(|peer| !self.peers.is_connected(peer)) else { return };
        match failed.error {
            DialError::DialPeerConditionFalse(_) => {}
            DialError::NoAddresses | DialError::Transport(_) | DialError::WrongPeerId { .. } => {
                self.peers.unwant(&peer);
                self.on_unreachable(peer);
            }
            _ => self.peers.unwant(&peer),
        }
    }
}
