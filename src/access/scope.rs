//! Scopes of tokens: <https://distribution.github.io/distribution/spec/auth/scope/>.

use super::{Action, Actions};

/// Scopes that one request for a token may name: a build mounts from some dozens of repositories.
const MAX_SCOPES: usize = 100;

/// Actions on one repository that a token is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The repository.
    pub repository: String,
    /// The actions.
    pub actions: Actions,
}

/// What a token is for. One that was requested without scopes is for all that its user may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scopes(Option<Vec<Scope>>);

impl Scopes {
    /// Reads the scopes of a request; several may stand in one text. What is not understood grants nothing.
    pub fn parse<'a>(texts: impl Iterator<Item = &'a str>) -> Self {
        let mut texts = texts.flat_map(|text| text.split(' ')).filter(|text| !text.is_empty()).peekable();
        if texts.peek().is_none() {
            return Self(None);
        }
        Self(Some(texts.take(MAX_SCOPES).filter_map(parse).collect()))
    }

    /// Whether the token is for this.
    pub fn allows(&self, action: Action, repository: &str) -> bool {
        let Some(scopes) = &self.0 else { return true };
        scopes.iter().any(|scope| scope.repository == repository && covers(scope.actions, action))
    }
}

/// Whether actions that clients know cover one of ours: they push signatures as they push images, and delete as `*`.
fn covers(actions: Actions, action: Action) -> bool {
    actions.has(action) || action == Action::Sign && actions.has(Action::Push)
}

/// Reads `repository:<name>:<actions>`; the name may hold a colon of a port.
fn parse(text: &str) -> Option<Scope> {
    let (kind, rest) = text.split_once(':')?;
    let (repository, actions) = rest.rsplit_once(':')?;
    if kind.split('(').next() != Some("repository") {
        return None;
    }
    let actions: Actions = match actions.split(',').any(|action| action == "*") {
        true => Actions::EVERY,
        false => actions.split(',').filter_map(|action| action.parse::<Action>().ok()).collect(),
    };
    Some(Scope { repository: repository.into(), actions })
}
