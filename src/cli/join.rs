use std::{fs, io::Write, path::Path, time::SystemTime};

use clap::Args;
use ocipfs_node::{Node, expect_admission_list};

use super::{
    Exit, Global, output, secrets,
    settings::{Settings, usage},
};
use crate::control::{Failure, Invitation, Network, make_data_dir};

/// Join a private swarm by an invitation: make a node directory with its key and settings
#[derive(Args, Debug)]
#[command(after_help = "\
The directory is then ready for `ocipfs serve`. The swarm key is in the file `swarm.key`, the addresses of members and
the name to follow are in `config.toml`, where further settings can be added. If the swarm has an admission list, its
admin admits the new node by the peer ID that is printed.

Examples:
  ocipfs join ocipfs-join-1.eyJ...
  ocipfs swarm invite | ssh HOST ocipfs join -   the invitation is in no list of processes")]
pub struct Join {
    /// Invitation, as `ocipfs swarm invite` prints it; `-` reads it from standard input
    invitation: String,
}

pub fn run(global: &Global, join: &Join) -> Result<(), Exit> {
    let text = match join.invitation.as_str() {
        "-" => std::io::read_to_string(std::io::stdin().lock())
            .map_err(|e| Failure::new(format!("cannot read the invitation: {e}")))?,
        text => text.to_string(),
    };
    let invitation = Invitation::decode(&text)?;
    invitation.check(SystemTime::now())?;
    let dir = Settings::from_environment()?.or_file(global)?.data_dir();
    let dir = std::path::absolute(&dir).map_err(|e| Failure::new(format!("{}: {e}", dir.display())))?;
    join_in(&dir, &invitation)?;
    let peer = Node::offline(&dir).map_err(Failure::new)?.peer_id().to_string();
    let shown = dir.display().to_string();
    let joined = serde_json::json!({
        "dir": shown,
        "addresses": invitation.addresses,
        "follow": invitation.follow.map(|name| name.to_string()),
        "admin": invitation.admin.map(|admin| admin.to_string()),
        "peer": peer,
    });
    output::print(global, &joined, &shown, || {})?;
    if !global.quiet && !global.json {
        if invitation.admin.is_some() {
            eprintln!("hint: `ocipfs swarm allow {peer}` on the node of the admin admits this node");
        }
        eprintln!("hint: `ocipfs serve` starts the node");
    }
    Ok(())
}

/// Writes the key and the settings into a node directory, which is made, or has neither and belongs to no other network.
fn join_in(dir: &Path, invitation: &Invitation) -> Result<(), Exit> {
    let (key, config) = (dir.join("swarm.key"), dir.join("config.toml"));
    if let Some(there) = [&key, &config].into_iter().find(|path| path.exists()) {
        let message = format!("the node directory has settings already: {}", there.display());
        return Err(usage(message, "name a new directory with --data-dir, or move the file away"));
    }
    Network::Private(invitation.key.fingerprint()).check(dir, false)?;
    let failed = |path: &Path| {
        let shown = path.display().to_string();
        move |e: std::io::Error| Failure::new(format!("cannot write {shown}: {e}"))
    };
    make_data_dir(dir).map_err(failed(dir))?;
    secrets::write_new(&key, format!("{}\n", invitation.key).as_bytes())?;
    if let Err(failure) = write_settings(dir, &config, &settings(&key, invitation), invitation.list) {
        // Without its settings the key would stand in the way of a second attempt.
        let _ = fs::remove_file(&key);
        return Err(failure.into());
    }
    Ok(())
}

/// Writes the file of settings, after the sequence number of the admission list.
fn write_settings(dir: &Path, config: &Path, settings: &str, list: Option<u64>) -> Result<(), Failure> {
    let expected = list.map_or(Ok(()), |least| expect_admission_list(dir, least));
    expected.map_err(|e| {
        Failure::new(format!("cannot write the members of the swarm in {}: {e}", dir.display()))
    })?;
    let failed = |e| Failure::new(format!("cannot write {}: {e}", config.display()));
    let mut file = fs::File::create_new(config).map_err(failed)?;
    let written = file.write_all(settings.as_bytes()).and_then(|()| file.sync_all());
    if written.is_err() {
        // A part of it would stand in the way, too.
        let _ = fs::remove_file(config);
    }
    written.map_err(failed)
}

/// The file of settings: lines of TOML.
fn settings(key: &Path, invitation: &Invitation) -> String {
    let addresses: Vec<String> = invitation.addresses.iter().map(ToString::to_string).collect();
    let mut table = toml::Table::new();
    table.insert("swarm-key".into(), key.display().to_string().into());
    table.insert("peer".into(), addresses.into());
    if let Some(admin) = &invitation.admin {
        table.insert("swarm-admin".into(), admin.to_string().into());
    }
    if let Some(name) = &invitation.follow {
        table.insert("follow".into(), vec![name.to_string()].into());
    }
    table.to_string()
}
