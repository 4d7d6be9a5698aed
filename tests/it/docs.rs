//! The documentation is tested: the commands of each document are run as a reader would type them.
//!
//! A fenced `sh` block is run, in the order of the document, by one bash for the whole document. The words after `sh` say more:
//!
//! - `needs: docker`: only where that client is installed, in a trial of its own;
//! - `no-run: REASON`: not run at all.
//!
//! A block of another language with `file: NAME` is written to that file before the next `sh` block is run. A `text` block below a
//! `sh` block is what that prints, with `...` for any text. A table below a `sh` block, whose first column is `field`, lists the
//! fields of the JSON document that it prints.

mod document;
mod paths;
mod reference;
mod shell;

use std::path::{Path, PathBuf};

use libtest_mimic::{Failed, Trial};

use crate::harness::{blocking, client_trial};
use document::{Document, Kind};

const README_WORDS: usize = 700;

pub fn trials() -> Vec<Trial> {
    let documents: Vec<_> = documents().iter().map(|path| Document::read(&root(), path)).collect();
    let mut trials = vec![
        Trial::test("docs::every_path_in_architecture_exists", paths::every_path_in_architecture_exists),
        Trial::test("docs::every_type_in_the_glossary_exists", paths::every_type_in_the_glossary_exists),
        Trial::test(
            "docs::every_link_points_to_a_file_and_a_heading_in_it",
            paths::every_link_points_to_a_file_and_a_heading_in_it,
        ),
        Trial::test("docs::every_setting_is_documented", reference::every_setting_is_documented),
        Trial::test(
            "docs::every_variable_of_the_tests_is_documented",
            reference::every_variable_of_the_tests_is_documented,
        ),
        Trial::test(
            "docs::the_json_output_of_every_command_is_documented",
            reference::the_json_output_of_every_command_is_documented,
        ),
        Trial::test("docs::the_readme_stays_below_its_word_limit", the_readme_stays_below_its_word_limit),
    ];
    for document in documents {
        let name = format!("docs::{}", document.name);
        let checked = document.clone();
        trials.push(Trial::test(format!("{name}::blocks"), move || only_known_blocks(&checked)));
        if document.has_commands(None) {
            trials.push(run(&name, &document, None));
        }
        for client in document.clients() {
            trials.push(run(&format!("{name}::{client}"), &document, Some(client)));
        }
    }
    trials
}

/// A trial of the blocks that need no client, and where `client` is given, of its blocks among them.
fn run(name: &str, document: &Document, client: Option<&'static str>) -> Trial {
    let document = document.clone();
    client_trial(name, shell::available(client), move || blocking(move || shell::run(&document, client)))
}

fn root() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

/// All documents, from the top of the repository.
fn documents() -> Vec<String> {
    let mut all: Vec<String> =
        ["README.md", "CONTRIBUTING.md", "SECURITY.md", "bootstrap/README.md", "example/README.md"]
            .map(Into::into)
            .into();
    let mut docs = Vec::new();
    files_below(&root().join("docs"), "md", &mut docs);
    all.extend(
        docs.iter().map(|path| path.strip_prefix(root()).expect("below the root").display().to_string()),
    );
    all.sort();
    all
}

/// Adds the files below a directory that have this extension.
fn files_below(dir: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files_below(&path, extension, found);
        } else if path.extension().is_some_and(|its| its == extension) {
            found.push(path);
        }
    }
}

/// A command that stands in a block of another kind would never be run, so it is refused.
fn only_known_blocks(document: &Document) -> Result<(), Failed> {
    for block in &document.blocks {
        let at = format!("{}:{}", document.path, block.line);
        match &block.kind {
            Kind::Unknown(info) => return Err(format!("{at}: unknown kind of block: {info:?}").into()),
            Kind::NotRun(reason) if reason.is_empty() => {
                return Err(format!("{at}: no-run without a reason").into());
            }
            Kind::Text if block.text.lines().any(|line| line.starts_with("$ ")) => {
                return Err(format!("{at}: a command in a block that is not run").into());
            }
            _ => {}
        }
    }
    Ok(())
}

fn the_readme_stays_below_its_word_limit() -> Result<(), Failed> {
    let words = std::fs::read_to_string(root().join("README.md"))?.split_whitespace().count();
    if words > README_WORDS { Err(format!("{words} words, more than {README_WORDS}").into()) } else { Ok(()) }
}
