//! Refuses content that is not signed as the signature policies say.

use axum::http::request::Parts;

use super::{
    Registry,
    auth::{Credentials, Visitor},
    error::{ApiError, ResourceKind},
};
use crate::{
    names::{Asked, NameKind},
    signatures::{Verdict, Withheld},
};

/// A client that reads from a registry.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    pub registry: &'a Registry,
    pub visitor: &'a Visitor,
    /// What it sends: where it is, and what it shows of itself.
    pub request: &'a Parts,
    /// Whether only the head of the answer is sent.
    pub head: bool,
}

impl Reader<'_> {
    /// Refuses what is unsigned to those who may not sign it. A client that may push it learns that it is here, and gets none of it:
    /// clients ask before they push.
    pub async fn check(&self, kind: &NameKind, asked: Asked<'_>) -> Result<(), ApiError> {
        let Self { registry, visitor, request, head } = self;
        let name = kind.name().as_str();
        if registry.resolver.policies().of(name).is_none() || registry.access.signs(visitor, name) {
            return Ok(());
        }
        let is_local = || registry.place.local(request).is_ok();
        if *head && registry.access.knows_unsigned(visitor, name, is_local) {
            return Ok(());
        }
        let verdict = kind.verdict(&registry.resolver, asked).await;
        let resource = match asked {
            Asked::Manifest(_) => ResourceKind::Manifest,
            Asked::Blob(_) => ResourceKind::Blob,
        };
        match verdict.map_err(|error| ApiError::names(error, resource))? {
            Verdict::Passed => Ok(()),
            // A login may be of a user who gets it, and some clients send none before they are asked for it.
            Verdict::Withheld(why) if registry.access.may_log_in(visitor, Credentials::of(request)) => {
                let refusal = registry.access.unauthorized(Credentials::of(request), None);
                Err(refusal.with_message(told(asked, &why)))
            }
            Verdict::Withheld(why) => Err(ApiError::denied(told(asked, &why))),
        }
    }
}

fn told(asked: Asked<'_>, why: &Withheld) -> String {
    let what = match asked {
        Asked::Manifest(document) => format!("manifest {}", document.digest),
        Asked::Blob(digest) => format!("blob {digest}: no manifest that is signed references it"),
    };
    format!(
        "{what} is not served: {why}; hint: a user with the action `sign` adds the signature, with `cosign sign --key` or `notation sign`"
    )
}

/// Refuses blocks of a name that has to be signed: no signature is about a block.
pub fn check_blocks(registry: &Registry, visitor: &Visitor, name: &str) -> Result<(), ApiError> {
    if registry.resolver.policies().of(name).is_none() || registry.access.signs(visitor, name) {
        return Ok(());
    }
    Err(ApiError::denied(format!(
        "{name} is not served: the signature policies are about this name, and no signature is about a block; pull the image through the registry"
    )))
}
