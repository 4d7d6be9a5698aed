//! Handler of requests about pushed repositories: lists, deletions and garbage collection.

use ocipfs_oci::{Digest, Name, Reference, Tag};

use super::{Instance, reference::RepoRef};
use crate::{
    content::{StoreError, now},
    control::{
        Failure, RemovedInfo, RepoCollected, RepoContents, RepoInfo, RepoManifest, RepoReply, RepoRequest,
        RepoTag, failure::content_failure,
    },
    images::repository::{Pushed, Removed, RemovedKind, Repositories, Summary, Sweep},
};

/// Rows that are read at a time, and manifests that are removed at a time.
const PAGE_SIZE: usize = 500;
/// Tags and manifests that are listed of a repository.
const MAX_LISTED: usize = 10_000;

impl Instance {
    pub(super) async fn repo(&self, request: RepoRequest) -> Result<RepoReply, Failure> {
        Ok(match request {
            RepoRequest::Ls => RepoReply::Listed { repositories: self.on_repositories(list).await? },
            RepoRequest::Inspect { name } => RepoReply::Inspected(Box::new(self.repo_inspect(&name).await?)),
            RepoRequest::Rm { what } => RepoReply::Collected(self.repo_rm(&what).await?),
            RepoRequest::Collect { name, untagged, dry } => {
                RepoReply::Collected(self.repo_collect(name, untagged, dry).await?)
            }
        })
    }

    /// Returns these repositories in numbers; none for what was not pushed here.
    pub(crate) async fn repositories_in_numbers(
        &self,
        names: Vec<Name>,
    ) -> Result<Vec<Option<RepoInfo>>, Failure> {
        self.on_repositories(move |all| {
            let one =
                |name: &Name| Ok(if all.has(name)? { Some(info(name, all.summary(name)?)) } else { None });
            names.iter().map(one).collect()
        })
        .await
    }

    async fn on_repositories<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Repositories) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Failure> {
        let repositories = self.resolver().repositories().clone();
        let done = self.content().store().run(move |_| work(&repositories)).await;
        done.map_err(|error| content_failure(error.into()))
    }

    async fn repo_inspect(&self, name: &str) -> Result<RepoContents, Failure> {
        let name = parse_name(name)?;
        let of = name.clone();
        let contents = self.on_repositories(move |all| all.has(&of)?.then(|| inspect(all, &of)).transpose());
        let mut contents = contents.await?.ok_or_else(|| unknown(&name))?;
        let digest = |manifest: &RepoManifest| Some((name.clone(), manifest.digest.parse().ok()?));
        let withheld = self.withheld(contents.manifest_list.iter().filter_map(digest).collect()).await?;
        for (manifest, why) in contents.manifest_list.iter_mut().zip(withheld) {
            manifest.withheld = why;
        }
        Ok(contents)
    }

    async fn repo_rm(&self, what: &str) -> Result<RepoCollected, Failure> {
        let (name, reference) = self.parse_target(what)?;
        let of = name.clone();
        let removed = self.on_repositories(move |all| remove(all, &of, reference.as_ref())).await?;
        let removed = removed.ok_or_else(|| unknown(&what))?;
        self.content().collect_released().await.map_err(content_failure)?;
        Ok(collected(&removed, false))
    }

    async fn repo_collect(
        &self,
        name: Option<String>,
        untagged: bool,
        dry: bool,
    ) -> Result<RepoCollected, Failure> {
        let only = name.as_deref().map(parse_name).transpose()?;
        if let Some(name) = &only {
            let of = name.clone();
            if !self.on_repositories(move |all| all.has_any(&of)).await? {
                return Err(unknown(&name.to_string()));
            }
        }
        let sweep = if untagged { Sweep::untagged } else { Sweep::due };
        let removed = self.sweep(sweep(&self.0.policy, now()).only(only), dry).await?;
        if !dry {
            self.content().collect_released().await.map_err(content_failure)?;
        }
        Ok(collected(&removed, dry))
    }

    /// Removes from the repositories what is due, or only tells it.
    pub(super) async fn sweep_due(&self, dry: bool) -> Result<Vec<Removed>, Failure> {
        self.sweep(Sweep::due(&self.0.policy, now()), dry).await
    }

    async fn sweep(&self, sweep: Sweep, dry: bool) -> Result<Vec<Removed>, Failure> {
        let work = move |all: &Repositories| {
            let mut removed = Vec::new();
            all.sweep(&sweep, dry, |one| removed.push(one))?;
            Ok(removed)
        };
        self.on_repositories(work).await
    }

    /// A repository, and perhaps a tag or a manifest of it; the registry in front may be left out.
    fn parse_target(&self, what: &str) -> Result<(Name, Option<Reference>), Failure> {
        let RepoRef { name, tag, digest } = RepoRef::split(what, &self.0.registry);
        let tag = tag.map(|tag| tag.parse().map(Reference::Tag).map_err(Failure::new)).transpose()?;
        let digest =
            digest.map(|digest| digest.parse().map(Reference::Digest).map_err(Failure::new)).transpose()?;
        Ok((parse_name(name)?, digest.or(tag)))
    }
}

