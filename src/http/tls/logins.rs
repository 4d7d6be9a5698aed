//! Open connections whose client certificate was verified: it is verified again once the authorities have changed, and counts until
//! it expires. So a client whose authority is gone is refused on the connection that it has, too.

use std::time::{Duration, SystemTime};

use super::{Secure, Tls};

/// The clock may be set, so the end of a certificate is looked at this often.
const LOOK: Duration = Duration::from_secs(3600);

impl Tls {
    /// Whether a request may come over a connection: its client showed no certificate, or one that is accepted by the files as they
    /// are now.
    pub async fn accepts(&self, secure: &Secure) -> bool {
        let Some(login) = secure.login() else { return true };
        self.refresh().await;
        login.is_accepted(&self.configs().verification)
    }

    /// Waits until the certificate of a connection is not accepted any more.
    pub async fn ends(&self, secure: &Secure) {
        let Some(login) = secure.login() else { return std::future::pending().await };
        let mut changes = self.0.verifications.subscribe();
        while login.is_accepted(&self.configs().verification) {
            let left = login.end().duration_since(SystemTime::now()).unwrap_or_default();
            let _ = tokio::time::timeout(left.min(LOOK), changes.changed()).await;
        }
    }
}
