use std::process::ExitCode;

use clap::Parser;
use ocipfs::cli::{Cli, Exit, printable_lines};

fn main() -> ExitCode {
    ocipfs::allocator::configure();
    let cli = Cli::parse();
    let outcome = ocipfs::cli::run(cli);
    if let Err(Exit::Usage(failure) | Exit::Failed(failure)) = &outcome {
        eprintln!("error: {}", printable_lines(&failure.message));
        if let Some(hint) = &failure.hint {
            eprintln!("hint: {}", printable_lines(hint));
        }
    }
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Exit::Failed(_)) => ExitCode::from(1),
        Err(Exit::Usage(_)) => ExitCode::from(2),
    }
}
