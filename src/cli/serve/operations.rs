//! What operators and their tools see of the process, from its start to its end: probes, metrics, the service manager, the drain.

use std::time::Duration;

use tokio::{net::TcpListener, time::sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{notify::Notifier, signals::Signals};
use crate::{
    admin::Admin,
    cli::{Exit, settings::Settings},
    control::{Failure, Instance},
    http::{closing::Closing, metrics::HttpMetrics},
    page::Page,
    registry::PageRoutes,
};

/// Between two checks of the store and the swarm.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// How long connections of probes and scrapes may take to end, last of all.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Shared by the parts of `serve`.
pub struct Operations {
    admin: Admin,
    page: Option<Page>,
    notifier: Notifier,
    closing: Closing,
    drain_delay: Duration,
    /// Whether there are probes and metrics.
    is_serving: bool,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Operations {
    /// Binds the address of probes and metrics, if there is one: they answer from now on.
    pub async fn start(settings: &Settings) -> Result<Self, Exit> {
        let page = settings.page().then(Page::default);
        let address = settings.admin_listen();
        let shown = page.clone().filter(|_| address.is_some_and(|address| settings.admin_page(address)));
        let (admin, tasks, stop) = (Admin::new(shown), TaskTracker::new(), CancellationToken::new());
        if let Some(address) = address {
            let listener = TcpListener::bind(address).await.map_err(|error| {
                let message = format!("cannot listen on {address} for probes and metrics: {error}");
                Failure::new(message).hint("choose another address with --admin-listen")
            })?;
            let address = listener.local_addr().map_err(Failure::new)?;
            if !address.ip().to_canonical().is_loopback() {
                tracing::warn!(%address, "probes and metrics have no login, and other machines can read them");
            }
            tracing::info!(%address, "serving probes and metrics");
            tasks.spawn(admin.clone().serve(listener, stop.clone()));
        }
        let (notifier, closing) = (Notifier::from_environment(), Closing::default());
        let (drain_delay, is_serving) = (settings.drain_delay(), address.is_some());
        Ok(Self { admin, page, notifier, closing, drain_delay, is_serving, tasks, stop })
    }

    /// Returns what counts the requests of the registry.
    pub fn http(&self) -> HttpMetrics {
        self.admin.http().clone()
    }

    /// Returns the routes of the page for the registry's listener, which shows this instance from now on.
    pub fn page(&self, instance: &Instance) -> Option<PageRoutes> {
        let page = self.page.as_ref()?;
        page.open(instance);
        Some(PageRoutes { files: Page::files(), data: page.data() })
    }

    /// Returns what tells clients of the registry to leave.
    pub fn closing(&self) -> Closing {
        self.closing.clone()
    }

    /// Returns the service manager.
    pub fn notifier(&self) -> Notifier {
        self.notifier.clone()
    }

    /// Sends clients here from now on, and observes the instance until the end.
    pub async fn ready(&self, instance: &Instance) {
        let health = self.admin.health().clone();
        health.check(instance).await;
        health.set_ready();
        if self.is_serving {
            self.tasks.spawn(self.admin.clone().observe(instance.clone(), self.stop.clone()));
        }
        if self.is_serving || self.notifier.watchdog().is_some() {
            let checking = check(self.admin.clone(), self.notifier.clone(), instance.clone());
            self.tasks.spawn(self.stop.clone().run_until_cancelled_owned(checking));
        }
        self.notifier.ready();
    }

    /// Has clients go elsewhere, while those that come are still served. Returns false if a second signal ends the wait.
    pub async fn drain(&self, signals: &mut Signals) -> bool {
        self.admin.health().set_draining();
        self.closing.begin();
        self.notifier.stopping();
        tokio::select! {
            () = sleep(self.drain_delay) => true,
            () = signals.next() => false,
        }
    }

    /// Closes the listener of probes and metrics, after all others.
    pub async fn close(self) {
        self.stop.cancel();
        self.tasks.close();
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.tasks.wait()).await;
    }
}

/// Checks the store and the swarm at intervals; only while they answer, the service manager is told that the node is alive.
async fn check(admin: Admin, notifier: Notifier, instance: Instance) {
    // The manager advises half of its time.
    let interval = notifier.watchdog().map_or(CHECK_INTERVAL, |watchdog| CHECK_INTERVAL.min(watchdog / 2));
    loop {
        if admin.health().check(&instance).await {
            notifier.alive();
        }
        sleep(interval).await;
    }
}
