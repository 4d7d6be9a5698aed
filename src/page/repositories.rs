//! Repositories by name, a page at a time: those that the visitor may pull from.

use axum::extract::Query;
use ocipfs_oci::Name;
use serde::{Deserialize, Serialize};

use super::{Answer, Extension, Refusal, Shown, State, answer};
use crate::control::{Failure, RepoInfo};

/// Repositories of one answer.
const PAGE_SIZE: usize = 50;
/// Names that are read at a time.
const BATCH: usize = 500;
/// Names that one request looks at: of more, the visitor asks for the next page.
const MAX_LOOKED_AT: usize = 20_000;

#[derive(Debug, Deserialize)]
pub struct RepositoryQuery {
    #[serde(default)]
    last: String,
    /// A part of the name.
    #[serde(default)]
    filter: String,
}

#[derive(Debug, Serialize)]
pub struct Listed {
    repositories: Vec<Repository>,
    /// The name after which there may be more.
    next: Option<Name>,
}

#[derive(Debug, Serialize)]
struct Repository {
    name: Name,
    /// The repository in numbers; none for one of a followed name only.
    pushed: Option<RepoInfo>,
}

pub async fn list(
    (State(page), Extension(visitor)): Shown,
    Query(RepositoryQuery { mut last, filter }): Query<RepositoryQuery>,
) -> Answer<Listed> {
    let instance = page.instance()?;
    let (mut found, mut looked_at): (Vec<Name>, _) = (Vec::new(), 0);
    let next = loop {
        let read = instance.resolver().repository_names(&last, BATCH).await.map_err(Failure::new)?;
        let is_end = read.len() < BATCH;
        looked_at += read.len();
        last = read.last().map(ToString::to_string).unwrap_or(last);
        let is_shown = |name: &Name| name.as_str().contains(&filter) && visitor.may_pull(name.as_str());
        found.extend(read.into_iter().filter(is_shown));
        if found.len() > PAGE_SIZE {
            found.truncate(PAGE_SIZE);
            break found.last().cloned();
        }
        if is_end {
            break None;
        }
        if looked_at >= MAX_LOOKED_AT {
            break last.parse().ok();
        }
    };
    // A visitor who could log in learns so before an empty list is taken for all there is.
    if found.is_empty() && next.is_none() && visitor.may_log_in && !visitor.may_pull("") {
        return Err(Refusal::login());
    }
    let numbers = instance.repositories_in_numbers(found.clone()).await?;
    let repositories = found.into_iter().zip(numbers).map(|(name, pushed)| Repository { name, pushed });
    answer(Listed { repositories: repositories.collect(), next })
}
