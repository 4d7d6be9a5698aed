//! The keys of an instance.

use base64::{Engine, prelude::BASE64_STANDARD};
use ocipfs_node::{IpnsName, KeyError};

use crate::control::{Failure, Instance, OwnName, Reply};

impl Instance {
    pub(super) async fn name_ls(&self) -> Result<Reply, Failure> {
        let node = self.content().node();
        let own = ("self".to_string(), IpnsName::from(node.peer_id()));
        let mut names = Vec::new();
        for (key, name) in [own].into_iter().chain(node.name_keys().await.map_err(Failure::new)?) {
            names.push(OwnName {
                key,
                name: name.to_string(),
                value: node.published(&name).map(|own| own.value),
            });
        }
        Ok(Reply::Names { names })
    }

    pub(super) async fn key_new(&self, key: String) -> Result<Reply, Failure> {
        let name = self.content().node().new_key(&key).await.map_err(key_failure)?;
        Ok(Reply::Key { key, name: name.to_string() })
    }

    pub(super) async fn key_export(&self, key: &str) -> Result<Reply, Failure> {
        let bytes = self.content().node().export_key(key).await.map_err(key_failure)?;
        Ok(Reply::SecretKey { base64: BASE64_STANDARD.encode(bytes) })
    }

    pub(super) async fn key_import(&self, key: String, base64: &str) -> Result<Reply, Failure> {
        let bytes = BASE64_STANDARD.decode(base64).map_err(Failure::new)?;
        let name = self.content().node().import_key(&key, &bytes).await.map_err(key_failure)?;
        Ok(Reply::Key { key, name: name.to_string() })
    }
}

fn key_failure(error: KeyError) -> Failure {
    let hint = match error {
        KeyError::NotAKey(_) => {
            "export it with `ocipfs name key export`, or `ipfs key export --format=libp2p-protobuf-cleartext`"
        }
        KeyError::NoKey(_) => "`ocipfs name ls` lists the keys",
        KeyError::KeyExists(_) => "choose another key name: keys are never overwritten",
        _ => return Failure::new(error),
    };
    Failure::new(error).hint(hint)
}
