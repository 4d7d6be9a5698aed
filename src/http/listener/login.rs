//! The client certificate of a connection, for as long as the connection is open.

use axum::{
    extract::Request,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

use crate::http::{
    origin::ClientAddress,
    tls::{Secure, Tls},
};

/// What a client is told whose certificate was accepted when it connected, in the form of the distribution API.
const NOT_ACCEPTED: &str = "{\"errors\":[{\"code\":\"UNAUTHORIZED\",\"message\":\"the client certificate is not accepted \
                            any more; connect again with another one\"}]}";

/// What a connection has shown of its client; nothing without TLS. Clones share it.
#[derive(Clone, Default)]
pub struct ConnectionLogin(Option<(Tls, Secure)>);

impl ConnectionLogin {
    pub fn new(tls: Tls, secure: Secure) -> Self {
        Self(Some((tls, secure)))
    }

    /// What requests are told of the connection.
    pub fn secure(&self) -> Option<Secure> {
        self.0.as_ref().map(|(_, secure)| secure.clone())
    }

    /// Whether a request may come, by the authorities as they are now.
    pub async fn is_accepted(&self) -> bool {
        match &self.0 {
            Some((tls, secure)) => tls.accepts(secure).await,
            None => true,
        }
    }

    /// Waits until no request may come any more.
    pub async fn ends(&self) {
        match &self.0 {
            Some((tls, secure)) => tls.ends(secure).await,
            None => std::future::pending().await,
        }
    }
}

/// The answer to a request that may not come any more.
pub fn refusal(request: &Request) -> Response {
    let client = request.extensions().get::<ClientAddress>().map(|ClientAddress(address)| address);
    let client = client.map(tracing::field::display);
    tracing::warn!(client, "request refused: its client certificate is not accepted any more");
    let headers = [
        (header::CONTENT_TYPE.as_str(), "application/json"),
        ("docker-distribution-api-version", "registry/2.0"),
    ];
    (StatusCode::UNAUTHORIZED, headers, NOT_ACCEPTED).into_response()
}
