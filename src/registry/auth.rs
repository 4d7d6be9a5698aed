//! Authentication and authorization: which client may pull, push and delete.
//!
//! ```text
//! token_endpoint   GET /token
//!   └─► access     allows or refuses a request
//!         ├─► tokens ──► htpasswd   users, from a file
//!         ├─► basic                 the Authorization header of a password
//!         └─► challenge             the WWW-Authenticate header of a token
//! ```

mod access;
mod basic;
mod challenge;
mod htpasswd;
mod token_endpoint;
mod tokens;

pub use access::{Access, Pull, is_read};
pub use htpasswd::{Error as UsersError, Users};
pub use token_endpoint::get as get_token;

/// The path of the token endpoint.
pub const TOKEN_PATH: &str = "/token";
