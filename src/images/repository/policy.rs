//! Retention policy of a node: which content it keeps, and for how long.

use std::{str::FromStr, time::Duration};

use ocipfs_oci::Name;
use serde::Deserialize;

/// How long what nothing references is kept, and which tags are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetentionPolicy {
    /// How long a blob waits for the first manifest that references it.
    pub upload_grace: Duration,
    /// How long a manifest without tags can still be pulled by its digest.
    pub keep_untagged: Duration,
    /// Of the rules, the first one that matches a repository applies; without one, all tags are kept.
    pub retention: Vec<RetentionRule>,
}

impl Default for RetentionPolicy {
    fn default() -> Self {
        let (hour, day) = (60 * 60, 24 * 60 * 60);
        Self {
            upload_grace: Duration::from_secs(hour),
            keep_untagged: Duration::from_secs(7 * day),
            retention: Vec::new(),
        }
    }
}

/// Which tags of some repositories are kept: the newest ones, and those that were pushed recently.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, try_from = "Fields")]
pub struct RetentionRule {
    pattern: String,
    keep_tags: Option<usize>,
    keep: Option<Duration>,
}

/// A rule as the settings file has it.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Fields {
    repositories: String,
    keep_tags: Option<usize>,
    keep_days: Option<u64>,
}

const DAY: u64 = 24 * 60 * 60;
const EXAMPLE: &str = "an example: team/*=10,30d";

impl RetentionRule {
    fn new(pattern: &str, keep_tags: Option<usize>, keep: Option<Duration>) -> Result<Self, String> {
        let is_name = |text: &str| text.replace('*', "a").parse::<Name>().is_ok();
        if !is_name(pattern) {
            return Err(format!(
                "invalid repository pattern {pattern:?}: expected a name, with * for any part"
            ));
        }
        if keep_tags.is_none() && keep.is_none() {
            return Err(format!("{pattern}: expected a number of tags, a time, or both; {EXAMPLE}"));
        }
        Ok(Self { pattern: pattern.into(), keep_tags, keep })
    }

    /// Whether the rule is about this repository.
    pub fn matches(&self, name: &Name) -> bool {
        matches_pattern(&self.pattern, name.as_str())
    }

    /// Whether the tag with so many newer ones, pushed at this time, is kept. Times are in seconds since 1970.
    pub fn keeps(&self, newer: usize, pushed: u64, now: u64) -> bool {
        let is_young = |keep: Duration| pushed.saturating_add(keep.as_secs()) > now;
        self.keep_tags.is_some_and(|most| newer < most) || self.keep.is_some_and(is_young)
    }
}

/// Whether a text is as a pattern says: `*` stands for any text, with slashes too.
pub fn matches_pattern(pattern: &str, text: &str) -> bool {
    matches(pattern.as_bytes(), text.as_bytes())
}

fn matches(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => (0..=text.len()).any(|at| matches(rest, &text[at..])),
        Some((byte, rest)) => text.first() == Some(byte) && matches(rest, &text[1..]),
    }
}

impl TryFrom<Fields> for RetentionRule {
    type Error = String;

    fn try_from(fields: Fields) -> Result<Self, String> {
        let keep = fields.keep_days.map(|days| Duration::from_secs(days.saturating_mul(DAY)));
        Self::new(&fields.repositories, fields.keep_tags, keep)
    }
}

impl FromStr for RetentionRule {
    type Err = String;

    /// Takes `<pattern>=<tags>`, `<pattern>=<time>` and `<pattern>=<tags>,<time>`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (pattern, kept) =
            text.split_once('=').ok_or(format!("expected PATTERN=TAGS[,TIME]; {EXAMPLE}"))?;
        let (mut tags, mut keep) = (None, None);
        for part in kept.split(',').map(str::trim) {
            match (part.parse(), humantime::parse_duration(part)) {
                (Ok(number), _) if tags.is_none() => tags = Some(number),
                (_, Ok(time)) if keep.is_none() => keep = Some(time),
                _ => {
                    return Err(format!(
                        "invalid {part:?}: expected one number of tags and one time; {EXAMPLE}"
                    ));
                }
            }
        }
        Self::new(pattern, tags, keep)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retention_rule_matches_repositories_by_pattern() {
        for (pattern, name, expected) in [
            ("team/*", "team/app", true),
            ("team/*", "team/app/deep", true),
            ("team/*", "team", false),
            ("team/*", "other/team/app", false),
            ("*", "anything/at/all", true),
            ("*/app", "team/app", true),
            ("app", "app2", false),
        ] {
            let rule: RetentionRule = format!("{pattern}=1").parse().unwrap();
            assert_eq!(rule.matches(&name.parse().unwrap()), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_retention_rule_is_a_number_of_tags_a_time_or_both() {
        let days = |days: u64| Some(Duration::from_secs(days * DAY));
        for (text, tags, keep) in
            [("a=10", Some(10), None), ("a=30d", None, days(30)), ("a=10,30d", Some(10), days(30))]
        {
            let rule: RetentionRule = text.parse().unwrap();
            assert_eq!((rule.keep_tags, rule.keep), (tags, keep), "{text}");
        }
        for text in ["a", "a=", "a=x", "a=1,2", "a=1d,2d", "A=1", "=1", "a b=1"] {
            assert!(text.parse::<RetentionRule>().is_err(), "{text}");
        }
        let rule: RetentionRule =
            toml::from_str("repositories = 'team/*'\nkeep-tags = 10\nkeep-days = 30").unwrap();
        assert_eq!(rule, "team/*=10,30d".parse().unwrap());
        assert!(toml::from_str::<RetentionRule>("repositories = 'a'").is_err());
        assert!(toml::from_str::<RetentionRule>("repositories = 'a'\nkeep = 3").is_err());
    }

    #[test]
    fn a_tag_is_kept_by_number_or_by_age() {
        let rule: RetentionRule = "a=2,1d".parse().unwrap();
        for (newer, pushed, expected) in [(0, 0, true), (1, 0, true), (2, 0, false), (9, DAY, true)] {
            assert_eq!(rule.keeps(newer, pushed, 2 * DAY - 1), expected, "{newer} {pushed}");
        }
    }
}
