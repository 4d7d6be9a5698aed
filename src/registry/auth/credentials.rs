//! What a request shows of its client: an `Authorization` header, or the certificate of its connection.

use axum::{
    extract::Request,
    http::{HeaderMap, header, request::Parts},
};

use super::tokens::ANONYMOUS;
use crate::http::tls::Secure;

/// What a request shows. A certificate wins over a password: it is shown by the connection, whatever a program sends.
#[derive(Clone, Copy)]
pub struct Credentials<'a> {
    headers: &'a HeaderMap,
    secure: Option<&'a Secure>,
}

impl<'a> Credentials<'a> {
    /// What the head of a request shows.
    pub fn of(parts: &'a Parts) -> Self {
        Self { headers: &parts.headers, secure: parts.extensions.get() }
    }

    /// What a request shows.
    pub fn of_request(request: &'a Request) -> Self {
        Self { headers: request.headers(), secure: request.extensions().get() }
    }

    pub fn headers(self) -> &'a HeaderMap {
        self.headers
    }

    /// The `Authorization` header.
    pub fn authorization(self) -> Option<&'a str> {
        self.headers.get(header::AUTHORIZATION)?.to_str().ok()
    }

    /// The same, unless it is the token that stands for no user.
    pub fn login(self) -> Option<&'a str> {
        let is_anonymous =
            |shown: &&str| shown.split_once(' ').map(|(_, token)| token.trim()) == Some(ANONYMOUS);
        self.authorization().filter(|shown| !is_anonymous(shown))
    }

    /// The user whom the client's certificate names.
    pub fn certificate_user(self) -> Option<&'a str> {
        self.secure?.user()
    }

    /// Whether the request came over TLS.
    pub fn is_secure(self) -> bool {
        self.secure.is_some()
    }
}
