//! SIGINT and SIGTERM, which must not leave children behind.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
};

/// Flag that is set when the user interrupts the run.
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    pub fn watch() -> Self {
        let came = Arc::<AtomicBool>::default();
        let set = came.clone();
        thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let (mut interrupt, mut terminate) =
                    (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                set.store(true, Ordering::Relaxed);
                std::io::Result::Ok(())
            })
        });
        Self(came)
    }

    pub fn came(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
