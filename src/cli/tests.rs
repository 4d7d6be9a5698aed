use std::fmt::Write;

use clap::{Command, CommandFactory};

use super::Cli;

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
fn the_command_tree_is_sound() {
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
