//! The task of one HTTP provider: takes the wants that Bitswap sessions have of it, and performs the requests.

use std::{pin::pin, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use reqwest::Client;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep_until},
};

use super::{
    endpoint::HttpEndpoint,
    http::{self, Outcome},
    queue::{HttpRequest, RequestQueue},
};
use crate::bitswap::{ProviderAnswers, ProviderWants};

/// A provider that no session asks for this long is left.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a busy provider is left in peace, doubled with each pause in a row.
const BUSY_PAUSE: Duration = Duration::from_millis(100);
/// Pauses in a row before the provider is left for longer.
const MAX_PAUSES: u32 = 6;
/// The most that a provider may ask to be left in peace.
const MAX_BUSY_PAUSE: Duration = Duration::from_secs(60);
/// Blocks in a row that the provider has an error for before it is left for a while.
const MAX_SERVER_ERRORS: u32 = 4;

/// Why a provider is no longer asked.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// No session wants anything of it.
    Idle,
    /// It sent a wrong block.
    Wrong,
    /// It failed, or asks to be left in peace for some time.
    Failed { why: String, pause: Option<Duration> },
    /// The node is stopping.
    Stopped,
}

/// The connection to a provider.
pub struct HttpLink<'a> {
    pub client: &'a Client,
    pub endpoint: &'a HttpEndpoint,
    pub answers: ProviderAnswers,
    /// The requests that may run at once, over all providers.
    pub requests: &'a Semaphore,
    /// Whether the user named it, so that it stays when it is idle.
    pub is_kept: bool,
    pub state: LinkState,
}

/// What happened so far.
#[derive(Debug, Default)]
pub struct LinkState {
    queue: RequestQueue,
    /// Pauses in a row because the provider was busy.
    pauses: u32,
    /// When it last said so of a request that began after the last pause.
    refused_at: Option<Instant>,
    server_errors: u32,
    /// No request begins before this time.
    paused_until: Option<Instant>,
    /// Whether a request succeeded.
    pub has_answered: bool,
}

impl HttpLink<'_> {
    /// Serves the wants of the sessions until the provider fails or is no longer needed.
    pub async fn run(&mut self, wants: &mut ProviderWants) -> End {
        let Self { client, endpoint, answers, requests: limit, is_kept, state } = self;
        let mut requests = FuturesUnordered::new();
        let mut idle_since = Instant::now();
        loop {
            while let Some(request) = state.next(Instant::now()) {
                let (client, endpoint, answers, limit) = (&*client, &*endpoint, &*answers, &*limit);
                requests.push(async move {
                    let _permit = limit.acquire().await;
                    let begun = Instant::now();
                    let outcome = http::perform(client, endpoint, &request, answers).await;
                    (request, begun, outcome)
                });
            }
            let timer = match state.paused_until {
                Some(until) => Some(until),
                None => (requests.is_empty() && !*is_kept).then(|| idle_since + IDLE_TIMEOUT),
            };
            let timer = pin!(async {
                match timer {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            });
            tokio::select! {
                entry = wants.next() => match entry {
                    Some(entry) => state.queue.add(&entry),
                    None => return End::Stopped,
                },
                Some((request, begun, outcome)) = requests.next() => {
                    if let Some(end) = state.done((request, begun), outcome, answers).await {
                        return end;
                    }
                }
                () = timer => {
                    let was_paused = state.paused_until.take().is_some();
                    if !was_paused && state.queue.is_empty() {
                        return End::Idle;
                    }
                    continue;
                }
            }
            idle_since = Instant::now();
        }
    }
}

impl LinkState {
    fn next(&mut self, now: Instant) -> Option<HttpRequest> {
        match self.paused_until {
            Some(until) if until > now => None,
            _ => self.queue.next(),
        }
    }

    /// Records the outcome of a request. Returns why the provider is no longer asked, if so.
    async fn done(
        &mut self,
        (request, begun): (HttpRequest, Instant),
        outcome: Outcome,
        answers: &ProviderAnswers,
    ) -> Option<End> {
        match outcome {
            Outcome::Have | Outcome::Lacks => {
                (self.pauses, self.server_errors, self.has_answered) = (0, 0, true);
                self.queue.answered(&request, matches!(outcome, Outcome::Have));
                None
            }
            Outcome::Busy(pause) => self.busy(request, begun, pause),
            Outcome::ServerError(status) => {
                if self.queue.failed(request) {
                    self.paused_until = Some(Instant::now() + BUSY_PAUSE);
                    return None;
                }
                self.server_errors += 1;
                answers.presence(request.cid, false).await;
                let why = || format!("it answers with status {status}");
                (self.server_errors >= MAX_SERVER_ERRORS).then(|| End::Failed { why: why(), pause: None })
            }
            Outcome::Failed(why) => (!self.queue.failed(request)).then_some(End::Failed { why, pause: None }),
            Outcome::Wrong => Some(End::Wrong),
        }
    }

    /// Leaves a busy provider in peace for a moment, or for as long as it asks if it refuses everything. Requests that ran at
    /// the same time are refused together, which counts once.
    fn busy(&mut self, request: HttpRequest, begun: Instant, pause: Option<Duration>) -> Option<End> {
        if self.refused_at.is_some_and(|refused| begun <= refused) {
            self.queue.put_back(request);
            return None;
        }
        let now = Instant::now();
        self.refused_at = Some(now);
        self.pauses += 1;
        self.queue.refused(request);
        if self.pauses >= MAX_PAUSES {
            let why = "it is busy".into();
            return Some(End::Failed { why, pause: pause.map(|pause| pause.min(MAX_BUSY_PAUSE)) });
        }
        self.paused_until = Some(now + BUSY_PAUSE * 2u32.pow(self.pauses));
        None
    }
}

#[cfg(test)]
mod tests {
    use multihash_codetable::{Code, MultihashDigest};

    use super::*;
    use crate::{
        Cid,
        bitswap::wire::{Kind, WantlistEntry},
    };

    /// Takes all requests that may begin now.
    fn burst(state: &mut LinkState) -> Vec<(HttpRequest, Instant)> {
        let now = Instant::now();
        std::iter::from_fn(|| state.next(now)).map(|request| (request, now)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_of_refusals_of_a_busy_provider_counts_once() {
        let mut state = LinkState::default();
        for n in 0u8..20 {
            let cid = Cid::new_v1(0x55, Code::Sha2_256.digest(&[n]));
            state.queue.add(&WantlistEntry::want(cid, Kind::Block, 1));
        }
        let mut most = 0;
        for pause in 1..=MAX_PAUSES {
            let requests = burst(&mut state);
            most = most.max(requests.len());
            assert!(!requests.is_empty());
            for (n, (request, begun)) in requests.into_iter().enumerate() {
                tokio::time::advance(Duration::from_millis(1)).await;
                let end = state.busy(request, begun, Some(Duration::from_secs(5)));
                assert_eq!(
                    end.is_some(),
                    pause == MAX_PAUSES && n == 0,
                    "pause {pause}, request {n}: {end:?}"
                );
            }
            assert_eq!(state.pauses, pause);
            assert!(pause == MAX_PAUSES || burst(&mut state).is_empty(), "it is paused");
            tokio::time::advance(MAX_BUSY_PAUSE).await;
        }
        assert!(most > 1, "requests ran at the same time");
    }
}
