use std::{
    fmt::Write,
    path::{Path, PathBuf},
};

use clap::{Command, CommandFactory};

use super::Cli;

mod instances;

/// All commands, each with its full name.
fn commands() -> Vec<Command> {
    fn collect(command: &Command, all: &mut Vec<Command>) {
        all.push(command.clone());
        command.get_subcommands().filter(|one| one.get_name() != "help").for_each(|one| collect(one, all));
    }
    let mut root = Cli::command().term_width(100);
    root.build();
    let mut all = Vec::new();
    collect(&root, &mut all);
    all
}

#[test]
fn the_command_tree_is_valid() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_has_an_example() {
    for command in commands().iter().filter(|command| !command.has_subcommands()) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(help.contains("Examples:\n  "), "{:?}", command.get_bin_name());
    }
}

/// The language of the command line is reviewed by reading this snapshot.
#[test]
fn the_help_of_all_commands_is_as_reviewed() {
    let mut text = String::new();
    for mut command in commands() {
        let name = command.get_bin_name().unwrap_or("ocipfs").to_owned();
        let is_root = name == "ocipfs";
        // Variables may be set where the test runs, and the global options are shown once.
        command = command.mut_args(|arg| arg.hide_env_values(true)).mut_args(|arg| {
            let hidden = arg.is_global_set() && !is_root;
            arg.hide(hidden)
        });
        let help = command.render_long_help().to_string();
        let _ = writeln!(text, "=== {name}\n\n{}\n", help.trim_end());
    }
    insta::assert_snapshot!("help", text);
}

/// The language of errors, hints and log lines is reviewed by reading these snapshots: they hold every text in the source.
#[test]
fn error_hint_and_log_texts_are_as_reviewed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    ["src", "crates"].iter().for_each(|dir| sources(&root.join(dir), &mut files));
    files.sort();
    let literal = r#""(?:[^"\\]|\\.)*""#;
    for (snapshot, pattern) in [
        (
            "errors",
            format!(
                r"#\[error\(({literal})[^\]]*\)\]\s*(?:\#\[[^\]]*\]\s*)*(?:pub(?:\(\w+\))?\s+)?(?:struct\s+)?(\w+)"
            ),
        ),
        (
            "answers",
            format!(r"Error::(?:failed|client|request|Invalid|NotAcceptable)\((?:format!\()?\s*({literal})"),
        ),
        ("failures", format!(r"Failure::new\((?:format!\()?\s*({literal})")),
        ("hints", format!(r"hint\((?:&?format!\()?\s*({literal})")),
        ("log", format!(r"tracing::(?:info|warn|error)!\([^;]*?({literal})[^;]*\);")),
    ] {
        let pattern = regex::Regex::new(&pattern).unwrap();
        let mut text = String::new();
        for path in &files {
            let source = std::fs::read_to_string(path).unwrap();
            let mut found = pattern.captures_iter(&source).peekable();
            if found.peek().is_some() {
                let _ = writeln!(text, "{}", path.strip_prefix(root).unwrap().display());
            }
            for captures in found {
                let name = captures.get(2).map_or(String::new(), |name| format!("{}: ", name.as_str()));
                let _ = writeln!(text, "    {name}{}", &captures[1]);
            }
        }
        insta::assert_snapshot!(snapshot, text);
    }
}

/// The Rust files below a directory that are no tests.
fn sources(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        match path.is_dir() {
            true if name != "tests" => sources(&path, files),
            false if name.ends_with(".rs") && name != "tests.rs" => files.push(path),
            _ => {}
        }
    }
}

/// The language of errors, with values in them, is reviewed by reading this snapshot.
#[test]
fn one_instance_of_every_error_variant_is_as_reviewed() {
    insta::assert_snapshot!("error_instances", instances::texts());
}
