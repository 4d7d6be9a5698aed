//! The RPC of `serve`: off unless it has an address.

use std::{net::SocketAddr, path::PathBuf};

use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    cli::{
        Exit,
        settings::{Settings, usage},
    },
    control::{Failure, Instance},
    http::{Users, events::Events, reloaded::Reload},
    rpc::{self, ApiFile, Authorizations},
};

/// The listener of the RPC, before there is something to serve.
pub struct BoundRpc {
    listener: TcpListener,
    address: SocketAddr,
    users: Option<Users>,
    authorizations: Option<Authorizations>,
    /// Directories that get a file `api`.
    dirs: Vec<PathBuf>,
}

/// Binds the address, if there is one. Other machines reach it only where it has users.
pub async fn bind(settings: &Settings) -> Result<Option<BoundRpc>, Exit> {
    let Some(address) = settings.rpc_listen() else {
        let unused = [
            settings.rpc_htpasswd().map(|_| "--rpc-htpasswd"),
            settings.rpc_authorizations().map(|_| "--rpc-authorizations"),
            settings.ipfs_path().map(|_| "--ipfs-path"),
        ];
        return match unused.into_iter().flatten().next() {
            Some(flag) => Err(usage(
                format!("{flag} needs --rpc-listen"),
                "start the RPC with --rpc-listen 127.0.0.1:5001",
            )),
            None => Ok(None),
        };
    };
    let hint = "`htpasswd -B -c FILE NAME` makes such a file";
    let users = settings.rpc_htpasswd().map(Users::read).transpose().map_err(|error| usage(error, hint))?;
    let hint = "it holds what `ipfs config API.Authorizations` prints: {\"NAME\": {\"AuthSecret\": \"bearer:TOKEN\", \"AllowedPaths\": [\"/api/v0\"]}}";
    let authorizations = settings.rpc_authorizations().map(Authorizations::read).transpose();
    let authorizations = authorizations.map_err(|error| usage(error, hint))?;
    if users.is_none() && authorizations.is_none() && !address.ip().to_canonical().is_loopback() {
        let message =
            format!("--rpc-listen {address} is reachable from other machines, and the RPC has no users");
        let hint = "listen on 127.0.0.1, or name a file of users with --rpc-htpasswd FILE or --rpc-authorizations FILE";
        return Err(usage(message, hint));
    }
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Failure::new(format!("cannot listen on {address} for the RPC: {error}"))
            .hint("is an IPFS daemon running there? choose another address with --rpc-listen")
    })?;
    let address = listener.local_addr().map_err(Failure::new)?;
    let dirs = [settings.data_dir()].into_iter().chain(settings.ipfs_path().map(Into::into)).collect();
    Ok(Some(BoundRpc { listener, address, users, authorizations, dirs }))
}

impl BoundRpc {
    /// Returns the files that are read again on SIGHUP.
    pub fn files(&self) -> Vec<Box<dyn Reload>> {
        let users = self.users.iter().map(Users::file);
        users.chain(self.authorizations.iter().map(Authorizations::file)).collect()
    }

    /// Serves the RPC until `stop`, and tells `events` of failed logins. Its files `api` go with the task.
    pub fn serve(
        self,
        instance: &Instance,
        settings: &Settings,
        events: Events,
        stop: CancellationToken,
    ) -> Result<JoinHandle<()>, Failure> {
        let Self { listener, address, users, authorizations, dirs } = self;
        let write = |dir: &PathBuf| {
            let written = ApiFile::write(dir, address);
            written
                .map_err(|error| Failure::new(format!("cannot write {}: {error}", dir.join("api").display())))
        };
        let files = dirs.iter().map(write).collect::<Result<Vec<_>, _>>()?;
        let options = rpc::Options {
            resolver: instance.resolver().clone(),
            publisher: instance.publisher().clone(),
            rules: instance.access_rules().cloned(),
            users,
            authorizations,
            events,
            data_dir: settings.data_dir(),
        };
        tracing::info!(%address, "serving the RPC API of Kubo");
        Ok(tokio::spawn(async move {
            // At once: what finishes in peace finds no new clients.
            let mut files = Some(files);
            let serving = rpc::serve(listener, options, stop.clone());
            let mut serving = std::pin::pin!(serving);
            loop {
                tokio::select! {
                    ended = serving.as_mut() => {
                        if let Err(error) = ended {
                            tracing::error!("the RPC stopped: {error}");
                        }
                        return;
                    }
                    () = stop.cancelled(), if files.is_some() => drop(files.take()),
                }
            }
        }))
    }
}
