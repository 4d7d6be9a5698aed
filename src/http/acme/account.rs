//! The account at an ACME server, and the HTTP client that reaches it.

use std::{future::Future, path::Path, pin::Pin};

use axum::{
    body::{Body, to_bytes},
    http::{Request, Response},
};
use bytes::Bytes;
use instant_acme::{
    Account, AccountCredentials, BodyWrapper, BytesResponse, Error as AcmeError, HttpClient, NewAccount,
};

use super::{Acme, Error, files};
use crate::http_client;

/// Bytes of a request or of an answer.
const MAX_BYTES: usize = 1 << 20;

/// Makes the client, which trusts the system's authorities and one more.
pub fn client(authority: Option<&Path>) -> Result<reqwest::Client, Error> {
    let Some(path) = authority else {
        return http_client::new().map_err(|why| Error::Server(http_client::with_sources(&why)));
    };
    let refused = |why: String| Error::Authority { path: path.display().to_string(), why };
    let pem = std::fs::read(path).map_err(|why| refused(why.to_string()))?;
    let own = reqwest::Certificate::from_pem_bundle(&pem)
        .map_err(|why| refused(http_client::with_sources(&why)))?;
    if own.is_empty() {
        return Err(refused("it has no certificate in PEM".into()));
    }
    let built = http_client::builder().tls_certs_merge(own).build();
    built.map_err(|why| refused(http_client::with_sources(&why)))
}

impl Acme {
    /// The account, made when it is first needed.
    pub(super) async fn account(&self) -> Result<&Account, Error> {
        self.account.get_or_try_init(|| self.open_account()).await
    }

    async fn open_account(&self) -> Result<Account, Error> {
        let (dir, directory) = (&self.options.dir, &self.options.directory);
        let builder = || Account::builder_with_http(Box::new(Client(self.client.clone())));
        if let Some(known) = files::read_account(dir, directory)? {
            let credentials: AccountCredentials = serde_json::from_value(known)
                .map_err(|why| files::refused(&files::account_path(dir), why))?;
            return Ok(builder().from_credentials(credentials).await?);
        }
        let contacts: Vec<&str> = self.options.contacts.iter().map(String::as_str).collect();
        let new =
            NewAccount { contact: &contacts, terms_of_service_agreed: true, only_return_existing: false };
        let (account, credentials) = builder().create(&new, directory.clone(), None).await?;
        tracing::info!(directory, "made an ACME account");
        // Used from memory if it cannot be written: the server limits the accounts that it makes.
        let (path, bytes) = files::account(dir, directory, &credentials)?;
        self.kept.write(path, bytes).await;
        Ok(account)
    }
}

/// The client of this program, as the library asks for one.
struct Client(reqwest::Client);

type Answer = Result<BytesResponse, AcmeError>;

impl HttpClient for Client {
    fn request(&self, request: Request<BodyWrapper<Bytes>>) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
        let client = self.0.clone();
        Box::pin(async move { send(client, request).await.map_err(AcmeError::Other) })
    }
}

async fn send(
    client: reqwest::Client,
    request: Request<BodyWrapper<Bytes>>,
) -> Result<BytesResponse, Box<dyn std::error::Error + Send + Sync>> {
    let (parts, body) = request.into_parts();
    let body = to_bytes(Body::new(body), MAX_BYTES).await?;
    let request = client.request(parts.method, parts.uri.to_string()).headers(parts.headers).body(body);
    let answer: Response<reqwest::Body> = request.send().await?.into();
    let (parts, body) = answer.into_parts();
    let body = to_bytes(Body::new(body), MAX_BYTES).await?;
    Ok(BytesResponse::from(Response::from_parts(parts, Body::from(body))))
}
