//! Tokens of this node, in place of passwords.

use super::Instance;
use crate::{
    access::{Action, Pattern},
    content::now,
    control::{CreatedToken, Failure, TokenReply, TokenRequest, failure::token_failure},
    http::{IssuedToken, IssuedTokens},
};

impl Instance {
    /// Returns the tokens of this node.
    pub fn tokens(&self) -> &IssuedTokens {
        &self.0.tokens
    }

    pub(super) async fn token(&self, request: TokenRequest) -> Result<TokenReply, Failure> {
        let tokens = self.tokens().clone();
        let work = move || match request {
            TokenRequest::Create { name, repositories, actions, seconds } => {
                let of = made(name, &repositories, &actions, seconds)?;
                let token = tokens.create(of.clone()).map_err(token_failure)?;
                Ok(TokenReply::Created(CreatedToken { token, of }))
            }
            TokenRequest::Ls => Ok(TokenReply::Listed { tokens: tokens.list() }),
            TokenRequest::Revoke { name } => {
                tokens.revoke(&name).map_err(token_failure)?;
                Ok(TokenReply::Revoked { name })
            }
        };
        tokio::task::spawn_blocking(work).await.map_err(Failure::new)?
    }
}

fn made(
    name: String,
    repositories: &[String],
    actions: &[String],
    seconds: Option<u64>,
) -> Result<IssuedToken, Failure> {
    let repositories = repositories.iter().map(|text| text.parse()).collect::<Result<Vec<Pattern>, _>>();
    let actions = actions.iter().map(|text| text.parse()).collect::<Result<Vec<Action>, _>>();
    let created = now();
    Ok(IssuedToken {
        name,
        repositories: repositories.map_err(Failure::new)?,
        actions: actions.map_err(Failure::new)?.into(),
        created,
        expires: seconds.map(|seconds| created.saturating_add(seconds)),
    })
}
