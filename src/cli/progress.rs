//! How far a command is, on stderr: a bar on a terminal, JSON lines with `--json`, otherwise a line every ten seconds.

use std::{
    io::{IsTerminal, Write},
    pin::pin,
    time::Duration,
};

use indicatif::{HumanBytes, HumanCount, HumanDuration, ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::Global;
use crate::control::{Progress, Unit};

/// Time between two lines where stderr is not a terminal.
pub const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Writes a line to stderr. The command goes on without it if its reader is gone or the disk is full.
pub fn write_note(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Shows the phases of an operation, one after the other.
pub struct ProgressView {
    kind: Kind,
    phase: Option<Phase>,
}

/// How progress is shown.
enum Kind {
    Hidden,
    Bar(Option<ProgressBar>),
    Lines,
    Json,
}

/// A phase as it was told last.
struct Phase {
    progress: Progress,
    begun: Instant,
    /// What was done when it began.
    before: u64,
}

/// The line of `--json`.
#[derive(Serialize)]
struct Event<'p> {
    event: &'static str,
    phase: &'p str,
    done: u64,
    total: Option<u64>,
    unit: Unit,
}

impl ProgressView {
    pub fn new(global: &Global) -> Self {
        let kind = match () {
            () if global.quiet => Kind::Hidden,
            () if global.json => Kind::Json,
            () if std::io::stderr().is_terminal() => Kind::Bar(None),
            () => Kind::Lines,
        };
        Self { kind, phase: None }
    }

    /// Takes what was told.
    pub fn update(&mut self, progress: Progress) {
        let is_next = self.phase.as_ref().is_none_or(|phase| phase.progress.phase != progress.phase);
        match &mut self.kind {
            Kind::Hidden => return,
            Kind::Json => write_note(format_args!("{}", event(&progress))),
            Kind::Bar(bar) => {
                if let Some(last) = bar.take_if(|_| is_next) {
                    last.finish_and_clear();
                }
                show(
                    bar.get_or_insert_with(|| {
                        ProgressBar::new_spinner().with_prefix(label(&progress).to_string())
                    }),
                    &progress,
                );
            }
            Kind::Lines => {}
        }
        match &mut self.phase {
            Some(phase) if !is_next => phase.progress = progress,
            phase => *phase = Some(Phase { before: progress.done, progress, begun: Instant::now() }),
        }
    }

    /// Returns the line that is due after [`LINE_INTERVAL`].
    pub fn line(&self) -> Option<String> {
        let is_shown = matches!(self.kind, Kind::Lines);
        self.phase.as_ref().filter(|_| is_shown).map(|phase| phase.line(Instant::now()))
    }

    /// Prints something else without damage to the bar.
    pub fn suspend(&self, print: impl FnOnce()) {
        match &self.kind {
            Kind::Bar(Some(bar)) => bar.suspend(print),
            _ => print(),
        }
    }

    /// Removes the bar.
    pub fn finish(&mut self) {
        if let Kind::Bar(bar) = &mut self.kind
            && let Some(bar) = bar.take()
        {
            bar.finish_and_clear();
        }
    }
}

impl Phase {
    fn line(&self, now: Instant) -> String {
        let Progress { done, total, unit, .. } = self.progress;
        let counted = |count: u64| match unit {
            Unit::Bytes => HumanBytes(count).to_string(),
            Unit::Blocks => format!("{} blocks", HumanCount(count)),
            Unit::Files => format!("{} files", HumanCount(count)),
            Unit::Repositories => format!("{} repositories", HumanCount(count)),
        };
        let seconds = now.saturating_duration_since(self.begun).as_secs_f64();
        let rate = if seconds > 0.0 { done.saturating_sub(self.before) as f64 / seconds } else { 0.0 };
        let of = total.map_or_else(String::new, |total| format!(" of {}", counted(total)));
        let mut line =
            format!("{}: {}{of}, {}/s", label(&self.progress), counted(done), counted(rate as u64));
        if let Some(total) = total.filter(|total| *total > done && rate >= 1.0) {
            let left = Duration::from_secs_f64((total - done) as f64 / rate);
            line.push_str(&format!(", {} left", HumanDuration(left)));
        }
        line
    }
}

/// A node of an earlier version does not say what it does.
fn label(progress: &Progress) -> &str {
    match progress.phase.as_str() {
        "" => "working",
        phase => phase,
    }
}

fn event(progress: &Progress) -> String {
    let Progress { phase, done, total, unit } = progress;
    let event = Event { event: "progress", phase, done: *done, total: *total, unit: *unit };
    serde_json::to_string(&event).unwrap_or_default()
}

fn show(bar: &ProgressBar, progress: &Progress) {
    if bar.length() != progress.total || progress.total.is_none() {
        if let Some(total) = progress.total {
            bar.set_length(total);
        }
        let template = match (progress.total, progress.unit) {
            (Some(_), Unit::Bytes) => "{prefix} {bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
            (Some(_), _) => "{prefix} {bar:40} {human_pos}/{human_len} {per_sec} {eta}",
            (None, Unit::Bytes) => "{prefix} {spinner} {bytes} {bytes_per_sec}",
            (None, _) => "{prefix} {spinner} {human_pos} {per_sec}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
    }
    bar.set_position(progress.done);
    bar.tick();
}

/// Waits for `work`, and calls `each` in every `interval` until it ends.
pub async fn meanwhile<T>(interval: Duration, work: impl Future<Output = T>, mut each: impl FnMut()) -> T {
    let mut work = pin!(work);
    let mut ticks = interval_at(Instant::now() + interval, interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            outcome = &mut work => return outcome,
            _ = ticks.tick() => each(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use tokio::time::sleep;

    use super::*;

    fn lines() -> ProgressView {
        ProgressView { kind: Kind::Lines, phase: None }
    }

    fn told(phase: &str, done: u64, total: Option<u64>, unit: Unit) -> Progress {
        Progress { phase: phase.into(), done, total, unit }
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_terminal_a_line_is_printed_every_ten_seconds() {
        const MIB: u64 = 1 << 20;
        let (view, printed) = (RefCell::new(lines()), RefCell::new(Vec::new()));
        let work = async {
            for second in 0..25 {
                view.borrow_mut().update(told("import", second * MIB, Some(100 * MIB), Unit::Bytes));
                sleep(Duration::from_secs(1)).await;
            }
            "done"
        };
        let outcome =
            meanwhile(LINE_INTERVAL, work, || printed.borrow_mut().extend(view.borrow().line())).await;
        assert_eq!(outcome, "done");
        let printed = printed.into_inner();
        assert_eq!(printed.len(), 2, "{printed:?}");
        assert!(printed[0].starts_with("import: ") && printed[0].contains(" of 100.00 MiB, "), "{printed:?}");
        assert!(printed[0].ends_with(" left"), "{printed:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_operation_is_told_as_well() {
        let (view, printed) = (RefCell::new(lines()), RefCell::new(Vec::new()));
        view.borrow_mut().update(told("fetch", 0, None, Unit::Bytes));
        let work = sleep(Duration::from_secs(31));
        meanwhile(LINE_INTERVAL, work, || printed.borrow_mut().extend(view.borrow().line())).await;
        assert_eq!(printed.into_inner(), ["fetch: 0 B, 0 B/s"; 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_of_a_phase_does_not_include_the_phase_before() {
        let mut view = lines();
        view.update(told("mark", 1000, None, Unit::Blocks));
        sleep(Duration::from_secs(90)).await;
        view.update(told("delete", 0, Some(4000), Unit::Bytes));
        sleep(Duration::from_secs(10)).await;
        view.update(told("delete", 1000, Some(4000), Unit::Bytes));
        let line = view.line().unwrap();
        assert_eq!(line, "delete: 1000 B of 3.91 KiB, 100 B/s, 30 seconds left");
    }

    #[test]
    fn an_event_is_one_line_of_json() {
        let shown = event(&told("mark", 3, None, Unit::Blocks));
        assert_eq!(shown, r#"{"event":"progress","phase":"mark","done":3,"total":null,"unit":"blocks"}"#);
    }

    #[test]
    fn quiet_commands_show_no_progress() {
        let global = Global { quiet: true, json: true, ..Global::default() };
        let mut view = ProgressView::new(&global);
        view.update(told("import", 1, Some(2), Unit::Bytes));
        assert_eq!(view.line(), None);
        assert!(view.phase.is_none());
    }
}
