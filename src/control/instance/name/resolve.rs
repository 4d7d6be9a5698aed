use crate::{
    control::{Failure, Instance, NameTarget, Reply},
    names::ipns,
};

impl Instance {
    pub(super) async fn name_resolve(&self, text: &str) -> Result<Reply, Failure> {
        let node = self.content().node();
        let own =
            node.name_keys().await.map_err(Failure::new)?.into_iter().find(|(key_name, _)| key_name == text);
        let path = match own {
            Some((_, name)) => Ok(ipns::Path::Name(name.into(), String::new())),
            None if text.starts_with('/') || text.contains("://") => text.parse(),
            None => format!("/ipns/{text}").parse(),
        };
        let path = path.map_err(resolve_failure)?;
        let found = ipns::follow(node, path, self.content().find_timeout()).await.map_err(resolve_failure)?;
        Ok(Reply::Resolved(NameTarget { value: format!("/ipfs/{}", found.at), stale: found.stale }))
    }
}

fn resolve_failure(error: ipns::Error) -> Failure {
    use ocipfs_node::ResolveError::*;
    let hint = match &error {
        ipns::Error::Node(NoRecord { asked: 0, .. }) => {
            "no peer is connected: see `ocipfs swarm peers`, and dial one with `ocipfs swarm connect`"
        }
        ipns::Error::Node(Dns { .. }) => {
            "start `ocipfs serve` if it is not running; choose another DNS server with --dns-resolver"
        }
        ipns::Error::NoName(_) => "`ocipfs name ls` lists this node's own names and their keys",
        _ => return Failure::new(error),
    };
    Failure::new(error).hint(hint)
}
