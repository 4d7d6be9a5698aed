//! The reference is complete.

use std::{collections::BTreeSet, fs, path::Path};

use libtest_mimic::Failed;
use regex::Regex;

use super::root;
use crate::harness::{finish, ocipfs};

/// Options that every program has.
const STANDARD: [&str; 2] = ["--help", "--version"];

/// Each flag of `serve` is in `docs/settings.md`, and that names no other.
pub fn every_setting_is_documented() -> Result<(), Failed> {
    let flag = Regex::new(r"--[a-z][a-z-]+")?;
    let flags =
        |text: &str| flag.find_iter(text).map(|found| found.as_str().to_owned()).collect::<BTreeSet<_>>();
    let help = help(&["serve"]);
    let options = help.lines().filter(|line| line.trim_start().starts_with('-')).collect::<String>();
    let documented = flags(&fs::read_to_string(root().join("docs/settings.md"))?);
    let there = flags(&options).into_iter().filter(|flag| !STANDARD.contains(&flag.as_str())).collect();
    compare("docs/settings.md", &there, &documented)
}

/// Each variable of the tests is in `CONTRIBUTING.md`, and that names no other.
pub fn every_variable_of_the_tests_is_documented() -> Result<(), Failed> {
    let variable = Regex::new(r"OCIPFS_TEST_[A-Z_]*[A-Z]")?;
    let variables =
        |text: &str| variable.find_iter(text).map(|found| found.as_str().to_owned()).collect::<BTreeSet<_>>();
    let mut there = BTreeSet::new();
    for folder in ["src", "crates", "tests", "benches"] {
        sources(&root().join(folder), &mut |text| there.extend(variables(text)))?;
    }
    compare("CONTRIBUTING.md", &there, &variables(&fs::read_to_string(root().join("CONTRIBUTING.md"))?))
}

/// Reads the sources below a folder.
fn sources(folder: &Path, each: &mut impl FnMut(&str)) -> Result<(), Failed> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() && !path.ends_with("node_modules") {
            sources(&path, each)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            each(&fs::read_to_string(path)?);
        }
    }
    Ok(())
}

/// Each command that prints a result has a section in `docs/json.md`.
pub fn the_json_output_of_every_command_is_documented() -> Result<(), Failed> {
    let text = fs::read_to_string(root().join("docs/json.md"))?;
    let heading = Regex::new(r"(?m)^##+ (.*)$")?;
    let command = Regex::new(r"`ocipfs ([^`]+)`")?;
    let documented = heading.captures_iter(&text).flat_map(|heading| {
        command.captures_iter(&heading[1]).map(|found| found[1].to_owned()).collect::<Vec<_>>()
    });
    let mut there = BTreeSet::new();
    leaves(&[], &mut there);
    let without = ["completions", "man"];
    there.retain(|command| !without.iter().any(|other| command.starts_with(other)));
    compare("docs/json.md", &there, &documented.collect())
}

/// Commands that have no further ones.
fn leaves(above: &[&str], found: &mut BTreeSet<String>) {
    let help = help(above);
    let listed =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let mut names = listed.filter(|line| line.starts_with("  ") && !line.starts_with("   ")).peekable();
    if names.peek().is_none() {
        found.insert(above.join(" "));
    }
    for name in names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help") {
        leaves(&[above, &[name]].concat(), found);
    }
}

fn help(command: &[&str]) -> String {
    let dir = tempfile::tempdir().expect("a directory");
    finish(ocipfs(dir.path()).args(command).arg("--help")).stdout
}

fn compare(document: &str, there: &BTreeSet<String>, documented: &BTreeSet<String>) -> Result<(), Failed> {
    let missing: Vec<_> = there.difference(documented).collect();
    let surplus: Vec<_> = documented.difference(there).collect();
    if missing.is_empty() && surplus.is_empty() {
        return Ok(());
    }
    Err(format!("{document} lacks {missing:?}, and has {surplus:?}, which are not there").into())
}
