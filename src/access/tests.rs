//! The evaluator against a simple one that walks the rules as they are written. `registry::auth` tests which request is which action
//! by the same.

use std::{collections::HashMap, time::Duration};

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;

pub const USERS: [&str; 4] = ["alice", "bob", "ci", "team:x"];
pub const GROUPS: [&str; 3] = ["dev", "ops", "empty"];
pub const PATTERNS: [&str; 10] =
    ["*", "team/*", "team/app", "*/app", "t*m/a*p", "ipfs/*", "layer/*", "**", "a*", "team/*/deep"];
const REPOSITORIES: [&str; 9] =
    ["team/app", "team/app/deep", "team", "a", "ipfs/bafy", "layer/bafk", "x/app", "team/", "tm/ap"];

/// A rule, as a person reads it.
#[derive(Clone, Debug)]
pub struct Written {
    users: Vec<&'static str>,
    groups: Vec<&'static str>,
    repositories: Vec<&'static str>,
    actions: Vec<Action>,
}

pub fn written() -> impl Strategy<Value = Written> {
    let users = [&USERS[..], &[ANONYMOUS, AUTHENTICATED]].concat();
    let parts = (
        vec(select(users), 0..3),
        vec(select(&GROUPS[..]), 0..2),
        vec(select(&PATTERNS[..]), 1..3),
        vec(select(&Action::ALL[..]), 1..3),
    );
    parts.prop_map(|(users, groups, repositories, actions)| Written { users, groups, repositories, actions })
}

pub fn toml(rules: &[Written], members: &HashMap<&str, Vec<&str>>) -> String {
    let mut text = String::from("[groups]\n");
    for (group, users) in members {
        text += &format!("{group} = {users:?}\n");
    }
    for Written { users, groups, repositories, actions } in rules {
        let actions: Vec<&str> = actions.iter().map(|action| action.as_str()).collect();
        text += &format!(
            "[[rule]]\nusers = {users:?}\ngroups = {groups:?}\nrepositories = {repositories:?}\nactions = {actions:?}\n"
        );
    }
    text
}

/// Compares letter by letter, with every length for each star.
pub fn is_like(pattern: &str, text: &str) -> bool {
    match pattern.chars().next() {
        None => text.is_empty(),
        Some('*') => (0..=text.len()).any(|taken| is_like(&pattern[1..], &text[taken..])),
        Some(letter) => text.starts_with(letter) && is_like(&pattern[1..], &text[1..]),
    }
}

