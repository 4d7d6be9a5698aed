//! What a command did that the audit log and webhooks tell of: tokens that it made or revoked, images that it brought or removed.

use super::{
    BundleReply, ExportedImage, Reply, RepoCollected, RepoReply, RepoRequest, Request, TokenReply,
    instance::RepoRef,
};
use crate::http::events::{Action, Event};

/// What stands for the address of a command, which comes over the control socket.
pub const CLIENT: &str = "control-socket";

/// What a command is about to remove: a repository, or an image of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    repository: String,
    /// A tag or a digest.
    reference: Option<String>,
}

/// Returns what a request is to remove; `registry` may stand in front of a name.
pub fn removal(request: &Request, registry: &str) -> Option<Removal> {
    let Request::Repo(RepoRequest::Rm { what }) = request else { return None };
    let (repository, reference) = split(what, registry);
    Some(Removal { repository, reference })
}

/// Returns the events of a command that was answered so.
pub fn events(removal: Option<Removal>, reply: &Reply, registry: &str) -> Vec<Event> {
    match (reply, removal) {
        (Reply::Token(TokenReply::Created(made)), _) => vec![of_token(Action::TokenCreate, &made.of.name)],
        (Reply::Token(TokenReply::Revoked { name }), _) => vec![of_token(Action::TokenRevoke, name)],
        (Reply::Repo(RepoReply::Collected(collected)), Some(removal)) => vec![removed(removal, collected)],
        (Reply::Bundle(BundleReply::Imported(imported)), _) => {
            imported.images.iter().map(|image| pushed(image, registry)).collect()
        }
        _ => Vec::new(),
    }
}

fn of_token(action: Action, name: &str) -> Event {
    Event { token: Some(name.into()), ..Event::now(action) }
}

fn removed(Removal { repository, reference }: Removal, collected: &RepoCollected) -> Event {
    let of_tag = || {
        let tag =
            collected.removed.iter().find(|removed| removed.tag.is_some() && removed.tag == reference)?;
        Some(tag.digest.clone())
    };
    let digest = reference.clone().filter(|reference| reference.contains(':')).or_else(of_tag);
    Event { repository: Some(repository), reference, digest, ..Event::now(Action::Delete) }
}

/// An image of a bundle is pushed by its import.
fn pushed(image: &ExportedImage, registry: &str) -> Event {
    let (repository, reference) = split(&image.reference, registry);
    let digest = Some(image.digest.clone()).filter(|digest| !digest.is_empty());
    Event { repository: Some(repository), reference, digest, ..Event::now(Action::Push) }
}

/// Returns a repository, and the tag or the digest, of what a command names.
fn split(what: &str, registry: &str) -> (String, Option<String>) {
    let RepoRef { name, tag, digest } = RepoRef::split(what, registry);
    (name.into(), digest.or(tag).map(String::from))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::RemovedInfo;

    const REGISTRY: &str = "localhost:5050";

    fn rm(what: &str) -> Option<Removal> {
        removal(&Request::Repo(RepoRequest::Rm { what: what.into() }), REGISTRY)
    }

    #[test]
    fn a_removed_repository_tag_or_manifest_is_a_deletion_with_its_digest() {
        let tag = RemovedInfo {
            repository: "team/app".into(),
            kind: "tag".into(),
            tag: Some("1".into()),
            digest: "sha256:00".into(),
            size: 1,
            freed: true,
        };
        let reply =
            Reply::Repo(RepoReply::Collected(RepoCollected { removed: vec![tag], bytes: 1, dry: false }));
        for (what, reference, digest) in [
            ("team/app", None, None),
            ("localhost:5050/team/app", None, None),
            ("team/app:1", Some("1"), Some("sha256:00")),
            ("localhost:5050/team/app:1", Some("1"), Some("sha256:00")),
            ("team/app@sha256:01", Some("sha256:01"), Some("sha256:01")),
        ] {
            let told = events(rm(what), &reply, REGISTRY);
            let [event] = told.as_slice() else { panic!("{what}: {told:?}") };
            assert_eq!(
                (event.action, event.repository.as_deref()),
                (Action::Delete, Some("team/app")),
                "{what}"
            );
            assert_eq!((event.reference.as_deref(), event.digest.as_deref()), (reference, digest), "{what}");
        }
        // What ages is collected by the node, too.
        assert!(events(None, &reply, REGISTRY).is_empty());
        assert_eq!(removal(&Request::Status, REGISTRY), None);
    }

    #[test]
    fn a_token_that_is_revoked_is_told_by_its_name() {
        let told = events(None, &Reply::Token(TokenReply::Revoked { name: "ci".into() }), REGISTRY);
        assert_eq!((told[0].action, told[0].token.as_deref()), (Action::TokenRevoke, Some("ci")));
        assert!(events(None, &Reply::Token(TokenReply::Listed { tokens: vec![] }), REGISTRY).is_empty());
    }
}
