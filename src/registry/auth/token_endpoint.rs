//! The token endpoint: <https://distribution.github.io/distribution/spec/auth/token/>.
//!
//! Docker sends a password only where the registry requires a login from every client. Otherwise it fetches a token
//! without a login too: the anonymous token, which allows pulls.

use std::time::Instant;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, header},
    response::IntoResponse,
};
use serde_json::json;

use super::{
    access::Access,
    tokens::{ANONYMOUS, LIFETIME},
};
use crate::{
    http::{basic, htpasswd::LoginError},
    registry::error::ApiError,
};

/// Issues a token: a user's for a name and a password, else the anonymous one.
pub async fn get(State(access): State<Access>, headers: HeaderMap) -> Result<impl IntoResponse, ApiError> {
    let Some((users, tokens)) = access.users() else { return Err(ApiError::no_endpoint()) };
    let token = match headers.get(header::AUTHORIZATION) {
        None => ANONYMOUS.to_string(),
        Some(value) => {
            users.refresh().await;
            let credentials = value.to_str().ok().and_then(basic::credentials);
            let (user, password) = credentials.ok_or(LoginError::Wrong)?;
            tokens.issue(users.login(&user, &password).await?, Instant::now())
        }
    };
    let lifetime = LIFETIME.as_secs();
    let answer = Json(json!({ "token": token, "access_token": token, "expires_in": lifetime }));
    Ok(([(header::CACHE_CONTROL, "no-store")], answer))
}
