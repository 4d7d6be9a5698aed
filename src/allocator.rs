//! How glibc's allocator treats freed memory: reused at once, and returned to the kernel when it stays unused.
//!
//! Frames, blocks and database pages of 4 KiB to 1 MiB are allocated and freed by many threads. By default there are eight
//! arenas for each core, and large pages are allocated between small ones that live longer, so resident memory grows to seven
//! times what is in use. The functions do nothing where the allocator is another one.

use std::time::Duration;

use tokio::{task::spawn_blocking, time};
use tokio_util::sync::CancellationToken;

/// How long freed memory stays with the process: long enough that a transfer rarely takes page faults for it.
const TRIM_INTERVAL: Duration = Duration::from_secs(5);

/// Sets the limits of the allocator. Must be called before the first thread is started.
pub fn configure() {
    glibc::configure();
}

/// Returns unused memory to the kernel at intervals, until `stop`.
pub async fn trim(stop: CancellationToken) {
    while time::timeout(TRIM_INTERVAL, stop.cancelled()).await.is_err() {
        if let Err(error) = spawn_blocking(glibc::trim).await {
            tracing::warn!(%error, "unused memory is not returned to the kernel");
            return;
        }
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod glibc {
    use std::{ops::RangeInclusive, thread::available_parallelism};

    /// Arenas for as many cores. By default there are eight for each core.
    const ARENAS: RangeInclusive<usize> = 2..=4;
    /// Free memory at the top of an arena that stays there: the connections allocate and free each frame, and a tenth of a
    /// fetch is page faults where such memory is returned at once.
    const TRIM_THRESHOLD: i32 = 16 << 20;
    /// Larger allocations have mappings of their own. They are blocks, and pages of the database, which in an arena leave
    /// holes that smaller pages break up: a scan of a database of 300 MB took 95 MB instead of 45.
    const MMAP_THRESHOLD: i32 = 256 << 10;

    pub fn configure() {
        let cores = available_parallelism().map_or(*ARENAS.start(), usize::from);
        let arenas = cores.clamp(*ARENAS.start(), *ARENAS.end()) as i32;
        // SAFETY: only sets numbers of the allocator, before any other thread exists.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, arenas);
            libc::mallopt(libc::M_TRIM_THRESHOLD, TRIM_THRESHOLD);
            libc::mallopt(libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD);
        }
    }

    pub fn trim() {
        // SAFETY: takes no pointer, and locks each arena itself.
        unsafe { libc::malloc_trim(0) };
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
mod glibc {
    pub fn configure() {}
    pub fn trim() {}
}