pub fn reference(
    rules: &[Written],
    members: &HashMap<&str, Vec<&str>>,
    user: &User,
    action: Action,
    repository: &str,
) -> bool {
    rules.iter().any(|rule| {
        let is_about = |name: &str| match name {
            ANONYMOUS => true,
            AUTHENTICATED => user.name.is_some(),
            name => user.name.as_deref() == Some(name),
        };
        let is_in = |group: &&str| {
            let is_listed = members.get(*group).is_some_and(|all| all.iter().any(|name| is_about(name)));
            is_listed || user.name.is_some() && user.groups.iter().any(|own| own == *group)
        };
        let is_theirs = rule.users.iter().any(|name| is_about(name)) || rule.groups.iter().any(is_in);
        let has = rule.actions.contains(&action) || rule.actions.contains(&Action::Admin);
        is_theirs && has && rule.repositories.iter().any(|pattern| is_like(pattern, repository))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn generated_access_rules_are_evaluated_as_by_a_simple_reference_evaluator(
        rules in vec(written(), 0..6),
        members in vec((select(&GROUPS[..]), vec(select(&USERS[..]), 0..3)), 0..3),
        name in proptest::option::of(select(&USERS[..])),
        groups in vec(select(&GROUPS[..]), 0..2),
        action in select(&Action::ALL[..]),
        repository in select(&REPOSITORIES[..]),
    ) {
        let members: HashMap<&str, Vec<&str>> = members.into_iter().collect();
        let parsed: Rules = toml(&rules, &members).parse().unwrap();
        let groups = groups.into_iter().map(String::from).collect();
        let user = User { name: name.map(String::from), groups };
        let expected = reference(&rules, &members, &user, action, repository);
        prop_assert_eq!(parsed.allows(&user, action, repository), expected);
        let everybody = reference(&rules, &members, &User::default(), Action::Pull, repository);
        prop_assert_eq!(parsed.everybody_pulls(repository), everybody);
        if parsed.allows_everywhere(&user, action) {
            prop_assert!(parsed.allows(&user, action, repository));
        }
    }

    #[test]
    fn generated_patterns_match_as_a_simple_matcher_does(pattern in "[ab*/]{1,8}", text in "[ab/]{0,8}") {
        prop_assert_eq!(pattern.parse::<Pattern>().unwrap().matches(&text), is_like(&pattern, &text));
    }
}

#[test]
fn a_typo_in_the_file_of_rules_names_the_line_and_the_nearest_key() {
    let refused = |text: &str| text.parse::<Rules>().unwrap_err();
    let rule = "[[rule]]\nusers = ['alice']\nrepositories = ['team/*']\n";
    let error = refused("\n[[rule]]\nuser = ['alice']\n");
    assert_eq!((error.line, error.nearest.as_deref()), (3, Some("users")), "{error}");
    let error = refused(&format!("{rule}actions = ['pul']\n"));
    assert_eq!((error.line, error.nearest.as_deref()), (4, Some("pull")), "{error}");
    let error = refused("[[rules]]\n");
    assert_eq!((error.line, error.nearest.as_deref()), (1, Some("rule")), "{error}");
    let error = refused("[limits]\nper-user = 'fast'\n");
    assert!(error.line == 2 && error.why.contains("100/1s"), "{error}");
    let error = refused("[[rule]]\nusers = [\n");
    assert!(error.line >= 2 && error.nearest.is_none(), "{error}");
    let error = refused(rule);
    assert!(error.why.contains("missing field `actions`"), "{error}");
}

#[test]
fn immutable_tags_are_told_by_the_patterns_of_repository_and_tag() {
    let rules: Rules =
        "[[immutable]]\nrepositories = ['release/*']\ntags = ['v*', 'stable']\n".parse().unwrap();
    for (repository, tag, expected) in [
        ("release/app", "v1", true),
        ("release/app", "stable", true),
        ("release/app", "dev", false),
        ("x", "v1", false),
    ] {
        assert_eq!(rules.is_immutable(repository, tag), expected, "{repository}:{tag}");
    }
    assert!(rules.has_immutable("release/app") && !rules.has_immutable("x"));
}

#[test]
fn token_scopes_cover_the_named_actions_of_the_named_repositories() {
    let scopes = Scopes::parse(["repository:a/b:pull,push repository:c:pull", "repository:d:*"].into_iter());
    for (action, repository, expected) in [
        (Action::Pull, "a/b", true),
        (Action::Push, "a/b", true),
        (Action::Sign, "a/b", true),
        (Action::Delete, "a/b", false),
        (Action::Pull, "c", true),
        (Action::Push, "c", false),
        (Action::Delete, "d", true),
        (Action::Pull, "e", false),
    ] {
        assert_eq!(scopes.allows(action, repository), expected, "{action} {repository}");
    }
    assert!(Scopes::parse([].into_iter()).allows(Action::Admin, "any"));
    assert!(!Scopes::parse(["nonsense"].into_iter()).allows(Action::Pull, "a"));
    assert!(!Scopes::parse(["registry:catalog:*"].into_iter()).allows(Action::Pull, "catalog"));
}

#[test]
fn a_rate_limit_allows_a_burst_and_then_its_rate_in_a_bounded_table() {
    let (buckets, rate, now) = (Buckets::default(), "2/1s".parse().unwrap(), std::time::Instant::now());
    assert!(buckets.take(&0, rate, now).is_ok() && buckets.take(&0, rate, now).is_ok());
    let wait = buckets.take(&0, rate, now).unwrap_err();
    assert_eq!(wait, Duration::from_millis(500));
    assert!(buckets.take(&1, rate, now).is_ok(), "another owner");
    assert!(buckets.take(&0, rate, now + wait).is_ok());
    assert!(buckets.take(&0, rate, now + wait).is_err());
    for owner in 0..20_000 {
        let _ = buckets.take(&owner, rate, now);
    }
    assert!(buckets.len() <= 10_000);
    for text in ["", "0/1s", "5", "5/0s", "x/1s", "5/x"] {
        assert!(text.parse::<Rate>().is_err(), "{text}");
    }
}

#[test]
fn claims_of_an_oidc_token_become_a_user_and_groups_if_all_conditions_hold() {
    let text = "issuer = 'https://i.example'\naudience = 'ocipfs'\nuser = 'ci:{repository}'\ngroups = ['ci']\n\
                groups-claim = 'roles'\n[claims]\nref = 'refs/heads/*'\nprotected = 'true'\n";
    let oidc: Oidc = toml::from_str(text).unwrap();
    let claims = |json: &str| serde_json::from_str(json).unwrap();
    let good = claims(r#"{"repository":"org/app","ref":"refs/heads/main","protected":true,"roles":["dev"]}"#);
    let user = oidc.user_of(&good).unwrap();
    assert_eq!(user, User { name: Some("ci:org/app".into()), groups: vec!["ci".into(), "dev".into()] });
    for (json, told) in [
        (r#"{"repository":"org/app","ref":"refs/tags/v1","protected":true}"#, "\"ref\" is"),
        (r#"{"repository":"org/app","ref":"refs/heads/main"}"#, "no claim \"protected\""),
        (r#"{"ref":"refs/heads/main","protected":"true"}"#, "no claim \"repository\""),
    ] {
        assert!(oidc.user_of(&claims(json)).unwrap_err().contains(told), "{json}");
    }
    let plain: Oidc = toml::from_str("issuer = 'x'\naudience = 'y'").unwrap();
    assert!(plain.user_of(&claims(r#"{"sub":"anonymous"}"#)).is_err());
    assert_eq!(plain.user_of(&claims(r#"{"sub":"me"}"#)).unwrap(), User::named("me"));
}
