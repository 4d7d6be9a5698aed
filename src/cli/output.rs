//! What people and scripts see: results on stdout, notes and progress on stderr.

use std::{borrow::Cow, io::Write};

use serde::Serialize;

use super::{
    Exit, Global,
    progress::{ProgressView, write_note},
};
use crate::control::{Failure, Note};

/// Prints a line of the result.
macro_rules! outln {
    ($($argument:tt)*) => { $crate::cli::output::write_line(format_args!($($argument)*)) };
}

/// Writes a line to stdout.
pub fn write_line(line: std::fmt::Arguments<'_>) {
    write(format!("{line}\n").as_bytes());
}

/// Writes to stdout. If its reader has closed the pipe, as `head` does, the command ends without an error.
pub fn write(bytes: &[u8]) {
    match std::io::stdout().write_all(bytes) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => {
            eprintln!("error: cannot write the result: {error}");
            std::process::exit(1);
        }
        Ok(()) => {}
    }
}

/// Notes on the way to a result.
pub struct Output {
    quiet: bool,
    progress: ProgressView,
}

impl Output {
    pub fn new(global: &Global) -> Self {
        Self { quiet: global.quiet, progress: ProgressView::new(global) }
    }

    pub fn note(&mut self, note: Note) {
        match note {
            Note::Warning(text) if !self.quiet => {
                self.progress.suspend(|| eprintln!("warning: {}", printable(&text)));
            }
            Note::Warning(_) => {}
            Note::Progress(mut progress) => {
                // The node may be another user's.
                progress.phase = printable(&progress.phase).into_owned();
                self.progress.update(progress);
            }
        }
    }

    /// Prints how far the command is, where it is not shown otherwise.
    pub fn tick(&self) {
        if let Some(line) = self.progress.line() {
            write_note(format_args!("{line}"));
        }
    }

    pub fn finish(&mut self) {
        self.progress.finish();
    }
}

/// A text that peers may have chosen, without what a terminal would take for a command: control characters are escaped,
/// and those that turn the direction of writing.
pub fn printable(text: &str) -> Cow<'_, str> {
    let is_command = |c: char| {
        c.is_control()
            || matches!(c, '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(is_command) {
        return text.into();
    }
    let mut escaped = String::new();
    for c in text.chars() {
        match is_command(c) {
            true => escaped.extend(c.escape_default()),
            false => escaped.push(c),
        }
    }
    escaped.into()
}

/// The same for a text of several lines.
pub fn printable_lines(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

/// Prints a result whose last line is what a script wants.
pub fn print(
    global: &Global,
    value: &impl Serialize,
    last: &str,
    details: impl FnOnce(),
) -> Result<(), Exit> {
    print_all(global, value, || {
        if !global.quiet {
            details();
        }
        outln!("{last}");
    })
}

/// Prints a result that is a table.
pub fn print_all(global: &Global, value: &impl Serialize, text: impl FnOnce()) -> Result<(), Exit> {
    match global.json {
        true => outln!("{}", serde_json::to_string_pretty(value).map_err(Failure::new)?),
        false => text(),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn terminal_escapes_of_peers_are_printed_as_text() {
        for plain in ["", "/ipfs/bafy/Grüße", "a \\ b"] {
            assert_eq!(printable(plain), plain);
        }
        assert_eq!(printable("\x1b]0;owned\x07\n"), "\\u{1b}]0;owned\\u{7}\\n");
        assert_eq!(printable("a\u{9b}31m\u{202e}b"), "a\\u{9b}31m\\u{202e}b");
    }
}
