//! The variables `OCIPFS_*`: an empty one counts as unset, an unknown one is an error.

use std::{env, ffi::OsString};

use clap::{Arg, Command, builder::Resettable};

use super::nearest;
use crate::{cli::Exit, control::Failure};

const PREFIX: &str = "OCIPFS_";
/// Variables of the project's tests, which commands are run with.
const OF_TESTS: [&str; 2] = ["OCIPFS_TEST_", "OCIPFS_REQUIRE_CLIENTS"];

/// Lets a command and its subcommands take no notice of variables that are empty.
pub fn without_empty(command: Command) -> Command {
    let unset = |arg: Arg| {
        let empty = arg.get_env().and_then(env::var_os).is_some_and(|value| value.is_empty());
        if empty { arg.env(Resettable::Reset) } else { arg }
    };
    command.mut_args(unset).mut_subcommands(without_empty)
}

/// Refuses a variable that no flag of `command` or its subcommands has: a typo would be ignored in silence.
pub fn check(command: &Command) -> Result<(), Exit> {
    let mut known = Vec::new();
    collect(command, &mut known);
    unknown(env::vars_os().map(|(name, _)| name), &known)
}

fn collect(command: &Command, known: &mut Vec<String>) {
    known.extend(command.get_arguments().filter_map(Arg::get_env).map(|name| name.to_string_lossy().into()));
    command.get_subcommands().for_each(|subcommand| collect(subcommand, known));
}

fn unknown(variables: impl Iterator<Item = OsString>, known: &[String]) -> Result<(), Exit> {
    for name in variables.map(|name| name.to_string_lossy().into_owned()) {
        let is_ours = name.starts_with(PREFIX) && !OF_TESTS.iter().any(|prefix| name.starts_with(prefix));
        if is_ours && !known.contains(&name) {
            let hint = match nearest(
                &name[PREFIX.len()..],
                known.iter().filter_map(|known| known.strip_prefix(PREFIX)),
            ) {
                Some(known) => format!("did you mean {PREFIX}{known}?"),
                None => "`ocipfs serve --help` lists all variables".into(),
            };
            let message = format!("unknown environment variable {name}");
            return Err(Exit::Usage(Failure::new(message).hint(hint)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn a_misspelt_environment_variable_is_an_error_with_a_suggestion() {
        let mut known = Vec::new();
        collect(&Cli::command(), &mut known);
        let check = |name: &str| unknown([OsString::from(name)].into_iter(), &known);
        for name in ["OCIPFS_BOOTSTRAP", "OCIPFS_DATA_DIR", "OCIPFS_TEST_KILLS", "PATH", "OCIPF_LISTEN"] {
            assert!(check(name).is_ok(), "{name}");
        }
        let hint = |name: &str| match check(name) {
            Err(Exit::Usage(failure)) => failure.hint.unwrap(),
            other => panic!("{other:?}"),
        };
        assert_eq!(hint("OCIPFS_BOOTSTAP"), "did you mean OCIPFS_BOOTSTRAP?");
        assert_eq!(hint("OCIPFS_LISTN"), "did you mean OCIPFS_LISTEN?");
        assert!(hint("OCIPFS_ZZZZZZZZ").contains("--help"));
    }
}
