//! The blocks of a document.

use std::{fs, path::Path};

/// Clients that a block may need.
const CLIENTS: [&str; 15] = [
    "docker",
    "docker-registry",
    "podman",
    "buildah",
    "buildctl",
    "ctr",
    "crane",
    "oras",
    "cosign",
    "helm",
    "notation",
    "regctl",
    "htpasswd",
    "nginx",
    "caddy",
];
/// Languages of blocks that are shown and not run.
const SHOWN: [&str; 8] = ["toml", "json", "ini", "nginx", "caddyfile", "dockerfile", "mermaid", "yaml"];

/// A document and its blocks, in order.
#[derive(Clone, Debug)]
pub struct Document {
    /// From the top of the repository.
    pub path: String,
    /// The path as part of a trial's name.
    pub name: String,
    pub blocks: Vec<Block>,
}

/// A fenced block, or a table of fields.
#[derive(Clone, Debug)]
pub struct Block {
    pub kind: Kind,
    pub text: String,
    /// Where its text begins.
    pub line: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Run, if the client is there that it needs.
    Run(Option<&'static str>),
    NotRun(String),
    /// Written to this file.
    File(String),
    /// Output of the block above.
    Text,
    /// The fields of the JSON that the block above prints: one a line.
    Fields,
    Shown,
    Unknown(String),
}

impl Kind {
    fn parse(info: &str) -> Self {
        let (language, rest) = info.split_once(' ').unwrap_or((info, ""));
        let rest = rest.trim();
        match language {
            "sh" if rest.is_empty() => Self::Run(None),
            "sh" => match rest.split_once(':') {
                Some(("no-run", reason)) => Self::NotRun(reason.trim().into()),
                Some(("needs", client)) => match CLIENTS.iter().find(|known| **known == client.trim()) {
                    Some(client) => Self::Run(Some(client)),
                    None => Self::Unknown(info.into()),
                },
                _ => Self::Unknown(info.into()),
            },
            "text" => Self::Text,
            _ if !SHOWN.contains(&language) => Self::Unknown(info.into()),
            _ => match rest.split_once(':') {
                Some(("file", name)) => Self::File(name.trim().into()),
                _ => Self::Shown,
            },
        }
    }
}

impl Document {
    pub fn read(root: &Path, path: &str) -> Self {
        let text = fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        let name = path.trim_end_matches(".md").replace('/', "::");
        Self { path: path.into(), name, blocks: blocks(&text) }
    }

    /// Whether anything is run with `client`, or without any.
    pub fn has_commands(&self, client: Option<&'static str>) -> bool {
        self.blocks.iter().any(|block| block.kind == Kind::Run(client))
    }

    pub fn clients(&self) -> Vec<&'static str> {
        CLIENTS.into_iter().filter(|client| self.has_commands(Some(client))).collect()
    }
}

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = text.lines().enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        if let Some(info) = line.trim_start().strip_prefix("```") {
            let indent = line.len() - line.trim_start().len();
            let text = lines.by_ref().map(|(_, line)| line).take_while(|line| line.trim() != "```");
            let text = text.map(|line| line.get(indent..).unwrap_or("").to_owned() + "\n").collect();
            blocks.push(Block { kind: Kind::parse(info.trim()), text, line: number + 2 });
        } else if line.starts_with("| field |") {
            let mut text = String::new();
            while let Some((_, row)) = lines.next_if(|(_, line)| line.starts_with('|')) {
                text += row;
                text += "\n";
            }
            blocks.push(Block { kind: Kind::Fields, text, line: number + 1 });
        }
    }
    blocks
}
