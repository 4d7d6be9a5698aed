//! A login in the browser, at a node with access rules.

use std::fs;

use libtest_mimic::Trial;
use serde_json::Value;
use tempfile::TempDir;

use super::{
    browser::{Browser, Window},
    visitors::push_as,
};
use crate::{
    exposed::{basic, users},
    harness::{Serve, trials},
};

const RULES: &str = r#"
[[rule]]
users = ["anonymous"]
repositories = ["public/*"]
actions = ["pull"]

[[rule]]
users = ["alice"]
repositories = ["team/*"]
actions = ["pull", "push"]

[[rule]]
users = ["root"]
repositories = ["*"]
actions = ["admin"]
"#;
const NAMES: [&str; 3] = ["public/app", "secret/app", "team/app"];

pub fn trials() -> Vec<Trial> {
    trials![needs Browser::available();
        a_login_in_the_browser_shows_what_access_rules_allow_the_user,
    ]
}

/// The address with a name and a password, which the browser gives when it is asked for them.
fn with_login(node: &Serve, user: &str, password: &str, path: &str) -> String {
    format!("http://{user}:{password}@{}{path}", node.registry())
}

async fn a_login_in_the_browser_shows_what_access_rules_allow_the_user() {
    let dir = TempDir::new().unwrap();
    let file = users(&dir.path().join("users"), &[("alice", "a"), ("root", "r")]);
    let rules = dir.path().join("access.toml");
    fs::write(&rules, RULES).unwrap();
    let node = Serve::start(&["--htpasswd", &file, "--access-rules", rules.to_str().unwrap()]);
    for name in NAMES {
        push_as(&node, name, &basic("root", "r")).await;
    }
    for (user, password, seen, tabs) in
        [("alice", "a", &[NAMES[0], NAMES[2]][..], 1), ("root", "r", &NAMES, 5)]
    {
        // A browser of its own: what one has logged in as, it keeps.
        let browser = Browser::start().await;
        browser.look(Window { width: 1280, dark: user == "root" }).await;
        browser.open(&node.url("/")).await;
        browser.shows(&["public/app", "Log in"]).await;
        let text = browser.text().await;
        assert!(!text.contains("team/app") && !text.contains("secret/app"), "{text}");
        browser.screenshot(&format!("login-before-{user}.png")).await;
        let link = browser.run("return document.querySelector('#who a').getAttribute('href')").await;
        let link = link.as_str().expect("the link of the login").to_owned();
        browser.open(&with_login(&node, user, password, &link)).await;
        browser.open(&node.url("/")).await;
        browser.shows(&[&[user], seen].concat()).await;
        let text = browser.text().await;
        let hidden = NAMES.iter().filter(|name| !seen.contains(name));
        hidden.for_each(|name| assert!(!text.contains(name), "{user}: {text}"));
        assert!(!text.contains("Log in"), "{text}");
        let shown = "return document.querySelectorAll('[role=tab]:not([hidden])').length";
        assert_eq!(browser.run(shown).await, Value::from(tabs), "{user}: {text}");
        browser.screenshot(&format!("login-after-{user}.png")).await;
        browser.end().await;
    }
}
