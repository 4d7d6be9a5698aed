//! Commands about the members of a private swarm.

use std::path::{Path, PathBuf};

use clap::Subcommand;

use crate::{
    cli::{Exit, Global, ask, output, secrets, unexpected},
    control::{ListInfo, MemberInfo, MembersReply, MembersRequest, Reply, Request},
};

/// Members of a private swarm.
#[derive(Debug, Subcommand)]
pub enum Members {
    /// Decide who is a member of a private swarm, beyond who has its key
    #[command(subcommand)]
    Admin(Admin),
    /// Admit a peer to the private swarm, on the node of its admin
    #[command(after_help = "\
Examples:
  ocipfs -q swarm id                             on the new machine, after `ocipfs join`: its peer ID
  ocipfs swarm allow 12D3KooW...                 on the node of the admin")]
    Allow {
        /// Peer ID, alone or at the end of a multiaddr
        peer: String,
    },
    /// Remove a peer from the private swarm, on the node of its admin: all members disconnect it and accept no connection of it
    #[command(after_help = "\
It still has the swarm key; `ocipfs swarm rekey` replaces that.

Examples:
  ocipfs swarm remove 12D3KooW...
  ocipfs swarm rekey                             announcements on the local network become unreadable for it, too")]
    Remove {
        /// Peer ID, alone or at the end of a multiaddr
        peer: String,
    },
    /// List the members of the private swarm, if it has an admission list: peer ID, whether it is connected
    #[command(after_help = "\
Examples:
  ocipfs swarm members
  ocipfs swarm members --json")]
    #[command(name = "members")]
    List,
    /// Replace the key of the private swarm, on the node of its admin: members get the new key, and both are accepted for a time
    #[command(after_help = "\
Members that are not online during that time need a new invitation. The settings may go on to name the old key.

Examples:
  ocipfs swarm rekey
  ocipfs swarm rekey new.key --overlap 7d        also write the new key, for members that run Kubo")]
    Rekey {
        /// New file for the new key
        file: Option<PathBuf>,
        /// How long both keys are accepted. In the first half members dial with the old key, in the second half with the new one
        #[arg(long, value_name = "TIME", default_value = "1d")]
        overlap: humantime::Duration,
    },
}

/// The admin of a private swarm.
#[derive(Debug, Subcommand)]
pub enum Admin {
    /// Make this node the admin of its private swarm: make an admin key, and an admission list of the connected peers
    #[command(after_help = "\
The other members accept the list once they know the admin: start them with --swarm-admin ID. New invitations have it.

Examples:
  ocipfs swarm admin init
  ocipfs serve --swarm-admin 12D3KooW...         on the other members, beside their --swarm-key")]
    Init,
}

pub async fn run(global: &Global, members: Members) -> Result<(), Exit> {
    let file = match &members {
        Members::Rekey { file, .. } => file.clone(),
        _ => None,
    };
    if let Some(there) = file.as_deref().filter(|file| file.exists()) {
        // Before the key is replaced.
        return secrets::write_new(there, b"");
    }
    let request = match members {
        Members::Admin(Admin::Init) => MembersRequest::Init,
        Members::Allow { peer } => MembersRequest::Allow { peer },
        Members::Remove { peer } => MembersRequest::Remove { peer },
        Members::List => MembersRequest::Ls,
        Members::Rekey { overlap, .. } => MembersRequest::Rekey { seconds: overlap.as_secs() },
    };
    let Reply::Members(reply) = ask(global, Request::Members(request)).await? else {
        return Err(unexpected());
    };
    show(global, reply, file.as_deref())
}

