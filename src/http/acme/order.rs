//! One certificate: an order, the proof of its name, and what is issued.

use std::time::Duration;

use instant_acme::{AuthorizationStatus, ChallengeType, Identifier, NewOrder, OrderStatus, RetryPolicy};

use super::{Acme, Domain, Error, files};

/// How long a server may take to prove a name.
const VALIDATION_TIMEOUT: Duration = Duration::from_secs(120);

impl Acme {
    /// Gets a certificate for a name, keeps it and serves it.
    pub(super) async fn order(&self, domain: &Domain) -> Result<(), Error> {
        let identifiers = [Identifier::Dns(domain.as_str().into())];
        let mut order = self.account().await?.new_order(&NewOrder::new(&identifiers)).await?;
        // Held until the server has looked.
        let mut answers = Vec::new();
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let challenge = authorization.challenge(ChallengeType::TlsAlpn01);
            let mut challenge = challenge.ok_or_else(|| Error::NoChallenge(domain.clone()))?;
            let digest = challenge.key_authorization().digest().as_ref().to_vec();
            let answer = self.tls.challenges().answer(domain.as_str(), &digest);
            answers.push(answer.map_err(Error::Answer)?);
            challenge.set_ready().await?;
        }
        let retries = RetryPolicy::default().timeout(VALIDATION_TIMEOUT);
        match order.poll_ready(&retries).await? {
            OrderStatus::Ready => {}
            other => return Err(Error::Refused(other)),
        }
        drop(answers);
        let key = order.finalize().await?;
        let chain = order.poll_certificate(&retries).await?;
        self.issued(domain, format!("{key}{chain}")).await
    }

    /// Serves an issued certificate, and keeps it. It is served even if it cannot be written.
    pub(super) async fn issued(&self, domain: &Domain, pem: String) -> Result<(), Error> {
        let path = files::certificate_path(&self.options.dir, domain);
        let certificate = files::parse(&path, pem.as_bytes())?;
        self.tls.set_issued(domain.as_str(), certificate)?;
        self.kept.write(path, pem.into_bytes()).await;
        Ok(())
    }
}
