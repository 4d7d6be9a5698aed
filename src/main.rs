use std::process::ExitCode;

use clap::Parser;
use ocipfs::cli::{Cli, Exit};

fn main() -> ExitCode {
    keep_freed_memory();
    let cli = Cli::parse();
    let outcome = ocipfs::cli::run(cli);
    if let Err(Exit::Usage(failure) | Exit::Failed(failure)) = &outcome {
        eprintln!("error: {failure}");
        if let Some(hint) = &failure.hint {
            eprintln!("hint: {hint}");
        }
    }
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Exit::Failed(_)) => ExitCode::from(1),
        Err(Exit::Usage(_)) => ExitCode::from(2),
    }
}

/// The connections allocate and free each frame that comes, and glibc would give such memory back to the kernel at once:
/// a tenth of a fetch went into having it again.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn keep_freed_memory() {
    // SAFETY: it only sets numbers of the allocator, before any other thread exists.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, 16 << 20);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 8 << 20);
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn keep_freed_memory() {}
