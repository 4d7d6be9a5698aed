//! Debian's Chromium without a window, driven through its WebDriver.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use fantoccini::{Client, ClientBuilder, Locator, elements::Element, wd::WebDriverCompatibleCommand};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::clients::{installed, search_path};

const PATIENCE: Duration = Duration::from_secs(20);
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);
/// Chromium otherwise asks hosts of its maker; root needs it without a sandbox.
const ARGUMENTS: [&str; 9] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// How a page is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub width: u32,
    pub dark: bool,
}

/// One browser with a profile of its own.
pub struct Browser {
    client: Client,
    driver: Driver,
    _profile: TempDir,
}

struct Driver(Child);

impl Drop for Driver {
    /// Chromium ends with its driver.
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A command of Chromium's driver that WebDriver does not have.
#[derive(Debug)]
struct Extension {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Extension {
    fn endpoint(
        &self,
        base: &reqwest::Url,
        session: Option<&str>,
    ) -> Result<reqwest::Url, <reqwest::Url as std::str::FromStr>::Err> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _: &reqwest::Url) -> (reqwest::Method, Option<String>) {
        (reqwest::Method::POST, Some(self.body.to_string()))
    }
}

impl Browser {
    /// Whether there is one, and otherwise how to get it.
    pub fn available() -> Result<(), String> {
        installed(&[("chromium", "chromium"), ("chromedriver", "chromium-driver")])
    }

    pub async fn start() -> Self {
        let profile = tempfile::tempdir().expect("a directory");
        // A file, since a pipe that is not read to its end would end the driver.
        let log = profile.path().join("driver.log");
        let mut driver = Command::new("chromedriver");
        driver.arg("--port=0").env("PATH", search_path()).stdin(Stdio::null()).stderr(Stdio::null());
        driver.stdout(fs::File::create(&log).expect("a file"));
        let driver = Driver(driver.spawn().expect("the driver starts"));
        let port = port(&log).await;
        let mut arguments: Vec<String> = ARGUMENTS.map(String::from).into();
        arguments.push(format!("--user-data-dir={}", profile.path().display()));
        let options = json!({ "binary": "/usr/bin/chromium", "args": arguments });
        let capabilities = json!({ "goog:chromeOptions": options,
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" } });
        let Value::Object(capabilities) = capabilities else { unreachable!() };
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .expect("a session");
        Self { client, driver, _profile: profile }
    }

    /// Ends the browser; a story that fails ends it with its driver.
    pub async fn end(self) {
        let _ = self.client.close().await;
        drop(self.driver);
    }

    async fn extension(&self, path: &'static str, body: Value) -> Value {
        self.client.issue_cmd(Extension { path, body }).await.unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    async fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.extension("goog/cdp/execute", json!({ "cmd": command, "params": parameters })).await
    }

    pub async fn look(&self, Window { width, dark }: Window) {
        let size = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.devtools("Emulation.setDeviceMetricsOverride", size).await;
        let scheme = json!({ "name": "prefers-color-scheme", "value": if dark { "dark" } else { "light" } });
        self.devtools("Emulation.setEmulatedMedia", json!({ "features": [scheme] })).await;
    }

    /// Opens an address, from an empty page: a change behind `#` alone opens nothing.
    pub async fn open(&self, url: &str) {
        self.client.goto("about:blank").await.expect("an empty page");
        self.client.goto(url).await.unwrap_or_else(|e| panic!("{url}: {e}"));
    }

    /// Goes to another view of the page that is open.
    pub async fn go(&self, hash: &str) {
        self.run(&format!("location.hash = {}", json!(hash))).await;
    }

    pub async fn run(&self, script: &str) -> Value {
        self.client.execute(script, Vec::new()).await.unwrap_or_else(|e| panic!("{script}: {e}"))
    }

    pub async fn find(&self, selector: &str) -> Element {
        self.client
            .wait()
            .at_most(PATIENCE)
            .for_element(Locator::Css(selector))
            .await
            .unwrap_or_else(|e| panic!("{selector}: {e}"))
    }

    pub async fn text(&self) -> String {
        self.run("return document.body.innerText").await.as_str().unwrap_or_default().into()
    }

    /// Waits until the page shows all of these.
    pub async fn shows(&self, texts: &[&str]) {
        let start = Instant::now();
        loop {
            let text = self.text().await;
            let missing: Vec<_> = texts.iter().filter(|wanted| !text.contains(**wanted)).collect();
            if missing.is_empty() {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{missing:?} are not in:\n{text}");
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    }

    /// Waits until a script returns true.
    pub async fn holds(&self, what: &str, script: &str) {
        let start = Instant::now();
        while self.run(script).await != true {
            assert!(start.elapsed() < PATIENCE, "still waiting: {what}:\n{}", self.text().await);
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    }

    /// Sends keys to whatever has the focus.
    pub async fn keys(&self, keys: &str) {
        let focused = self.client.active_element().await.expect("an element with the focus");
        focused.send_keys(keys).await.unwrap_or_else(|e| panic!("{keys:?}: {e}"));
    }

    /// Returns the text of the element with the focus.
    pub async fn focused(&self) -> String {
        self.run("return document.activeElement.innerText || document.activeElement.id")
            .await
            .as_str()
            .unwrap_or_default()
            .into()
    }

    /// Writes what is seen to `target/screenshots`.
    pub async fn screenshot(&self, name: &str) {
        let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/screenshots");
        fs::create_dir_all(&dir).expect("a directory");
        let picture = self.client.screenshot().await.expect("a picture");
        assert!(picture.len() > 5_000, "{name}: {} bytes are an empty picture", picture.len());
        fs::write(dir.join(name), picture).expect("a file");
    }

    /// Returns what the console says since the last call: nothing, if all is well.
    pub async fn complaints(&self) -> Vec<Value> {
        let log = self.extension("se/log", json!({ "type": "browser" })).await;
        let is_one = |entry: &&Value| entry["level"] == "SEVERE" || entry["level"] == "WARNING";
        log.as_array().into_iter().flatten().filter(is_one).cloned().collect()
    }

    /// Returns the addresses of all requests since the last call.
    pub async fn requests(&self) -> Vec<String> {
        let log = self.extension("se/log", json!({ "type": "performance" })).await;
        let sent = |entry: &Value| {
            let event: Value = serde_json::from_str(entry["message"].as_str()?).ok()?;
            let is_request = event["message"]["method"] == "Network.requestWillBeSent";
            is_request.then(|| event["message"]["params"]["request"]["url"].as_str().map(String::from))?
        };
        log.as_array().into_iter().flatten().filter_map(sent).collect()
    }
}

/// Waits until the driver says which port it listens on.
async fn port(log: &Path) -> u16 {
    let port = |line: &str| line.strip_suffix('.')?.rsplit_once("on port ")?.1.parse().ok();
    let start = Instant::now();
    loop {
        let text = fs::read_to_string(log).unwrap_or_default();
        if let Some(port) = text.lines().find_map(port) {
            return port;
        }
        assert!(start.elapsed() < PATIENCE, "no port in {text:?}");
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}
