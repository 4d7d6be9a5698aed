//! Settings of who may do what: users, access rules, signature policies, and what peers get of it.

use std::path::PathBuf;

use clap::Args;
use serde::Deserialize;

use super::usage;
use crate::{
    cli::Exit,
    http::{AccessRules, PolicyFile, PublicUrl, Users},
    registry::{Access, Pull},
};

/// Settings as they were given.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AccessSettings {
    /// File of the users who may push, with bcrypt hashes as `htpasswd -B` writes them; reloaded on SIGHUP and on change [default: none; only clients on this machine may push, through a loopback address]
    #[arg(long, value_name = "FILE", env = "OCIPFS_HTPASSWD")]
    htpasswd: Option<PathBuf>,
    /// URL at which clients reach the registry through a proxy, such as https://registry.example; pushes then require --htpasswd [default: as the Host header says]
    #[arg(long, value_name = "URL", env = "OCIPFS_PUBLIC_URL")]
    public_url: Option<PublicUrl>,
    /// Who may pull: `everybody`, or only the `users` of --htpasswd [default: everybody]
    #[arg(long, value_name = "users|everybody", env = "OCIPFS_PULL")]
    pull: Option<Pull>,
    /// File of access rules (TOML): who may pull, push, delete, sign and administer which repositories; reloaded on SIGHUP and on change. With rules, --pull does not apply [default: none]
    #[arg(long, value_name = "FILE", env = "OCIPFS_ACCESS_RULES")]
    access_rules: Option<PathBuf>,
    /// Give content of repositories that not everybody may pull to peers: `never`, or inside a `private-swarm` [default: never]
    #[arg(long, value_name = "never|private-swarm", env = "OCIPFS_SHARE_RESTRICTED")]
    share_restricted: Option<ShareRestricted>,
    /// File of signature policies (TOML): keys of cosign and certificates of notation that must have signed the images of which repositories; unsigned images are stored, and served only to users who may sign them. Reloaded on SIGHUP and on change [default: none]
    #[arg(long, value_name = "FILE", env = "OCIPFS_POLICY")]
    policy: Option<PathBuf>,
}

/// Whether peers get what not everybody may pull.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ShareRestricted {
    /// No peers.
    #[default]
    Never,
    /// Those of a private swarm.
    PrivateSwarm,
}

impl AccessSettings {
    /// Takes from the file what neither flags nor environment said.
    pub fn or(self, file: Self) -> Self {
        Self {
            htpasswd: self.htpasswd.or(file.htpasswd),
            public_url: self.public_url.or(file.public_url),
            pull: self.pull.or(file.pull),
            access_rules: self.access_rules.or(file.access_rules),
            share_restricted: self.share_restricted.or(file.share_restricted),
            policy: self.policy.or(file.policy),
        }
    }

    /// Whether there is a file of users.
    pub fn has_users(&self) -> bool {
        self.htpasswd.is_some()
    }

    /// Whether peers of a private swarm get what not everybody may pull.
    pub fn shares_restricted(&self) -> bool {
        self.share_restricted == Some(ShareRestricted::PrivateSwarm)
    }

    /// Who may push and pull; client certificates can make users, too.
    pub fn access(&self, has_certificates: bool) -> Result<Access, Exit> {
        let hint = "`htpasswd -B -c FILE NAME` makes such a file";
        let read = |path: &PathBuf| Users::read(path).map_err(|e| usage(e, hint));
        let (users, pull) = (self.htpasswd.as_ref().map(read).transpose()?, self.pull.unwrap_or_default());
        if pull == Pull::Users && users.is_none() && !has_certificates {
            return Err(usage(
                "--pull users needs a file of users",
                "name it with --htpasswd FILE, or the authorities of client certificates with --client-ca FILE",
            ));
        }
        let rules = self.rules(users.clone())?;
        let access = Access::new(users, pull, self.public_url.clone()).with_rules(rules);
        Ok(if has_certificates { access.with_certificates() } else { access })
    }

    /// The signature policies, if there are some.
    pub fn policies(&self) -> Result<Option<PolicyFile>, Exit> {
        let hint = "a policy has repositories and keys: [keys.release], cosign = \"release.pub\", then [[policy]], repositories = [\"team/*\"], keys = [\"release\"]";
        let read = |path: &PathBuf| PolicyFile::read(path).map_err(|error| usage(error, hint));
        self.policy.as_ref().map(read).transpose()
    }

    /// The access rules, if there are some.
    fn rules(&self, users: Option<Users>) -> Result<Option<AccessRules>, Exit> {
        let Some(path) = &self.access_rules else {
            return match self.shares_restricted() {
                true => {
                    Err(usage("--share-restricted needs access rules", "name them with --access-rules FILE"))
                }
                false => Ok(None),
            };
        };
        let hint = "a rule has users or groups, repositories and actions: [[rule]], users = [\"alice\"], repositories = [\"team/*\"], actions = [\"pull\", \"push\"]";
        AccessRules::read(path, users).map(Some).map_err(|error| usage(error, hint))
    }
}
