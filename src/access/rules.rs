//! The evaluator: rules add up, and what no rule allows is refused.

use std::collections::{BTreeSet, HashMap};

use super::{
    Action, Actions, Oidc, Pattern, Rate, User,
    user::{ANONYMOUS, AUTHENTICATED},
};

/// Some actions on the repositories of some patterns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// The repositories.
    pub repositories: Vec<Pattern>,
    /// What may be done.
    pub actions: Actions,
}

impl Grant {
    /// Whether it allows an action.
    pub fn allows(&self, action: Action, repository: &str) -> bool {
        self.actions.has(action) && self.repositories.iter().any(|pattern| pattern.matches(repository))
    }

    fn allows_everywhere(&self, action: Action) -> bool {
        self.actions.has(action) && self.repositories.iter().any(Pattern::is_everything)
    }
}

/// Whom a rule is about, and what it allows them.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub users: Vec<String>,
    pub groups: Vec<String>,
    pub grant: Grant,
}

/// Tags that are not moved once they are pushed.
#[derive(Clone, Debug)]
pub(super) struct Immutable {
    pub repositories: Vec<Pattern>,
    pub tags: Vec<Pattern>,
}

/// The rules of a node, by whom they are about.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    everybody: Vec<Grant>,
    authenticated: Vec<Grant>,
    users: HashMap<String, Vec<Grant>>,
    groups: HashMap<String, Vec<Grant>>,
    immutable: Vec<Immutable>,
    /// How many requests a user may send.
    pub per_user: Option<Rate>,
    /// How many requests an address may send.
    pub per_address: Option<Rate>,
    /// Issuers whose tokens stand for users.
    pub oidc: Vec<Oidc>,
}

impl Rules {
    /// Sorts rules by whom they are about; `groups` are the members of each group.
    pub(super) fn new(rules: Vec<Rule>, members: &HashMap<String, Vec<String>>) -> Self {
        let mut all = Self::default();
        for Rule { users, groups, grant } in rules {
            let by_group = groups.iter().filter_map(|group| members.get(group)).flatten();
            let named: BTreeSet<&String> = users.iter().chain(by_group).collect();
            for user in named {
                match user.as_str() {
                    ANONYMOUS => all.everybody.push(grant.clone()),
                    AUTHENTICATED => all.authenticated.push(grant.clone()),
                    _ => all.users.entry(user.clone()).or_default().push(grant.clone()),
                }
            }
            for group in groups {
                all.groups.entry(group).or_default().push(grant.clone());
            }
        }
        all
    }

    /// Adds what the file says beside rules; the rates are those of a user and of an address.
    pub(super) fn with(
        self,
        immutable: Vec<Immutable>,
        [per_user, per_address]: [Option<Rate>; 2],
        oidc: Vec<Oidc>,
    ) -> Self {
        Self { immutable, per_user, per_address, oidc, ..self }
    }

    /// Whether a user may do something to a repository.
    pub fn allows(&self, user: &User, action: Action, repository: &str) -> bool {
        self.any(user, |grant| grant.allows(action, repository))
    }

    /// Whether a user may do something to every repository, without a look at each.
    pub fn allows_everywhere(&self, user: &User, action: Action) -> bool {
        self.any(user, |grant| grant.allows_everywhere(action))
    }

    /// Whether clients without a login may pull from a repository: only then peers of a public network may.
    pub fn everybody_pulls(&self, repository: &str) -> bool {
        self.everybody.iter().any(|grant| grant.allows(Action::Pull, repository))
    }

    /// Whether clients without a login may pull everything.
    pub fn hides_nothing(&self) -> bool {
        self.everybody.iter().any(|grant| grant.allows_everywhere(Action::Pull))
    }

    /// Whether a tag stays as it was pushed.
    pub fn is_immutable(&self, repository: &str, tag: &str) -> bool {
        let matches = |patterns: &[Pattern], text: &str| patterns.iter().any(|pattern| pattern.matches(text));
        self.immutable.iter().any(|rule| matches(&rule.repositories, repository) && matches(&rule.tags, tag))
    }

    /// Whether any tag of a repository stays as it was pushed.
    pub fn has_immutable(&self, repository: &str) -> bool {
        self.immutable.iter().any(|rule| rule.repositories.iter().any(|pattern| pattern.matches(repository)))
    }

    /// The names of users that rules are about, without those that stand for many.
    pub fn named_users(&self) -> impl Iterator<Item = &str> {
        self.users.keys().map(String::as_str)
    }

    fn any(&self, user: &User, allows: impl Fn(&Grant) -> bool) -> bool {
        let any = |grants: Option<&Vec<Grant>>| grants.is_some_and(|grants| grants.iter().any(&allows));
        if any(Some(&self.everybody)) {
            return true;
        }
        let Some(name) = &user.name else { return false };
        any(Some(&self.authenticated))
            || any(self.users.get(name))
            || user.groups.iter().any(|group| any(self.groups.get(group)))
    }
}
