use std::{
    fmt::Write,
    ops::Range,
    path::{Path, PathBuf},
};

use clap::{Command, CommandFactory};
use regex::Regex;

use super::{Cli, Exit};
use crate::control::Failure;

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

/// As JSON it has the fields of every other error.
#[test]
fn a_wrong_command_line_is_an_error_with_a_hint() {
    let failure =
        |arguments: &[&str]| match Cli::command().try_get_matches_from(arguments).unwrap_err().into() {
            Exit::Usage(Failure { message, hint }) => (message, hint.unwrap_or_default()),
            exit @ Exit::Failed(_) => panic!("{exit:?}"),
        };
    let (message, hint) = failure(&["ocipfs", "serve", "--folow", "x"]);
    assert_eq!(message, "unexpected argument '--folow' found");
    assert_eq!(hint, "a similar argument exists: '--follow'");
    let (message, hint) = failure(&["ocipfs", "name", "resolve"]);
    assert!(message.contains("required arguments were not provided:\n  <"), "{message}");
    assert!(hint.starts_with("Usage: ocipfs name resolve"), "{hint}");
    assert_eq!(
        failure(&["ocipfs", "name"]),
        ("a subcommand is missing".into(), "`--help` lists them".into())
    );
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

/// The language of errors, hints, answers and log lines is reviewed by reading these snapshots: they hold every text in the source.
/// What is in none of the first two, and has three words or more, is in the third.
#[test]
fn error_hint_and_log_texts_are_as_reviewed() {
    let error = Regex::new(&format!(
        r"#\[error\(\s*({LITERAL})[^\]]*\)\]\s*(?:\#\[[^\]]*\]\s*)*(?:pub(?:\(\w+\))?\s+)?(?:struct\s+)?(\w+)"
    ));
    let error = error.unwrap();
    let (mut errors, mut log, mut texts) = (String::new(), String::new(), String::new());
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for path in sources(root) {
        let source = std::fs::read_to_string(&path).unwrap();
        let source = without_tests(&source);
        let path = path.strip_prefix(root).unwrap();
        let of_errors = error.captures_iter(source).map(|found| (found.get(1).unwrap(), found[2].to_owned()));
        let of_errors: Vec<_> = of_errors.map(|(text, name)| (text.range(), format!("{name}: "))).collect();
        let of_log: Vec<_> = messages(source).into_iter().map(|range| (range, String::new())).collect();
        let listed =
            |at: &Range<usize>| of_errors.iter().chain(&of_log).any(|(range, _)| range.start == at.start);
        let is_other = |at: &Range<usize>| !listed(at) && is_text(source, at);
        let others = literals(source).into_iter().filter(is_other).map(|at| (at, String::new())).collect();
        for (all, found) in [(&mut errors, of_errors), (&mut log, of_log), (&mut texts, others)] {
            if !found.is_empty() {
                let _ = writeln!(all, "{}", path.display());
            }
            for (range, name) in found {
                let _ = writeln!(all, "    {name}{}", &source[range]);
            }
        }
    }
    insta::assert_snapshot!("errors", errors);
    insta::assert_snapshot!("log", log);
    insta::assert_snapshot!("texts", texts);
}

const LITERAL: &str = r#"(?s:"(?:[^"\\]|\\.)*")"#;

/// Whether a literal is a text that users may read: three words, and neither a part of the help nor a reason why something
/// cannot happen.
fn is_text(source: &str, literal: &Range<usize>) -> bool {
    let words =
        source[literal.clone()].split_whitespace().filter(|word| word.chars().any(char::is_alphabetic));
    let before = source[..literal.start].trim_end();
    words.count() >= 3 && !before.ends_with("expect(") && !before.ends_with("help =")
}

/// The string literals of a source; quotes in comments and in characters begin none.
fn literals(source: &str) -> Vec<Range<usize>> {
    let tokens = Regex::new(&format!(
        r##"//[^\n]*|(?s:/\*.*?\*/)|\br#"(?s:.*?)"#|\br"[^"]*"|({LITERAL})|b?'(?:[^'\\\n]|\\[^\n]+?)'"##
    ));
    let tokens = tokens.unwrap();
    tokens.captures_iter(source).filter_map(|token| Some(token.get(1)?.range())).collect()
}

/// The messages of the log macros, which are the first of their arguments that are literals.
fn messages(source: &str) -> Vec<Range<usize>> {
    let begin = Regex::new(r"tracing::(?:info|warn|error)!\(").unwrap();
    let literal = Regex::new(LITERAL).unwrap();
    let mut found = Vec::new();
    for start in begin.find_iter(source).map(|begin| begin.end()) {
        let (mut at, mut depth, mut is_argument) = (start, 1, true);
        while depth > 0 && at < source.len() {
            let text = literal.find_at(source, at).filter(|text| text.start() == at);
            if let Some(text) = text {
                if depth == 1 && is_argument {
                    found.push(text.range());
                    break;
                }
                at = text.end();
                continue;
            }
            let next = source[at..].chars().next().unwrap();
            match next {
                '(' | '[' | '{' => depth += 1,
                ')' | ']' | '}' => depth -= 1,
                _ => {}
            }
            is_argument = next == ',' || is_argument && next.is_whitespace();
            at += next.len_utf8();
        }
    }
    found
}

/// A file without its unit tests.
fn without_tests(source: &str) -> &str {
    source.split("#[cfg(test)]\nmod tests {").next().unwrap()
}

/// Whether the name of a file says that only tests use it.
fn is_test(name: &str) -> bool {
    ["test.rs", "tests.rs", "model.rs", "fixtures.rs", "simulated.rs"].contains(&name)
}

/// The Rust files of the program and of its crates that are no tests.
fn sources(root: &Path) -> Vec<PathBuf> {
    fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            match path.is_dir() {
                true if !matches!(name, "tests" | "examples" | "simulation") => collect(&path, files),
                false if name.ends_with(".rs") && !is_test(name) => files.push(path),
                _ => {}
            }
        }
    }
    let mut files = Vec::new();
    ["src", "crates"].iter().for_each(|dir| collect(&root.join(dir), &mut files));
    files.sort();
    files
}

/// The language of errors, with values in them, is reviewed by reading this snapshot.
#[test]
fn one_instance_of_every_error_variant_is_as_reviewed() {
    insta::assert_snapshot!("error_instances", instances::texts());
}
