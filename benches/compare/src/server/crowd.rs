//! Light peers that have nothing, all in one process.

use std::process::Command;

use serde_json::json;

use super::Process;
use crate::{Failure, peers::light, scenarios::Room};

pub struct Crowd {
    _process: Process,
    addresses: Vec<String>,
}

impl Crowd {
    pub fn start(room: &Room, count: usize) -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["crowd", &count.to_string()]);
        let mut process = room.children.start(&mut command, &room.new_dir("crowd")?)?;
        let addresses = serde_json::from_value(process.line()?)?;
        Ok(Self { _process: process, addresses })
    }

    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        self.addresses.iter().map(String::as_str)
    }
}

/// The process of the peers, until it is killed.
#[tokio::main]
pub async fn crowd(count: usize) -> Result<(), Failure> {
    let crowd = light::Crowd::start(count).await;
    println!("{}", json!(crowd.addresses().collect::<Vec<_>>()));
    std::future::pending().await
}
