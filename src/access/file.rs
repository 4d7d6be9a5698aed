//! The file of rules, as TOML. Errors name the line, and the key that was probably meant.

use std::{collections::HashMap, str::FromStr};

use serde::Deserialize;

use super::{
    Actions, Grant, Oidc, Pattern, Rate, Rules,
    action::Action,
    rules::{Immutable, Rule},
};

/// Why a text gives no rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}{}", nearest.as_ref().map(|key| format!("; did you mean `{key}`?")).unwrap_or_default())]
pub struct Error {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub why: String,
    /// The key or the action that was probably meant.
    pub nearest: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct File {
    #[serde(default)]
    groups: HashMap<String, Vec<String>>,
    #[serde(default, rename = "rule")]
    rules: Vec<RuleRow>,
    #[serde(default)]
    immutable: Vec<ImmutableRow>,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    oidc: Vec<Oidc>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RuleRow {
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    groups: Vec<String>,
    repositories: Vec<Pattern>,
    actions: Vec<Action>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct ImmutableRow {
    repositories: Vec<Pattern>,
    tags: Vec<Pattern>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Limits {
    per_user: Option<Rate>,
    per_address: Option<Rate>,
}

impl FromStr for Rules {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let file: File = toml::from_str(text).map_err(|error| invalid(text, &error))?;
        let immutable = |ImmutableRow { repositories, tags }| Immutable { repositories, tags };
        let immutable = file.immutable.into_iter().map(immutable).collect();
        let rule = |RuleRow { users, groups, repositories, actions }| {
            let grant = Grant { repositories, actions: Actions::from_iter(actions) };
            Rule { users, groups, grant }
        };
        let rules = Rules::new(file.rules.into_iter().map(rule).collect(), &file.groups);
        let Limits { per_user, per_address } = file.limits;
        Ok(rules.with(immutable, [per_user, per_address], file.oidc))
    }
}

fn invalid(text: &str, error: &toml::de::Error) -> Error {
    let start = error.span().map_or(0, |span| span.start.min(text.len()));
    let line = text.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count() + 1;
    let why = error.message().lines().collect::<Vec<_>>().join(" ");
    Error { line, nearest: nearest(&why), why }
}

/// Returns what was probably meant in place of the first name in backticks, of those that follow.
fn nearest(why: &str) -> Option<String> {
    if !why.starts_with("unknown ") {
        return None;
    }
    let mut quoted = why.split('`').skip(1).step_by(2);
    let given = quoted.next()?;
    let similar = quoted.map(|known| (strsim::jaro_winkler(given, known), known));
    let similar = similar.filter(|(like, _)| *like > 0.7);
    similar.max_by(|(one, _), (other, _)| one.total_cmp(other)).map(|(_, known)| known.into())
}
