//! Authentication and authorization: which client may pull, push and delete.
//!
//! ```text
//! token_endpoint   GET /token
//!   └─► access     allows or refuses a request
//!         ├─► tokens                in place of passwords (`http::htpasswd` has the users)
//!         ├─► credentials           what a request shows: a header, or the certificate of its connection
//!         └─► challenge             the WWW-Authenticate header of a token
//! ```

mod access;
mod challenge;
mod credentials;
mod token_endpoint;
mod tokens;

pub use access::{Access, Pull, is_read};
pub use credentials::Credentials;
pub use token_endpoint::get as get_token;

/// The path of the token endpoint.
pub const TOKEN_PATH: &str = "/token";
