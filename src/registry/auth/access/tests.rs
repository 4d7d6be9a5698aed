//! Which request is which action: generated requests against a table of methods and endpoints, and the simple evaluator of rules.

use std::{collections::HashMap, io::Write};

use axum::{
    http::{Request, StatusCode},
    response::IntoResponse,
};
use proptest::{collection::vec, option, prelude::*, sample::select};

use super::*;
use crate::{
    access::{
        Actions, Scopes, User,
        tests::{GROUPS, PATTERNS, USERS, Written, is_like, reference, toml, written},
    },
    http::{IssuedToken, oidc::OidcLogin},
    registry::endpoint,
};

/// Some have the words of endpoints in them.
const NAMES: [&str; 9] = [
    "team/app",
    "team/app/deep",
    "team/blobs/app",
    "a",
    "a/manifests/b",
    "ipfs/bafy",
    "layer/bafk",
    "x/app",
    "tm/ap",
];
const METHODS: [&str; 6] = ["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"];
const DIGEST: &str = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

/// What a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Tag,
    Manifest,
    Blob,
    Tags,
    Referrers,
    Uploads,
    Upload,
}

const KINDS: [Kind; 7] =
    [Kind::Tag, Kind::Manifest, Kind::Blob, Kind::Tags, Kind::Referrers, Kind::Uploads, Kind::Upload];

impl Kind {
    fn path(self, name: &str) -> String {
        let end = match self {
            Self::Tag => "manifests/v1".into(),
            Self::Manifest => format!("manifests/{DIGEST}"),
            // As some clients encode it.
            Self::Blob => format!("blobs/{}", DIGEST.replace(':', "%3A")),
            Self::Tags => "tags/list".into(),
            Self::Referrers => format!("referrers/{DIGEST}"),
            Self::Uploads => format!("blobs/uploads/?mount={DIGEST}&from=x/app"),
            Self::Upload => "blobs/uploads/5e0c?state=1".into(),
        };
        format!("/v2/{name}/{end}")
    }

    /// The actions of which one is needed; an error is about the first.
    fn needed(self, method: &str) -> &'static [Action] {
        match (method, self) {
            (_, Self::Upload) => &[Action::Push, Action::Sign],
            ("GET" | "HEAD", _) => &[Action::Pull],
            ("DELETE", _) => &[Action::Delete],
            _ => &[Action::Push, Action::Sign],
        }
    }
}

/// Who sends a request.
#[derive(Clone, Debug)]
enum By {
    Anonymous,
    Certificate(&'static str),
    Oidc(&'static str, Vec<&'static str>),
    /// A token of this node for some repositories.
    Token(Vec<&'static str>, Vec<Action>),
}

fn by() -> impl Strategy<Value = By> {
    let user = || select(&USERS[..]);
    prop_oneof![
        Just(By::Anonymous),
        user().prop_map(By::Certificate),
        (user(), vec(select(&GROUPS[..]), 0..2)).prop_map(|(user, groups)| By::Oidc(user, groups)),
        (vec(select(&PATTERNS[..]), 1..3), vec(select(&Action::ALL[..]), 1..3))
            .prop_map(|(repositories, actions)| By::Token(repositories, actions)),
    ]
}

impl By {
    fn user(&self) -> User {
        match self {
            Self::Anonymous | Self::Token(..) => User::default(),
            Self::Certificate(name) => User::named(*name),
            Self::Oidc(name, groups) => {
                let groups = groups.iter().map(ToString::to_string).collect();
                User { name: Some(name.to_string()), groups }
            }
        }
    }

    fn identity(&self) -> Identity {
        match self {
            Self::Anonymous => Identity::Anonymous,
            Self::Certificate(name) => Identity::Certificate(name.to_string()),
            Self::Oidc(..) => Identity::Oidc(OidcLogin { user: self.user(), expires: u64::MAX }),
            Self::Token(repositories, actions) => Identity::Issued(Arc::new(IssuedToken {
                name: "token".into(),
                repositories: repositories.iter().map(|pattern| pattern.parse().unwrap()).collect(),
                actions: Actions::from(actions.clone()),
                created: 1,
                expires: None,
            })),
        }
    }
}

/// A scope that a token was requested for.
#[derive(Clone, Debug)]
struct Asked {
    name: &'static str,
    actions: Vec<&'static str>,
}

fn asked() -> impl Strategy<Value = Asked> {
    let actions = vec(select(&["pull", "push", "delete", "*"][..]), 1..3);
    (select(&NAMES[..]), actions).prop_map(|(name, actions)| Asked { name, actions })
}

/// The rules, and who asks with a token for what.
#[derive(Debug)]
struct World<'a> {
    rules: &'a [Written],
    members: &'a HashMap<&'static str, Vec<&'static str>>,
    by: &'a By,
    scopes: Option<&'a [Asked]>,
}

impl World<'_> {
    fn all_may(&self, action: Action, name: &str) -> bool {
        reference(self.rules, self.members, &User::default(), action, name)
    }

