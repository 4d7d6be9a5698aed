//! Authentication and authorization: which client may pull, push and delete.
//!
//! ```text
//! token_endpoint   GET /token
//!   └─► access     allows or refuses a request, by rules (`crate::access`) or by users
//!         ├─► logins                who sends a request (identity): certificates, passwords, tokens
//!         │     └─► tokens          of the token endpoint
//!         ├─► credentials           what a request shows: a header, or the certificate of its connection
//!         ├─► visiting              visitors of the page
//!         ├─► view                  what of the content a client sees
//!         ├─► limits                requests per user and per address
//!         └─► challenge             the WWW-Authenticate header of a token
//! ```

mod access;
mod challenge;
mod credentials;
mod identity;
mod limits;
mod logins;
mod pull;
mod token_endpoint;
mod tokens;
mod view;
mod visiting;

pub use access::{Access, is_read};
pub use credentials::Credentials;
pub use identity::Visitor;
pub use pull::Pull;
pub use token_endpoint::get as get_token;

/// Whether a client has no login.
pub fn is_anonymous(visitor: &Visitor) -> bool {
    visitor.identity == identity::Identity::Anonymous
}

/// The path of the token endpoint.
pub const TOKEN_PATH: &str = "/token";
