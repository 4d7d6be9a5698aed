//! The page in a browser: its views in light and dark, the keyboard, its weight and its speed.

use libtest_mimic::Trial;

use super::{
    World,
    browser::{Browser, Window},
};
use crate::{
    harness::{noise, trials},
    http::get,
    push::Repository,
};

const MAX_PAGE_BYTES: u64 = 150_000;
/// A key of WebDriver's own alphabet.
const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";
const LEFT: &str = "\u{e012}";
const RIGHT: &str = "\u{e014}";
const END: &str = "\u{e010}";

pub fn trials() -> Vec<Trial> {
    trials![needs Browser::available();
        the_page_shows_each_view_in_light_and_dark_without_a_complaint_in_the_console,
        the_page_is_used_by_keyboard_alone,
        the_page_is_small_and_asks_no_other_host,
    ]
}

const WINDOWS: [(&str, Window); 4] = [
    ("light", Window { width: 1280, dark: false }),
    ("dark", Window { width: 1280, dark: true }),
    ("narrow-light", Window { width: 400, dark: false }),
    ("narrow-dark", Window { width: 400, dark: true }),
];

async fn the_page_shows_each_view_in_light_and_dark_without_a_complaint_in_the_console() {
    let world = World::start().await;
    let browser = Browser::start().await;
    for (name, window) in WINDOWS {
        browser.look(window).await;
        publisher_views(&browser, &world, name).await;
        follower_views(&browser, &world, name).await;
        let is_wide = "return document.documentElement.scrollWidth > innerWidth";
        assert_eq!(browser.run(is_wide).await, false, "{name}: the page is wider than its window");
    }
    let complaints = browser.complaints().await;
    assert!(complaints.is_empty(), "{complaints:#?}");
    browser.end().await;
}

async fn publisher_views(browser: &Browser, world: &World, name: &str) {
    let World { publisher, follower } = world;
    browser.open(&publisher.url("/")).await;
    browser.shows(&["team/app", "base", "1 tag", "1 peer"]).await;
    browser.screenshot(&format!("repositories-{name}.png")).await;
    browser.go("#/repositories/team/app").await;
    let pull = format!("docker pull {}/team/app:1.0", publisher.registry());
    browser.shows(&[&pull, "linux/amd64", "linux/arm64"]).await;
    browser.find(".twist").await.click().await.expect("a button");
    browser.shows(&["2 layers", "3.00 MiB", "1 referrer", "application/vnd.example.signature"]).await;
    browser.screenshot(&format!("repository-{name}.png")).await;
    browser.go("#/swarm").await;
    let peer = follower.peer();
    browser.shows(&[&peer[peer.len() - 4..], "ocipfs/", "This node", "accepted"]).await;
    browser.find(".graph .nodes circle").await;
    browser.screenshot(&format!("swarm-{name}.png")).await;
    // An upload counts as in progress for a minute.
    let uploads = Repository::new(publisher, "incoming");
    assert_eq!(uploads.part(&uploads.begin().await, 0, &noise(1_500_000)).await.status, 202);
    browser.go("#/transfers").await;
    browser.shows(&["incoming", "1.43 MiB", "Nothing is being downloaded."]).await;
    browser.screenshot(&format!("transfers-{name}.png")).await;
    browser.go("#/store").await;
    browser.shows(&["Added, pushed and imported", "Garbage collection", "ocipfs store gc"]).await;
    browser.find(".actions .button:not([disabled])").await;
    browser.screenshot(&format!("store-{name}.png")).await;
}

