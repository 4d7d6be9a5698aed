//! TLS and events of `serve`: opened before anything is served, and again at each SIGHUP.

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    cli::{
        Exit,
        settings::{Settings, usage},
    },
    http::{
        acme::Acme,
        events::{Audit, Events, Webhooks},
        reloaded::Reload,
        tls::Tls,
    },
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

    /// Returns what SIGHUP has read or opened again.
    pub fn files(&self) -> Vec<Box<dyn Reload>> {
        let mut files = Vec::<Box<dyn Reload>>::new();
        if let Some(tls) = &self.tls {
            files.push(Box::new(tls.clone()));
        }
        files.extend(self.events.files());
        files
    }
}
