//! Shell completions and manual pages, made from the commands themselves.

use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, Exit, output::write};
use crate::control::Failure;

const NAME: &str = "ocipfs";

/// Print the completions for a shell
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ocipfs completions bash > /etc/bash_completion.d/ocipfs
  ocipfs completions zsh > ~/.zfunc/_ocipfs
  ocipfs completions fish > ~/.config/fish/completions/ocipfs.fish")]
pub struct Completions {
    /// The shell
    shell: Shell,
}

/// Print the manual page, or write the pages of all commands to a directory
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ocipfs man | man -l -
  ocipfs man /usr/local/share/man/man1           ocipfs.1, ocipfs-serve.1 and so on")]
pub struct Man {
    /// An existing directory
    dir: Option<PathBuf>,
}

pub fn completions(Completions { shell }: Completions) -> Result<(), Exit> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), NAME, &mut script);
    write(&script);
    Ok(())
}

pub fn man(Man { dir }: Man) -> Result<(), Exit> {
    match dir {
        Some(dir) => {
            let written = clap_mangen::generate_to(Cli::command(), &dir);
            let failed = |e| Failure::new(format!("cannot write manual pages to {}: {e}", dir.display()));
            Ok(written.map_err(|e| failed(e).hint("name an existing directory"))?)
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page).map_err(Failure::new)?;
            write(&page);
            Ok(())
        }
    }
}
