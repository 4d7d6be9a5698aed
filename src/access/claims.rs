//! Tokens of other issuers (OpenID Connect): which of them stand for a user, and for which.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Pattern, User};

/// An issuer, and the users that its tokens stand for.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Oidc {
    /// The URL that its tokens name as `iss`.
    pub issuer: String,
    /// What its tokens name as `aud`.
    pub audience: String,
    /// The URL of its keys, where it is not in the issuer's configuration.
    pub jwks: Option<String>,
    /// The user; `{claim}` stands for the value of a claim.
    #[serde(default = "subject")]
    user: String,
    /// Groups of the user.
    #[serde(default)]
    groups: Vec<String>,
    /// A claim that lists further groups.
    groups_claim: Option<String>,
    /// Patterns that claims must be as.
    #[serde(default)]
    claims: BTreeMap<String, Pattern>,
}

fn subject() -> String {
    "{sub}".into()
}

/// The user of a token, or why it stands for none.
pub type ClaimedUser = Result<User, String>;

impl Oidc {
    /// Returns the user that the claims of a valid token stand for.
    pub fn user_of(&self, claims: &Map<String, Value>) -> ClaimedUser {
        for (claim, pattern) in &self.claims {
            let value = text_of(claims, claim).ok_or_else(|| format!("the token has no claim {claim:?}"))?;
            if !pattern.matches(&value) {
                return Err(format!("the claim {claim:?} is {value:?}: expected {pattern}"));
            }
        }
        let listed = self.groups_claim.as_ref().and_then(|claim| claims.get(claim)).and_then(Value::as_array);
        let listed = listed.into_iter().flatten().filter_map(Value::as_str).map(String::from);
        let groups = self.groups.iter().cloned().chain(listed).collect();
        Ok(User { name: Some(filled(&self.user, claims)?), groups })
    }
}

/// Returns a claim as text; none of a list or an object.
fn text_of(claims: &Map<String, Value>, claim: &str) -> Option<String> {
    match claims.get(claim)? {
        Value::String(text) => Some(text.clone()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Number(value) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Puts claims into a text. The user is never one of the names that stand for many, nor empty.
fn filled(template: &str, claims: &Map<String, Value>) -> Result<String, String> {
    let (mut name, mut rest) = (String::new(), template);
    while let Some((before, after)) = rest.split_once('{') {
        let (claim, after) =
            after.split_once('}').ok_or_else(|| format!("{template:?} has no closing }}"))?;
        let value = text_of(claims, claim).ok_or_else(|| format!("the token has no claim {claim:?}"))?;
        name.push_str(before);
        name.push_str(&value);
        rest = after;
    }
    name.push_str(rest);
    match name.as_str() {
        "" | super::ANONYMOUS | super::AUTHENTICATED => Err(format!("{name:?} cannot be a user")),
        _ => Ok(name),
    }
}
