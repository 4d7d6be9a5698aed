//! The token endpoint: <https://distribution.github.io/distribution/spec/auth/token/>.
//!
//! Docker sends a password only where the registry requires a login from every client. Otherwise it fetches a token
//! without a login too: the anonymous token, which allows what clients without a login may.

use std::time::Instant;

use axum::{
    Json,
    extract::{Request, State},
    http::header,
    response::IntoResponse,
};
use serde_json::json;

use super::{
    access::Access,
    tokens::{ANONYMOUS, LIFETIME, TokenSession},
};
use crate::{
    access::Scopes,
    http::{basic, htpasswd::LoginError},
    registry::{error::ApiError, query::Query},
};

/// Issues a token: a user's for a name and a password, else the anonymous one. With access rules it is for the requested
/// scopes; which of them its user may use, the rules say at each request.
pub async fn get(State(access): State<Access>, request: Request) -> Result<impl IntoResponse, ApiError> {
    if !access.has_logins() {
        return Err(ApiError::no_endpoint());
    }
    let (parts, _) = request.into_parts();
    access.limit_address(&parts)?;
    let token = match parts.headers.get(header::AUTHORIZATION) {
        None => ANONYMOUS.to_string(),
        Some(value) => {
            let credentials = value.to_str().ok().and_then(basic::credentials);
            let (user, password) = credentials.ok_or(LoginError::Wrong)?;
            let identity = access.login(&user, &password).await?;
            access.limit_user(&identity)?;
            let query = Query::parse(parts.uri.query());
            let scopes = match access.has_rules() {
                true => Scopes::parse(query.values("scope")),
                false => Scopes::default(),
            };
            access.logins().sessions.issue(TokenSession { identity, scopes }, Instant::now())
        }
    };
    let lifetime = LIFETIME.as_secs();
    let answer = Json(json!({ "token": token, "access_token": token, "expires_in": lifetime }));
    Ok(([(header::CACHE_CONTROL, "no-store")], answer))
}
