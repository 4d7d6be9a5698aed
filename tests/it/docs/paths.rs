//! Paths that documents name exist.

use std::{collections::BTreeSet, fs};

use libtest_mimic::Failed;
use regex::Regex;

use super::{documents, files_below, root};

/// Directories at the top of the repository, or a file that is named there alone.
const PATH: &str = r"`((?:\.ci|benches|bootstrap|crates|docs|example|packaging|src|tests)/[A-Za-z0-9_./-]+)`";
const LINK: &str = r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)";

/// Each path in backticks, with or without `.rs`: `src/registry` is `src/registry.rs`, a directory, or both.
pub fn every_path_in_architecture_exists() -> Result<(), Failed> {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md"))?;
    let path = Regex::new(PATH)?;
    let named: Vec<_> =
        path.captures_iter(&text).map(|found| found[1].trim_end_matches('/').to_owned()).collect();
    if named.len() < 20 {
        return Err(format!("only {} paths are found in ARCHITECTURE.md", named.len()).into());
    }
    let missing: Vec<_> = named
        .iter()
        .filter(|name| !["", ".rs"].iter().any(|end| root().join(format!("{name}{end}")).exists()))
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(format!("ARCHITECTURE.md names what is not there: {missing:?}").into())
    }
}

/// Each type in the last column of the glossary is a type or a module of the code.
pub fn every_type_in_the_glossary_exists() -> Result<(), Failed> {
    let mut names: BTreeSet<String> = ["Cid", "PeerId"].map(Into::into).into();
    let item = Regex::new(r"(?:struct|enum|trait|type) ([A-Z][A-Za-z]+)")?;
    let mut files = Vec::new();
    ["src", "crates"].iter().for_each(|dir| files_below(&root().join(dir), "rs", &mut files));
    for path in &files {
        // A module has the name of its file or of its directory.
        let modules = path.strip_prefix(root())?.with_extension("");
        names.extend(modules.iter().map(|name| name.to_string_lossy().into_owned()));
        names.extend(item.captures_iter(&fs::read_to_string(path)?).map(|item| item[1].to_owned()));
    }
    let glossary = fs::read_to_string(root().join("docs/glossary.md"))?;
    let code = Regex::new("`([A-Za-z_:]+)`")?;
    let columns = glossary.lines().filter_map(|line| line.split('|').nth(3));
    let types: Vec<_> =
        columns.flat_map(|column| code.captures_iter(column).map(|found| found[1].to_owned())).collect();
    let missing: Vec<_> = types
        .iter()
        .filter(|path| path.rsplit("::").next().is_some_and(|name| !names.contains(name)))
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(format!("the glossary names what is not there: {missing:?}").into())
    }
}

/// A link to a heading of a document, too.
pub fn every_link_points_to_a_file_and_a_heading_in_it() -> Result<(), Failed> {
    let link = Regex::new(LINK)?;
    let mut broken = Vec::new();
    for document in documents().into_iter().chain(["ARCHITECTURE.md".into(), "CHANGELOG.md".into()]) {
        let path = root().join(&document);
        let text = fs::read_to_string(&path)?;
        let dir = path.parent().expect("a directory");
        for found in link.captures_iter(&text) {
            let (file, heading) = (&found[1], found.get(2).map(|heading| heading.as_str()));
            if file.contains("://") || file.starts_with("mailto:") {
                continue;
            }
            let target = if file.is_empty() { path.clone() } else { dir.join(file) };
            let is_there = target.exists()
                && match heading {
                    Some(heading) if target.extension().is_some_and(|end| end == "md") => {
                        headings(&fs::read_to_string(&target)?).any(|there| there == heading)
                    }
                    _ => true,
                };
            if !is_there {
                broken.push(format!("{document}: {}", &found[0]));
            }
        }
    }
    if broken.is_empty() { Ok(()) } else { Err(format!("links that lead nowhere: {broken:?}").into()) }
}

/// The names that headings have in links: without punctuation, in lower case, and with `-` for spaces.
fn headings(text: &str) -> impl Iterator<Item = String> {
    let mut is_code = false;
    let outside_code = text.lines().filter(move |line| {
        is_code ^= line.starts_with("```");
        !is_code
    });
    let titles = outside_code.filter(|line| line.starts_with('#'));
    let titles = titles.map(|line| line.trim_start_matches('#').trim());
    titles.map(|title| {
        let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
    })
}