fn show(global: &Global, reply: MembersReply, file: Option<&Path>) -> Result<(), Exit> {
    match reply {
        MembersReply::Admin { admin, members } => {
            let shown = serde_json::json!({ "admin": admin, "members": members });
            output::print(global, &shown, &admin, || list(&members))?;
            if !global.quiet && !global.json {
                eprintln!("hint: start the other members with --swarm-admin {admin}");
            }
            Ok(())
        }
        MembersReply::Changed { peer, changed } => {
            output::print(global, &serde_json::json!({ "peer": peer, "changed": changed }), &peer, || {})
        }
        MembersReply::Listed { admin, sequence, admission_list: info, members } => {
            let shown = serde_json::json!({
                "admin": admin, "sequence": sequence, "admission_list": info, "members": members
            });
            output::print_all(global, &shown, || list(&members))?;
            if !global.quiet && !global.json {
                for line in about_list(info.as_ref()) {
                    eprintln!("{line}");
                }
            }
            Ok(())
        }
        MembersReply::Rekeyed { key, ends } => {
            if let Some(file) = file {
                secrets::write_new(file, format!("{key}\n").as_bytes())?;
            }
            let ends_at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(ends);
            let ends_at = humantime::format_rfc3339_seconds(ends_at).to_string();
            let shown =
                serde_json::json!({ "ends": ends, "file": file.map(|file| file.display().to_string()) });
            output::print(global, &shown, &ends_at, || {})?;
            if !global.quiet && !global.json {
                eprintln!("hint: both keys are accepted until then; `ocipfs swarm invite` has the new one");
            }
            Ok(())
        }
    }
}

/// What is said of the admission list, below the members.
fn about_list(list: Option<&ListInfo>) -> Vec<String> {
    let Some(list) = list else {
        return vec!["hint: there is no admission list: every holder of the swarm key is a member".into()];
    };
    let told = described(list);
    match (&list.unused_from, &list.admin) {
        (None, _) => vec![told],
        (Some(_), Some(admin)) => vec![
            format!("warning: {told}"),
            format!("hint: start this node with --swarm-admin {admin}, if that is the ID that the admin's node prints"),
        ],
        (Some(_), None) => vec![
            format!("warning: {told}"),
            "hint: start this node with --swarm-admin ID: `ocipfs swarm members --json` prints it on the node of the admin"
                .into(),
        ],
    }
}

/// Says which list is in force, who signed it and when, and whether this node uses it.
pub fn described(list: &ListInfo) -> String {
    let ListInfo { admin, sequence, issued, unused_from } = list;
    let by = admin.as_deref().map(|admin| format!(" by the admin {admin}")).unwrap_or_default();
    let text = format!("admission list {sequence}, signed{by}{}", at(*issued));
    match unused_from {
        None => text,
        Some(peer) => {
            format!(
                "{peer} tells of {text}; this node does not use it, and admits every holder of the swarm key"
            )
        }
    }
}

/// A time that a peer may have chosen; nothing where it is not known.
fn at(seconds: u64) -> String {
    /// The end of the year 9999, beyond which times are not written.
    const LAST: u64 = 253_402_300_799;
    match seconds {
        0 | LAST.. => String::new(),
        _ => {
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            format!(" at {}", humantime::format_rfc3339_seconds(time))
        }
    }
}

fn list(members: &[MemberInfo]) {
    for member in members {
        outln!("{}  {}", member.peer, member.state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admission_list_is_described_with_its_admin_and_its_time_whether_it_is_used_or_not() {
        let used = ListInfo {
            admin: Some("12D3KooWA".into()),
            sequence: 3,
            issued: 1_800_000_000,
            unused_from: None,
        };
        let text = "admission list 3, signed by the admin 12D3KooWA at 2027-01-15T08:00:00Z";
        assert_eq!(about_list(Some(&used)), [text]);
        let told = ListInfo { unused_from: Some("12D3KooWB".into()), ..used };
        let lines = about_list(Some(&told));
        assert!(
            lines[0].starts_with(&format!("warning: 12D3KooWB tells of {text}; this node does not use it"))
        );
        assert!(lines[1].contains("--swarm-admin 12D3KooWA,"), "{lines:?}");
        // What a peer says may make no sense.
        let odd = ListInfo { admin: None, issued: u64::MAX, ..told };
        assert!(described(&odd).contains("admission list 3, signed; "), "{}", described(&odd));
        assert!(about_list(None)[0].contains("there is no admission list"));
    }
}
