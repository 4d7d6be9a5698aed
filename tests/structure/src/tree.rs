//! The modules of a crate, by path.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use crate::imports::{File, Function};

/// A crate's modules, without its tests.
pub struct Crate {
    modules: BTreeMap<String, Module>,
}

/// A module that has a file of its own.
pub struct Module {
    pub file: PathBuf,
    pub functions: Vec<Function>,
    /// Paths that the module uses, from the root of the crate.
    uses: BTreeSet<Vec<String>>,
    /// Names that the module imports, and from where.
    imported: BTreeMap<String, Vec<String>>,
}

impl Crate {
    /// Reads the files below `src`. Test modules (`tests.rs`, `tests/`, and modules behind `#[cfg(test)]`) are left out.
    pub fn read(src: &Path) -> Self {
        let mut modules = BTreeMap::new();
        read(src, &src.join("lib.rs"), &[], &mut modules);
        assert!(modules.len() > 1, "no modules below {}", src.display());
        Self { modules }
    }

    /// Returns the modules that have files, by path (`a::b`).
    pub fn modules(&self) -> impl Iterator<Item = (&str, &Module)> {
        self.modules.iter().map(|(path, module)| (path.as_str(), module))
    }

    /// Returns all imports from one module to another, as paths of modules.
    pub fn imports(&self) -> BTreeSet<(String, String)> {
        let mut imports = BTreeSet::new();
        for (from, module) in &self.modules {
            for used in &module.uses {
                let to = self.module_of(used, 0);
                if to != *from {
                    imports.insert((from.clone(), to));
                }
            }
        }
        imports
    }

    /// Returns the groups of sibling modules, each with what is below it, that import each other in a circle.
    pub fn circles(&self) -> Vec<Vec<String>> {
        let imports = self.imports();
        let mut circles = Vec::new();
        for parent in self.modules.keys() {
            let children: Vec<&String> = self.modules.keys().filter(|path| is_child(parent, path)).collect();
            let child_of = |path: &str| children.iter().position(|child| is_within(child, path));
            let arrows: BTreeSet<(usize, usize)> = imports
                .iter()
                .filter_map(|(from, to)| Some((child_of(from)?, child_of(to)?)))
                .filter(|(from, to)| from != to)
                .collect();
            let mut done = BTreeSet::new();
            for child in 0..children.len() {
                let below = reachable(&arrows, child);
                let circle: Vec<usize> =
                    below.into_iter().filter(|other| reachable(&arrows, *other).contains(&child)).collect();
                if circle.len() > 1 && done.insert(circle.clone()) {
                    circles.push(circle.iter().map(|child| children[*child].clone()).collect());
                }
            }
        }
        circles
    }

    /// Returns the module that defines the last name of a path; a name that a module imports is searched where it comes
    /// from.
    fn module_of(&self, path: &[String], depth: usize) -> String {
        for length in (0..=path.len()).rev() {
            let name = path[..length].join("::");
            let Some(module) = self.modules.get(&name) else { continue };
            let imported = path.get(length).and_then(|name| module.imported.get(name));
            return match imported {
                Some(origin) if depth < 8 && origin[..] != *path => self.module_of(origin, depth + 1),
                _ => name,
            };
        }
        String::new()
    }
}

fn is_child(parent: &str, path: &str) -> bool {
    let below = match parent {
        "" => Some(path),
        _ => path.strip_prefix(parent).and_then(|rest| rest.strip_prefix("::")),
    };
    below.is_some_and(|below| !below.is_empty() && !below.contains("::"))
}

fn is_within(module: &str, path: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Returns what the arrows lead to from `from`, over one or several.
fn reachable(arrows: &BTreeSet<(usize, usize)>, from: usize) -> BTreeSet<usize> {
    let (mut found, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(node) = next.pop() {
        next.extend(
            arrows
                .iter()
                .filter(|(start, _)| *start == node)
                .map(|(_, end)| *end)
                .filter(|end| found.insert(*end)),
        );
    }
    found
}

fn read(dir: &Path, file: &Path, path: &[String], modules: &mut BTreeMap<String, Module>) {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let parsed = File::parse(&text, path).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    for child in &parsed.modules {
        let child_path: Vec<String> = path.iter().cloned().chain([child.clone()]).collect();
        let (flat, nested) = (dir.join(format!("{child}.rs")), dir.join(child).join("mod.rs"));
        let child_file = if flat.exists() { flat } else { nested };
        read(&dir.join(child), &child_file, &child_path, modules);
    }
    let File { functions, uses, imported, .. } = parsed;
    let module = Module { file: file.into(), functions, uses, imported };
    modules.insert(path.join("::"), module);
}
