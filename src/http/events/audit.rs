//! The audit log: one JSON object per line, in a file or on the standard output.

use std::{
    fs::File,
    io::{self, Write, stdout},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use super::Event;
use crate::http::lock::locked;

/// Stands for the standard output.
const STDOUT: &str = "-";

/// Why there is no audit log.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the audit log {path}: {why}")]
pub struct AuditError {
    path: String,
    why: io::Error,
}

impl AuditError {
    /// A file, and the error of the operating system.
    pub fn new(path: &Path, why: io::Error) -> Self {
        Self { path: path.display().to_string(), why }
    }
}

/// An audit log. Clones share it.
#[derive(Clone)]
pub struct Audit(Arc<AuditInner>);

struct AuditInner {
    path: PathBuf,
    /// None for the standard output.
    file: Mutex<Option<AuditFile>>,
}

struct AuditFile {
    file: File,
    /// Whether the last line could not be written: that is logged once.
    is_failing: bool,
}

impl Audit {
    /// Opens a file to append to, which only its owner can read if it is new.
    pub fn open(path: &Path) -> Result<Self, AuditError> {
        let file = match path == Path::new(STDOUT) {
            true => None,
            false => Some(open(path).map_err(|why| AuditError::new(path, why))?),
        };
        Ok(Self(Arc::new(AuditInner { path: path.into(), file: Mutex::new(file) })))
    }

    /// Opens the file again: what rotates logs has renamed it.
    pub fn reopen(&self) {
        let mut file = locked(&self.0.file);
        if file.is_none() {
            return;
        }
        match open(&self.0.path) {
            Ok(opened) => *file = Some(opened),
            Err(why) => tracing::error!("{}; the previous file stays", AuditError::new(&self.0.path, why)),
        }
    }

    /// Appends a line, by one call, so that lines of several processes do not mix.
    pub fn write(&self, event: &Event) {
        let Ok(mut line) = serde_json::to_vec(event) else { return };
        line.push(b'\n');
        let mut file = locked(&self.0.file);
        let Some(AuditFile { file, is_failing }) = &mut *file else {
            let _ = stdout().lock().write_all(&line);
            return;
        };
        let written = file.write_all(&line);
        if let Err(why) = &written
            && !*is_failing
        {
            tracing::error!("cannot write the audit log {}: {why}", self.0.path.display());
        }
        *is_failing = written.is_err();
    }
}

fn open(path: &Path) -> io::Result<AuditFile> {
    let file = File::options().create(true).append(true).mode(0o600).open(path)?;
    Ok(AuditFile { file, is_failing: false })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::events::Action;

    #[test]
    fn the_audit_log_is_appended_to_and_opened_again_after_it_was_renamed() {
        let dir = tempfile::tempdir().unwrap();
        let [path, rotated] = ["audit", "audit.1"].map(|name| dir.path().join(name));
        let event = |user: &str| Event { user: Some(user.into()), ..Event::now(Action::LoginFailed) };
        Audit::open(&path).unwrap().write(&event("first"));
        let audit = Audit::open(&path).unwrap();
        audit.write(&event("a\nb"));
        std::fs::rename(&path, &rotated).unwrap();
        audit.write(&event("third"));
        audit.reopen();
        audit.write(&event("fourth"));
        let users = |path: &Path| -> Vec<String> {
            let text = std::fs::read_to_string(path).unwrap();
            let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
            lines.map(|line| format!("{} {}", line["action"], line["user"])).collect()
        };
        let line = |user: &str| format!("\"login-failed\" {user:?}");
        assert_eq!(users(&rotated), [line("first"), line("a\nb"), line("third")]);
        assert_eq!(users(&path), [line("fourth")]);
        assert!(Audit::open(dir.path()).is_err_and(|error| error.to_string().contains("cannot write")));
    }
}