fn parse_name(text: &str) -> Result<Name, Failure> {
    text.parse().map_err(|e| {
        Failure::new(format!("invalid repository name {text:?}: {e}"))
            .hint("`ocipfs repo ls` lists the repositories")
    })
}

fn unknown(what: &impl ToString) -> Failure {
    let message = format!("{} not found among the pushed repositories", what.to_string());
    Failure::new(message).hint(
        "`ocipfs repo ls` lists the repositories, `ocipfs repo inspect NAME` the tags and manifests of one",
    )
}

fn info(name: &Name, summary: Summary) -> RepoInfo {
    let Summary { tags, manifests, blobs, bytes, last_push } = summary;
    RepoInfo { name: name.to_string(), tags, manifests, blobs, bytes, last_push }
}

fn list(all: &Repositories) -> Result<Vec<RepoInfo>, StoreError> {
    let (mut listed, mut last) = (Vec::new(), String::new());
    loop {
        let page = all.names(&last, PAGE_SIZE)?;
        let Some(end) = page.last() else { return Ok(listed) };
        last = end.to_string();
        for name in &page {
            listed.push(info(name, all.summary(name)?));
        }
    }
}

fn inspect(all: &Repositories, name: &Name) -> Result<RepoContents, StoreError> {
    let tag = |(tag, digest): (Tag, Digest)| {
        let pushed = all.tagged_at(name, &tag, &digest)?.unwrap_or_default();
        Ok(RepoTag { tag: tag.to_string(), digest: digest.to_string(), pushed })
    };
    let manifest = |pushed: Pushed| {
        Ok(RepoManifest {
            untagged_since: all.untagged_since(name, &pushed.blob.digest)?,
            digest: pushed.blob.digest.to_string(),
            media_type: pushed.media_type.to_string(),
            size: pushed.blob.size,
            pushed: pushed.at,
            subject: pushed.subject.map(|subject| subject.to_string()),
            withheld: None,
        })
    };
    Ok(RepoContents {
        info: info(name, all.summary(name)?),
        tag_list: all.tags(name, "", MAX_LISTED)?.into_iter().map(tag).collect::<Result<_, StoreError>>()?,
        manifest_list: all
            .manifests(name, "", MAX_LISTED)?
            .into_iter()
            .map(manifest)
            .collect::<Result<_, StoreError>>()?,
    })
}

/// Removes the named content. Returns none if it does not exist.
fn remove(
    all: &Repositories,
    name: &Name,
    reference: Option<&Reference>,
) -> Result<Option<Vec<Removed>>, StoreError> {
    let (of, what) = (name.clone(), reference.cloned());
    if what.is_none() && !all.has_any(name)? {
        return Ok(None);
    }
    let mut removed = Vec::new();
    loop {
        let (of, what) = (of.clone(), what.clone());
        let (goes_on, gone) = all.edit(move |edit| {
            let goes_on = match &what {
                None => edit.remove_some(&of, PAGE_SIZE)?,
                Some(Reference::Tag(tag)) => edit.remove_image(&of, tag)?,
                Some(Reference::Digest(digest)) => edit.remove_manifest(&of, digest)?,
            };
            Ok((goes_on, edit.removed_so_far()))
        })?;
        removed.extend(gone);
        if reference.is_some() {
            return Ok(goes_on.then_some(removed));
        }
        if !goes_on {
            return Ok(Some(removed));
        }
    }
}

fn collected(removed: &[Removed], dry: bool) -> RepoCollected {
    let bytes = removed.iter().map(Removed::freed_bytes).sum();
    RepoCollected { removed: removed.iter().map(removed_info).collect(), bytes, dry }
}

fn removed_info(removed: &Removed) -> RemovedInfo {
    let (kind, tag) = match &removed.kind {
        RemovedKind::Tag(tag) => ("tag", Some(tag.clone())),
        RemovedKind::Manifest => ("manifest", None),
        RemovedKind::Blob => ("blob", None),
    };
    RemovedInfo {
        repository: removed.repository.to_string(),
        kind: kind.into(),
        tag,
        digest: removed.digest.to_string(),
        size: removed.size,
        freed: removed.freed,
    }
}
