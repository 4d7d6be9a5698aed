//! The names that an instance follows, and what of them it serves.

use ocipfs_node::IpnsName;

use crate::control::{
    Failure, FollowedName, Instance, Reply,
    instance::Notes,
    message::{FollowedRepository, ServedRoot},
};

impl Instance {
    pub(super) async fn name_follow(&self, text: &str) -> Result<Reply, Failure> {
        let name = parse_name(text)?;
        let changed = self.follow(name).await?;
        Ok(Reply::Followed { name: name.to_string(), changed, root: None })
    }

    /// Follows a name, unless it is followed, and replies once its newest known root is complete.
    pub(super) async fn name_follow_and_wait(&self, text: &str, notes: &Notes) -> Result<Reply, Failure> {
        let name = parse_name(text)?;
        let changed = match self.resolver().followed().names().contains(&name) {
            true => false,
            false => self.follow(name).await?,
        };
        let root = Some(self.wait_until_complete(name, notes).await?.to_string());
        Ok(Reply::Followed { name: name.to_string(), changed, root })
    }

    async fn follow(&self, name: IpnsName) -> Result<bool, Failure> {
        let node = self.content().node();
        let changed = node.follow_persistently(name).await.map_err(Failure::new)?;
        self.resolver().followed().refresh(node).await.map_err(Failure::new)?;
        Ok(changed)
    }

    pub(super) async fn name_unfollow(&self, text: &str) -> Result<Reply, Failure> {
        let (node, name) = (self.content().node(), parse_name(text)?);
        let followed = self.resolver().followed();
        if followed.is_configured(&name) {
            let failure = Failure::new(format!("{name} is followed by configuration"));
            return Err(failure.hint("remove it from --follow, OCIPFS_FOLLOW or the settings file"));
        }
        let changed = node.unfollow(name).await.map_err(Failure::new)?;
        followed.refresh(node).await.map_err(Failure::new)?;
        match changed {
            true => Ok(Reply::Followed { name: name.to_string(), changed, root: None }),
            false => Err(Failure::new(format!("{name} is not followed"))
                .hint("`ocipfs status` lists the names that are followed")),
        }
    }

    /// Returns the followed names and their state.
    pub(in crate::control::instance) async fn followed_names(&self) -> Result<Vec<FollowedName>, Failure> {
        let mut all = Vec::new();
        for name in self.resolver().followed().names() {
            all.push(self.followed_name(name).await?);
        }
        Ok(all)
    }

    async fn followed_name(&self, name: IpnsName) -> Result<FollowedName, Failure> {
        let summary =
            self.resolver().followed().summary(self.resolver(), &name).await.map_err(Failure::new)?;
        let head = self.content().node().followed_record(&name);
        let heard = head.as_ref().map(|head| head.sequence);
        // Of a root that was only just heard of, what is missing is not known yet.
        let fetching = summary.fetching.filter(|fetching| Some(fetching.sequence) == heard);
        let missing = fetching.as_ref().map(|fetching| fetching.missing).unwrap_or_default();
        let served = summary.served.map(|root| ServedRoot {
            root: root.directory.to_string(),
            sequence: root.sequence,
            since: root.since,
        });
        let text = |tags: Vec<ocipfs_oci::Tag>| tags.iter().map(ToString::to_string).collect();
        let repositories = summary.repositories.into_iter().map(|repository| FollowedRepository {
            name: repository.name.to_string(),
            directory: repository.directory.to_string(),
            tags: text(repository.tags),
            shadowed: text(repository.shadowed),
        });
        Ok(FollowedName {
            name: name.to_string(),
            sequence: heard,
            stale: head.as_ref().is_some_and(|head| head.stale),
            value: head.map(|head| head.value),
            served,
            newest: fetching.as_ref().map(|fetching| fetching.root.to_string()),
            lag_seconds: self.resolver().followed().lag_of(&name).as_secs(),
            missing_repositories: missing.repositories,
            missing_bytes: missing.bytes,
            failing: fetching.and_then(|fetching| fetching.why),
            complete_repositories: summary.complete,
            repositories: repositories.collect(),
        })
    }
}

fn parse_name(text: &str) -> Result<IpnsName, Failure> {
    let name = text.strip_prefix("/ipns/").unwrap_or(text);
    name.parse().map_err(|error| {
        Failure::new(error).hint("`ocipfs name ls` on the node that publishes it prints its name first")
    })
}
