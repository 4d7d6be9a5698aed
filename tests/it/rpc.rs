//! The RPC of Kubo: raw requests, and the clients that speak it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use libtest_mimic::Trial;
use reqwest::{Client, Response};
use serde_json::Value;

use crate::harness::Serve;

mod clients;
mod cluster;
mod commands;
mod kubo;
mod options;
mod wire;

pub fn trials() -> Vec<Trial> {
    [
        wire::trials(),
        commands::trials(),
        options::trials(),
        clients::trials(),
        cluster::trials(),
        kubo::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A node with its RPC on a free port.
pub struct Rpc {
    pub node: Serve,
    client: Client,
}

impl Rpc {
    pub fn start(arguments: &[&str]) -> Self {
        let node = Serve::start(&[&["--rpc-listen", "127.0.0.1:0"], arguments].concat());
        Self { node, client: Client::new() }
    }

    fn start_in(dir: &Path, arguments: &[&str]) -> Self {
        let node = Serve::start_in(dir, &[&["--rpc-listen", "127.0.0.1:0"], arguments].concat());
        Self { node, client: Client::new() }
    }

    fn api_file(&self) -> PathBuf {
        self.node.data_dir().join("api")
    }

    /// The multiaddr by which clients find it.
    fn api(&self) -> String {
        fs::read_to_string(self.api_file()).expect("the file api")
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        let api = self.api();
        let parts: Vec<&str> = api.split('/').collect();
        format!("http://{}:{}", parts[2], parts[4])
    }

    async fn post(&self, command: &str) -> Response {
        let url = format!("{}/api/v0/{command}", self.url());
        self.client.post(url).send().await.expect("an answer")
    }

    /// Sends a command that must succeed, and returns its answer.
    pub async fn bytes(&self, command: &str) -> Vec<u8> {
        let answer = self.post(command).await;
        let status = answer.status();
        let bytes = answer.bytes().await.expect("a body");
        assert!(status.is_success(), "{command}: {status}: {}", String::from_utf8_lossy(&bytes));
        bytes.into()
    }

    async fn json(&self, command: &str) -> Value {
        serde_json::from_slice(&self.bytes(command).await).expect("an object")
    }

    /// Returns the message of a command that must fail with 500.
    async fn failure(&self, command: &str) -> String {
        let answer = self.post(command).await;
        assert_eq!(answer.status().as_u16(), 500, "{command}");
        let error: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).expect("an object");
        assert_eq!((&error["Type"], &error["Code"]), (&"error".into(), &0.into()), "{error}");
        error["Message"].as_str().unwrap().to_owned()
    }

    /// Sends parts, each with its file name and its media type.
    async fn send(&self, command: &str, parts: &[(&str, &str, &[u8])]) -> Response {
        let mut body = Vec::new();
        for (name, media_type, bytes) in parts {
            let head = format!(
                "--boundary\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\nContent-Type: {media_type}\r\n\r\n"
            );
            body.extend_from_slice(head.as_bytes());
            body.extend_from_slice(bytes);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"--boundary--\r\n");
        let request = self.client.post(format!("{}/api/v0/{command}", self.url()));
        let request = request.header("content-type", "multipart/form-data; boundary=boundary").body(body);
        request.send().await.expect("an answer")
    }

    /// Sends parts, and returns the objects of the answer.
    async fn upload(&self, command: &str, parts: &[(&str, &str, &[u8])]) -> Vec<Value> {
        let answer = self.send(command, parts).await;
        let status = answer.status();
        let text = answer.text().await.expect("a body");
        assert!(status.is_success(), "{command}: {status}: {text}");
        text.lines().map(|line| serde_json::from_str(line).expect("an object")).collect()
    }

    /// Adds a file, and returns its CID.
    async fn add(&self, options: &str, bytes: &[u8]) -> String {
        let added =
            self.upload(&format!("add?{options}"), &[("file", "application/octet-stream", bytes)]).await;
        let [added] = &added[..] else { panic!("{added:?}") };
        assert_eq!(added["Name"], "file");
        added["Hash"].as_str().expect("a CID").to_owned()
    }
}
