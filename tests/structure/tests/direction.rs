//! The layers of ocipfs: imports go down, without circles, and files stay small.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use ocipfs_structure::Crate;

/// The rooms of `src`, from the top: a room imports from those below it. Rooms of one line do not know each other.
const LAYERS: &[&[&str]] = &[
    &["cli"],
    &["admin"],
    &["page"],
    &["control", "registry", "rpc"],
    &["http"],
    &["gateway", "names"],
    &["images"],
    &["content"],
    &["signatures"],
    &["access", "memory", "allocator", "http_client"],
];
/// The crates, and the crates of this workspace that each builds on.
const CRATES: &[(&str, &[&str])] = &[
    ("libp2p-pnet", &[]),
    ("libp2p-yamux", &[]),
    ("ocipfs", &["ocipfs-node", "ocipfs-oci", "ocipfs-unixfs"]),
    ("ocipfs-bitswap", &["ocipfs-block"]),
    ("ocipfs-block", &[]),
    ("ocipfs-node", &["libp2p-pnet", "libp2p-yamux", "ocipfs-bitswap", "ocipfs-block"]),
    ("ocipfs-oci", &[]),
    ("ocipfs-unixfs", &["ocipfs-block"]),
    ("webpki-roots", &[]),
];
/// Circles that may stay: a directory's editor makes shards, and a shard's entries are directories again.
const ALLOWED_CIRCLES: &[&[&str]] = &[&["directory::editor", "directory::shard"]];
const MAX_FILE_LINES: usize = 400;
const MAX_FUNCTION_LINES: usize = 59;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn crates() -> Vec<(String, Crate)> {
    let below = fs::read_dir(root().join("crates")).unwrap().map(|entry| entry.unwrap().path());
    let named = |dir: &Path| dir.strip_prefix(root()).unwrap().display().to_string();
    let all = [root()].into_iter().chain(below).filter(|dir| dir.join("src/lib.rs").exists());
    all.map(|dir| (named(&dir), Crate::read(&dir.join("src")))).collect()
}

#[test]
fn imports_between_rooms_go_down() {
    let rank: BTreeMap<&str, usize> = LAYERS
        .iter()
        .enumerate()
        .flat_map(|(rank, rooms)| rooms.iter().map(move |room| (*room, rank)))
        .collect();
    let all = Crate::read(&root().join("src"));
    let rooms: BTreeSet<&str> =
        all.modules().filter(|(path, _)| !path.is_empty()).map(|(path, _)| room(path)).collect();
    assert_eq!(rooms, rank.keys().copied().collect(), "a room has no layer, or a layer no room");
    let imports = all.imports();
    let goes_up = |(from, to): &&(String, String)| {
        !from.is_empty() && !to.is_empty() && room(from) != room(to) && rank[room(from)] >= rank[room(to)]
    };
    let up: Vec<_> = imports.iter().filter(goes_up).collect();
    assert!(imports.len() > 300, "only {} imports were found", imports.len());
    assert!(up.is_empty(), "imports that go up: {up:#?}");
}

fn room(module: &str) -> &str {
    module.split("::").next().unwrap_or_default()
}

#[test]
fn no_modules_import_each_other_in_a_circle() {
    let mut circles = Vec::new();
    for (name, all) in crates() {
        circles.extend(all.circles().into_iter().map(|circle| (name.clone(), circle)));
    }
    circles.retain(|(_, circle)| {
        !ALLOWED_CIRCLES.contains(&&circle.iter().map(String::as_str).collect::<Vec<_>>()[..])
    });
    assert!(circles.is_empty(), "{circles:#?}");
}

#[test]
fn files_and_functions_stay_small() {
    let (mut long, mut files) = (Vec::new(), Vec::new());
    // Those of the tests, too.
    ["src", "crates", "tests", "benches"].iter().for_each(|dir| rust_files(&root().join(dir), &mut files));
    assert!(files.len() > 500, "only {} files were found", files.len());
    for file in &files {
        let lines = fs::read_to_string(file).unwrap().lines().count();
        if lines > MAX_FILE_LINES {
            long.push(format!("{} has {lines} lines", file.strip_prefix(root()).unwrap().display()));
        }
    }
    for (_, all) in crates() {
        for (_, module) in all.modules() {
            let file = module.file.strip_prefix(root()).unwrap().display();
            let functions = module.functions.iter().filter(|function| function.lines > MAX_FUNCTION_LINES);
            long.extend(
                functions.map(|function| format!("{file}: {} has {} lines", function.name, function.lines)),
            );
        }
    }
    assert!(long.is_empty(), "{long:#?}");
}

fn rust_files(dir: &Path, files: &mut Vec<PathBuf>) {
    for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() && !path.is_symlink() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|end| end == "rs") {
            files.push(path);
        }
    }
}

#[test]
fn crates_depend_on_each_other_in_one_direction() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let name = |value: &serde_json::Value| value["name"].as_str().unwrap().to_owned();
    let is_below = |package: &&serde_json::Value| {
        let manifest = Path::new(package["manifest_path"].as_str().unwrap());
        let dir = manifest.parent().unwrap().strip_prefix(root()).unwrap();
        dir == Path::new("") || dir.starts_with("crates")
    };
    let ours = packages.iter().filter(is_below);
    let found: BTreeMap<String, BTreeSet<String>> = ours
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap().iter();
            let used = dependencies.filter(|dependency| dependency["kind"].is_null()).map(name);
            (
                name(package),
                used.filter(|name| packages.iter().any(|package| package["name"] == **name)).collect(),
            )
        })
        .collect();
    let expected =
        CRATES.iter().map(|(name, on)| ((*name).to_owned(), on.iter().map(|on| (*on).to_owned()).collect()));
    assert_eq!(found, expected.collect());
}
