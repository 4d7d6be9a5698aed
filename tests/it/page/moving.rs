//! What the page shows of a node at work: a download with its rate, and a followed name that is behind.

use libtest_mimic::Trial;
use serde_json::Value;

use super::browser::{Browser, Window};
use crate::{
    following::standby::{NOWHERE, Pointed, arguments, is_current},
    harness::{Layer, Serve, noise, trials},
    names::image::Image,
    peers::throttled::Throttled,
};

/// A download takes four minutes, longer than the views are looked at.
const LAYER_BYTES: usize = 128 << 20;
const BYTES_PER_SECOND: u32 = 512 << 10;
const WINDOWS: [(&str, Window); 2] =
    [("light", Window { width: 1280, dark: false }), ("dark", Window { width: 1280, dark: true })];

pub fn trials() -> Vec<Trial> {
    trials![needs Browser::available();
        a_download_is_shown_as_a_bar_with_its_rate,
        a_followed_name_that_is_behind_says_for_how_long,
    ]
}

async fn a_download_is_shown_as_a_bar_with_its_rate() {
    let source = Serve::start(&[]);
    let layer = Layer::add(&source, &noise(LAYER_BYTES));
    let slow = Throttled::before(source.address(), BYTES_PER_SECOND).await;
    let reader = Serve::start(&["--peer", slow.address()]);
    let url = reader.url(&layer.blob_path());
    let pull = tokio::spawn(async move { reqwest::get(url).await.expect("an answer").bytes().await });
    let browser = Browser::start().await;
    for (name, window) in WINDOWS {
        browser.look(window).await;
        browser.open(&reader.url("/#/transfers")).await;
        let moves = "const bar = document.querySelector('.transfers progress'); \
                     const speed = document.querySelector('.transfers .speed'); \
                     return !!bar && bar.value > 0 && bar.value < bar.max && parseFloat(speed.innerText) > 0";
        browser.holds("a bar that moves, with a rate", moves).await;
        browser.shows(&[" %", "/s", "left", "1 reader"]).await;
        browser.screenshot(&format!("transfers-moving-{name}.png")).await;
        browser.go("#/swarm").await;
        let flows = "const line = document.querySelector('.graph .edges .in'); \
                     return !!line && parseFloat(line.getAttribute('stroke-width')) > 0";
        browser.holds("a line to the peer that is as wide as what comes is fast", flows).await;
        browser.screenshot(&format!("swarm-moving-{name}.png")).await;
    }
    let complaints = browser.complaints().await;
    assert!(complaints.is_empty(), "{complaints:#?}");
    assert!(!pull.is_finished(), "it was still being downloaded");
    pull.abort();
    browser.end().await;
}

async fn a_followed_name_that_is_behind_says_for_how_long() {
    let pointed = Pointed::start(&Image::of("kept", 100_000)).await;
    let follower = Serve::start(&arguments(&pointed.name, pointed.publisher.address(), "all"));
    follower.until("the follower is current", is_current).await;
    let browser = Browser::start().await;
    browser.open(&follower.url("/#/names")).await;
    browser.shows(&["up to date"]).await;
    pointed.point(NOWHERE);
    let is_behind = |status: &Value| {
        let name = &status["followed"][0];
        name["failing"].is_string() && name["lag_seconds"].as_u64() > Some(0)
    };
    follower.until("the follower is behind", is_behind).await;
    for (name, window) in WINDOWS {
        browser.look(window).await;
        browser.shows(&["failing", "Behind for "]).await;
        browser.screenshot(&format!("names-behind-{name}.png")).await;
    }
    browser.end().await;
}