async fn follower_views(browser: &Browser, World { publisher, follower }: &World, name: &str) {
    browser.open(&follower.url("/")).await;
    browser.shows(&["team/app", "followed"]).await;
    browser.go("#/names").await;
    let followed = follower.status()["followed"][0]["name"].as_str().expect("a name").to_owned();
    browser.shows(&[&followed[..20], "up to date", "2 repositories"]).await;
    browser.find("summary").await.click().await.expect("a summary");
    browser.shows(&["team/app", "latest"]).await;
    browser.screenshot(&format!("names-{name}.png")).await;
    browser.go("#/repositories/team/app").await;
    browser.shows(&[&format!("docker pull {}/team/app:1.0", follower.registry()), "linux/arm64"]).await;
    // What the follower fetched came from the publisher, and both say so.
    let swarm = get(&follower.url("/page/data/swarm.json")).await.json();
    assert_eq!(swarm["peers"][0]["peer"], publisher.peer());
    assert!(swarm["peers"][0]["received_bytes"].as_u64().expect("bytes") > 2 << 20, "{swarm}");
}

async fn the_page_is_used_by_keyboard_alone() {
    let world = World::start().await;
    let browser = Browser::start().await;
    browser.look(WINDOWS[0].1).await;
    browser.open(&world.publisher.url("/")).await;
    browser.shows(&["team/app", "Swarm"]).await;
    // The first stop leads past the head.
    browser.keys(TAB).await;
    assert_eq!(browser.focused().await, "Skip to content");
    browser.keys(TAB).await;
    browser.keys(TAB).await;
    assert_eq!(browser.focused().await, "Repositories");
    browser.keys(RIGHT).await;
    browser.shows(&["Connected peers"]).await;
    assert_eq!(browser.focused().await, "Swarm");
    browser.keys(END).await;
    browser.shows(&["Published", "Followed"]).await;
    browser.keys(RIGHT).await;
    browser.shows(&["team/app"]).await;
    browser.keys(LEFT).await;
    browser.shows(&["Published"]).await;
    browser.keys(RIGHT).await;
    browser.shows(&["team/app"]).await;
    // One stop for all tabs, then the filter, then the list.
    for expected in ["filter", "base"] {
        browser.keys(TAB).await;
        assert!(browser.focused().await.starts_with(expected), "{}", browser.focused().await);
    }
    browser.keys(ENTER).await;
    browser.shows(&["docker pull", "base:latest"]).await;
    let selected = "return document.querySelectorAll('[role=tab][aria-selected=true]').length";
    assert_eq!(browser.run(selected).await, 1);
    // What has the focus is seen to have it.
    let outline = "const at = document.querySelector('.twist'); at.focus({ focusVisible: true }); \
                   return getComputedStyle(at).outlineStyle";
    assert_eq!(browser.run(outline).await, "solid");
    assert!(browser.complaints().await.is_empty());
    browser.end().await;
}

async fn the_page_is_small_and_asks_no_other_host() {
    let world = World::start().await;
    let browser = Browser::start().await;
    browser.look(WINDOWS[0].1).await;
    let own = world.publisher.url("/");
    let mut paints = Vec::new();
    for _ in 0..5 {
        browser.open(&own).await;
        browser.shows(&["team/app"]).await;
        let painted = "return performance.getEntriesByName('first-contentful-paint').length > 0";
        browser.holds("the first paint is measured", painted).await;
        let paint = "return performance.getEntriesByName('first-contentful-paint')[0].startTime";
        paints.push(browser.run(paint).await.as_f64().expect("a time"));
    }
    let weight = "return performance.getEntriesByType('resource').concat(performance.getEntriesByType('navigation'))\
                  .reduce((sum, entry) => sum + entry.encodedBodySize, 0)";
    let bytes = browser.run(weight).await.as_u64().expect("bytes");
    println!("first paints: {paints:?} ms; weight: {bytes} bytes");
    assert!((1..=MAX_PAGE_BYTES).contains(&bytes), "{bytes} bytes");
    // Before the page is opened, the browser shows one of its own.
    let is_own =
        |url: &String| [own.as_str(), "about:", "data:", "chrome:"].iter().any(|own| url.starts_with(own));
    let foreign = |url: &String| !is_own(url);
    let requests = browser.requests().await;
    assert!(requests.len() > 10, "{requests:?}");
    assert!(!requests.iter().any(foreign), "{requests:?}");
    assert!(browser.complaints().await.is_empty());
    browser.end().await;
}
