//! Requests for single blocks, as the trustless gateway specifies them, and what their answers mean.
//! <https://specs.ipfs.tech/http-gateways/trustless-gateway/>

use std::time::Duration;

use reqwest::{
    Client, Response, StatusCode,
    header::{ACCEPT, CACHE_CONTROL, RETRY_AFTER},
};

use super::{endpoint::HttpEndpoint, queue::HttpRequest};
use crate::bitswap::{ProviderAnswers, ReceiveError, wire::Kind};

const RAW: &str = "application/vnd.ipld.raw";
/// A provider answers from what it has: a gateway that would search the block elsewhere answers 412.
const ONLY_IF_CACHED: &str = "only-if-cached";

/// The outcome of a request.
#[derive(Debug)]
pub enum Outcome {
    /// The block was received, or is there.
    Have,
    /// The provider lacks the block.
    Lacks,
    /// The provider cannot answer for now; it says how long.
    Busy(Option<Duration>),
    /// The server had an error, which may concern this block alone.
    ServerError(StatusCode),
    Failed(String),
    /// The provider sent other bytes than the block.
    Wrong,
}

/// Performs a request and passes the block or its presence on to Bitswap.
pub async fn perform(
    client: &Client,
    endpoint: &HttpEndpoint,
    request: &HttpRequest,
    answers: &ProviderAnswers,
) -> Outcome {
    let url = endpoint.block(&request.cid);
    let asked = match request.kind {
        Kind::Block => client.get(url),
        Kind::Have => client.head(url),
    };
    let asked = asked.header(ACCEPT, RAW).header(CACHE_CONTROL, ONLY_IF_CACHED);
    let response = match asked.send().await {
        Ok(response) => response,
        Err(error) => return Outcome::Failed(reason(&error)),
    };
    answers.record_progress();
    let outcome = outcome(&response, request.kind);
    match outcome {
        Outcome::Have if request.kind == Kind::Block => receive(response, request, answers).await,
        Outcome::Have => {
            answers.presence(request.cid, true).await;
            outcome
        }
        Outcome::Lacks => {
            answers.presence(request.cid, false).await;
            outcome
        }
        other => other,
    }
}

/// Returns what the status of an answer means.
fn outcome(response: &Response, kind: Kind) -> Outcome {
    match response.status() {
        StatusCode::OK => Outcome::Have,
        // It cannot say; a request for the block will show it.
        StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED if kind == Kind::Have => Outcome::Have,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            let seconds =
                response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            Outcome::Busy(seconds.map(Duration::from_secs))
        }
        status if status.is_server_error() => Outcome::ServerError(status),
        // Redirects too: what they lead to is not in a provider record.
        _ => Outcome::Lacks,
    }
}

async fn receive(response: Response, request: &HttpRequest, answers: &ProviderAnswers) -> Outcome {
    let announced = response.content_length();
    let body = Box::pin(response.bytes_stream());
    match answers.block(request.cid, announced, body).await {
        Ok(()) => Outcome::Have,
        Err(ReceiveError::Wrong(_) | ReceiveError::TooLong) => Outcome::Wrong,
        Err(ReceiveError::Body(error)) => Outcome::Failed(reason(&error)),
        Err(error) => Outcome::Failed(error.to_string()),
    }
}

/// Returns the innermost cause; the outer ones say only that a request failed.
fn reason(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    match innermost.downcast_ref::<reqwest::Error>() {
        Some(_) if error.is_timeout() => "it did not answer in time".into(),
        Some(_) => "the request failed".into(),
        None => innermost.to_string(),
    }
}
