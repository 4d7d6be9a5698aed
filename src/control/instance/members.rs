//! Handler of requests about the members of a private swarm.

use std::{collections::HashSet, time::Duration};

use ocipfs_node::{AdminError, AdmissionList, PeerId, ToldList};

use super::Instance;
use crate::control::{Failure, ListInfo, MemberInfo, MembersReply, MembersRequest};

impl Instance {
    pub(super) async fn members(&self, request: MembersRequest) -> Result<MembersReply, Failure> {
        let node = self.content().node();
        match request {
            MembersRequest::Init => {
                let admin = node.init_admin().await.map_err(members_failure)?;
                Ok(MembersReply::Admin { admin: admin.to_string(), members: self.member_infos()? })
            }
            MembersRequest::Allow { peer } => {
                let changed = node.allow(peer_id(&peer)?).await.map_err(members_failure)?;
                Ok(MembersReply::Changed { peer, changed })
            }
            MembersRequest::Remove { peer } => {
                let changed = node.remove_member(peer_id(&peer)?).await.map_err(members_failure)?;
                Ok(MembersReply::Changed { peer, changed })
            }
            MembersRequest::Ls => {
                let list = node.admission_list().map_err(members_failure)?;
                Ok(MembersReply::Listed {
                    admin: node.swarm_admin().map(|admin| admin.to_string()),
                    sequence: list.map(|list| list.sequence),
                    admission_list: self.list_info(),
                    members: self.member_infos()?,
                })
            }
            MembersRequest::Rekey { seconds } => {
                let rekeyed = node.rekey(Duration::from_secs(seconds)).await.map_err(members_failure)?;
                Ok(MembersReply::Rekeyed { key: rekeyed.key.to_string(), ends: rekeyed.ends })
            }
        }
    }

    /// Returns the admission list, or the one that peers tell of and this node does not use.
    pub(super) fn list_info(&self) -> Option<ListInfo> {
        let node = self.content().node();
        if let Ok(Some(list)) = node.admission_list() {
            let admin = node.swarm_admin().map(|admin| admin.to_string());
            let AdmissionList { sequence, issued, .. } = list;
            return Some(ListInfo { admin, sequence, issued, unused_from: None });
        }
        let ToldList { peer, admin, sequence, issued } = node.told_admission_list()?;
        let (admin, unused_from) = (admin.map(|admin| admin.to_string()), Some(peer.to_string()));
        Some(ListInfo { admin, sequence, issued, unused_from })
    }

    fn member_infos(&self) -> Result<Vec<MemberInfo>, Failure> {
        let node = self.content().node();
        let list = node.admission_list().map_err(members_failure)?.unwrap_or_default();
        let connected: HashSet<_> = node.peers().into_iter().map(|peer| peer.id).collect();
        let state = |peer: &PeerId| match peer {
            peer if *peer == node.peer_id() => "self",
            peer if connected.contains(peer) => "connected",
            _ => "not connected",
        };
        let info = |peer: &PeerId| MemberInfo { peer: peer.to_string(), state: state(peer).into() };
        Ok(list.members.iter().map(info).collect())
    }
}

fn peer_id(text: &str) -> Result<PeerId, Failure> {
    text.rsplit('/').next().unwrap_or(text).parse().map_err(|_| {
        Failure::new(format!("invalid peer ID {text:?}: expected for example 12D3KooW..."))
            .hint("`ocipfs swarm id` prints it on that machine, also where no node runs")
    })
}

/// Adds what to do where the members of a swarm cannot be changed.
fn members_failure(error: AdminError) -> Failure {
    let hint = match &error {
        AdminError::NotPrivate => "`ocipfs swarm key FILE` makes a key; start the node with --swarm-key FILE",
        AdminError::NoKey => {
            "run the command on the node of the admin; `ocipfs swarm admin init` makes a node the admin of a swarm that has none"
        }
        AdminError::Exists(_) => "run `ocipfs swarm allow` and `swarm remove` on the node of that admin",
        AdminError::Oneself => "run the command with the peer ID of another node",
        AdminError::Full(_) => "remove members with `ocipfs swarm remove`",
        AdminError::UnderWay(_) => "try again after that time",
        AdminError::Overlap { .. } => "choose another time with --overlap",
        _ => return Failure::new(error),
    };
    Failure::new(error).hint(hint)
}