    fn user_may(&self, action: Action, name: &str) -> bool {
        match self.by {
            By::Token(repositories, actions) => {
                let has = actions.contains(&action) || actions.contains(&Action::Admin);
                has && repositories.iter().any(|pattern| is_like(pattern, name))
            }
            by => reference(self.rules, self.members, &by.user(), action, name),
        }
    }

    fn in_scope(&self, action: Action, name: &str) -> bool {
        let covers = |word: &&str| match *word {
            "*" => true,
            "push" => matches!(action, Action::Push | Action::Sign),
            word => word == action.as_str(),
        };
        self.scopes.is_none_or(|scopes| {
            scopes.iter().any(|scope| scope.name == name && scope.actions.iter().any(covers))
        })
    }

    fn may(&self, action: Action, name: &str) -> bool {
        let is_anonymous = matches!(self.by, By::Anonymous);
        self.all_may(action, name)
            || !is_anonymous && self.user_may(action, name) && self.in_scope(action, name)
    }

    /// The status of a refusal; none of what is allowed.
    fn refusal(&self, method: &str, kind: Kind, name: &str) -> Option<StatusCode> {
        let needed = kind.needed(method);
        if needed.iter().any(|action| self.may(*action, name)) {
            return None;
        }
        // A login, or a token for more, would help.
        let helps = matches!(self.by, By::Anonymous) || self.user_may(needed[0], name);
        Some(if helps { StatusCode::UNAUTHORIZED } else { StatusCode::FORBIDDEN })
    }
}

/// Access by these rules, with a user, so that a login is possible.
fn access(users: &Users, rules: &str) -> Access {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(rules.as_bytes()).unwrap();
    let rules = AccessRules::read(file.path(), None).unwrap();
    Access::new(Some(users.clone()), Pull::Everybody, None).with_rules(Some(rules))
}

fn refused(access: &Access, visitor: &Visitor, method: &str, path: &str) -> Option<StatusCode> {
    let request = Request::builder().method(method).uri(path).header("host", "localhost:5050");
    let request = request.body(()).unwrap().into_parts().0;
    let path = endpoint::decode(request.uri.path()).unwrap();
    let named = Endpoint::parse(&path).unwrap();
    let place = RegistryPlace::new("127.0.0.1:5050".parse().unwrap(), None);
    let checked = match is_read(&request.method) {
        true => access.check_read(visitor, Credentials::of(&request), &named),
        false => access.check_write(visitor, &place, &request, Some(&named)),
    };
    checked.err().map(|error| error.into_response().status())
}

/// Rules, groups, who asks with which scopes, and what.
type Case = (
    Vec<Written>,
    Vec<(&'static str, Vec<&'static str>)>,
    (By, Option<Vec<Asked>>),
    (&'static str, Kind, &'static str, &'static str),
);

#[test]
fn generated_requests_are_the_actions_that_a_simple_table_says() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("me:{}\n", bcrypt::hash("x", 4).unwrap())).unwrap();
    let users = Users::read(file.path()).unwrap();
    let config = ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let rules = vec(written(), 0..6);
    let members = vec((select(&GROUPS[..]), vec(select(&USERS[..]), 0..3)), 0..3);
    let asks = (by(), option::of(vec(asked(), 1..4)));
    let request = (select(&METHODS[..]), select(&KINDS[..]), select(&NAMES[..]), select(&NAMES[..]));
    // Each answer was there.
    let seen = std::cell::RefCell::new(HashMap::<Option<StatusCode>, usize>::new());
    let run = |(rules, members, (by, scopes), (method, kind, name, from)): Case| {
        let members: HashMap<_, _> = members.into_iter().collect();
        let access = access(&users, &toml(&rules, &members));
        let world = World { rules: &rules, members: &members, by: &by, scopes: scopes.as_deref() };
        let texts = scopes.iter().flatten();
        let texts: Vec<String> =
            texts.map(|Asked { name, actions }| format!("repository:{name}:{}", actions.join(","))).collect();
        let scopes = Scopes::parse(texts.iter().map(String::as_str));
        let visitor = match by {
            By::Anonymous => Visitor::default(),
            _ => Visitor::valid(by.identity(), scopes),
        };
        let expected = world.refusal(method, kind, name);
        *seen.borrow_mut().entry(expected).or_default() += 1;
        prop_assert_eq!(refused(&access, &visitor, method, &kind.path(name)), expected);
        // What it mounts comes from a repository that it may pull.
        prop_assert_eq!(access.may(&visitor, Action::Pull, from), world.may(Action::Pull, from));
        // The catalog is looked at entry by entry.
        prop_assert_eq!(refused(&access, &visitor, "GET", "/v2/_catalog"), None);
        Ok(())
    };
    runner.run(&(rules, members, asks, request), run).unwrap();
    let seen = seen.into_inner();
    for answer in [None, Some(StatusCode::UNAUTHORIZED), Some(StatusCode::FORBIDDEN)] {
        assert!(seen.get(&answer).is_some_and(|count| *count > 100), "{seen:?}");
    }
}
