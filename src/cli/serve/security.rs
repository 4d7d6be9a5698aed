//! TLS and events of `serve`: opened before anything is served, and again at each SIGHUP.

use tokio::signal::unix;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::listen;
use crate::{
    cli::{
        Exit,
        settings::{Settings, usage},
    },
    http::{
        acme::Acme,
        events::{Audit, Events, Webhooks},
        tls::Tls,
    },
    registry::Access,
};

/// What is read again, and tasks beside the registry.
pub struct Security {
    pub tls: Option<Tls>,
    pub events: Events,
    acme: Option<Acme>,
    tasks: TaskTracker,
}

/// Reads the files of TLS, if there is any.
pub fn tls(settings: &Settings) -> Result<Option<Tls>, Exit> {
    let opened = settings.tls()?.map(Tls::open).transpose();
    opened.map_err(|error| usage(&error, error.hint()))
}

impl Security {
    /// Opens the audit log and the certificates of an ACME server, and starts the webhooks of the registry at `registry`.
    pub fn open(
        settings: &Settings,
        tls: Option<Tls>,
        registry: &str,
        stop: &CancellationToken,
    ) -> Result<Self, Exit> {
        let given = settings.events();
        let audit = given.audit_log().map(Audit::open).transpose();
        let audit = audit.map_err(|error| usage(error, "name a file in a directory that exists, or -"))?;
        let tasks = TaskTracker::new();
        let source = format!("{}://{registry}", if tls.is_some() { "https" } else { "http" });
        let start = |options| Webhooks::start(options, source, &tasks, stop);
        let webhooks = given.webhooks()?.map(start).transpose();
        let webhooks = webhooks.map_err(|error| {
            usage(error, "the secret is a file of its own, such as of `openssl rand -hex 32`")
        })?;
        let acme = match (settings.acme(), &tls) {
            (Some(options), Some(tls)) => {
                let opened = Acme::open(options, tls.clone());
                Some(opened.map_err(|error| usage(error, "see docs/how-to/tls.md"))?)
            }
            _ => None,
        };
        Ok(Self { tls, events: Events::new(audit, webhooks), acme, tasks })
    }

    /// Starts to get certificates, and returns the tasks: they end some time after `stop`.
    pub fn start(&mut self, stop: &CancellationToken) -> TaskTracker {
        if let Some(acme) = self.acme.take() {
            self.tasks.spawn(acme.run(stop.clone()));
        }
        self.tasks.close();
        self.tasks.clone()
    }

    /// Reads the files of users and of TLS again at each SIGHUP, and opens the audit log again. Without any of them SIGHUP ends the
    /// process, as elsewhere.
    pub fn reload_on_hangup(self, access: Access) -> Result<impl Future<Output = ()>, Exit> {
        let Self { tls, events, .. } = self;
        let is_used = access.has_users() || tls.is_some() || events.are_wanted();
        let mut hangups = match is_used {
            true => Some(listen(unix::SignalKind::hangup())?),
            false => None,
        };
        Ok(async move {
            while let Some(hangups) = &mut hangups
                && hangups.recv().await.is_some()
            {
                access.reload().await;
                if let Some(tls) = &tls {
                    tls.reload().await;
                }
                events.reload();
            }
        })
    }
}
