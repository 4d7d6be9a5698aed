use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    os::unix::fs::symlink,
};

use futures::future::join_all;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::Value;

use super::*;
use crate::http::events::Action;

const SOON: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_secs(60);

fn event(user: &str) -> Event {
    Event { user: Some(user.into()), ..Event::now(Action::LoginFailed) }
}

fn user(line: &str) -> String {
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["action"], "login-failed");
    line["user"].as_str().unwrap().into()
}

fn users(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(user).collect()
}

async fn until_there_are(path: &Path, expected: &[&str]) {
    let waiting = async {
        while users(path) != expected {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, waiting).await.unwrap_or_else(|_| panic!("{:?}", users(path)));
}

#[tokio::test]
async fn the_audit_log_is_appended_to_and_opened_again_after_it_was_renamed() {
    let dir = tempfile::tempdir().unwrap();
    let [path, rotated] = ["audit", "audit.1"].map(|name| dir.path().join(name));
    Audit::open(&path).unwrap().write(&event("first")).await;
    let audit = Audit::open(&path).unwrap();
    audit.write(&event("a\nb")).await;
    fs::rename(&path, &rotated).unwrap();
    audit.write(&event("third")).await;
    audit.reopen().await;
    assert!(path.exists());
    audit.write(&event("fourth")).await;
    assert_eq!(users(&rotated), ["first", "a\nb", "third"]);
    assert_eq!(users(&path), ["fourth"]);
    assert!(Audit::open(dir.path()).is_err_and(|error| error.to_string().contains("cannot write")));
}

#[tokio::test]
async fn a_slow_audit_log_stalls_its_requests_only_and_loses_no_line() {
    const LINES: usize = 50;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fifo");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let reader = File::options().read(true).write(true).open(&path).unwrap();
    // A line that waits for longer goes to another log, which must not happen on a busy machine.
    let audit = Audit::with_queue(&path, 2, LONG).unwrap();
    // More than a pipe holds.
    let names: Vec<_> = (0..LINES).map(|n| format!("{n}{}", "x".repeat(8000))).collect();
    let events: Vec<_> = names.iter().map(|name| event(name)).collect();
    let writing = async { drop(join_all(events.iter().map(|event| audit.write(event))).await) };
    let reading = async {
        // Other tasks of the same thread go on meanwhile.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let read = || BufReader::new(reader).lines().take(LINES).map(|line| user(&line.unwrap())).collect();
        tokio::task::spawn_blocking(read).await.unwrap()
    };
    let (mut read, ()): (Vec<String>, _) =
        tokio::join!(async { timeout(LONG, reading).await.unwrap() }, writing);
    read.sort();
    let mut names = names;
    names.sort();
    assert!(read == names, "{}", read.len());
}

#[tokio::test]
async fn lines_wait_while_the_disk_is_full_and_are_written_once_it_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit");
    symlink("/dev/full", &path).unwrap();
    let audit = Audit::open(&path).unwrap();
    for user in ["one", "two", "three"] {
        timeout(SOON, audit.write(&event(user))).await.expect("requests are answered");
    }
    assert!(audit.shared.is_failing());
    fs::remove_file(&path).unwrap();
    audit.reopen().await;
    until_there_are(&path, &["one", "two", "three"]).await;
    audit.write(&event("four")).await;
    assert_eq!(users(&path), ["one", "two", "three", "four"]);
    assert!(!audit.shared.is_failing());
}

#[tokio::test]
async fn the_last_lines_are_written_before_the_process_ends_and_a_full_disk_does_not_hold_it_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit");
    let audit = Audit::open(&path).unwrap();
    let place = audit.queue.reserve().await.unwrap();
    let (written, _) = oneshot::channel();
    let mut line = serde_json::to_vec(&event("last")).unwrap();
    line.push(b'\n');
    place.send(Message::Line { line: Line::new(line, &audit.shared), written });
    audit.close().await;
    assert_eq!(users(&path), ["last"]);
    let full = Audit::open(Path::new("/dev/full")).unwrap();
    full.write(&event("one")).await;
    full.write(&event("two")).await;
    timeout(SOON, full.close()).await.expect("it ends");
    assert_eq!(full.queue.capacity(), full.queue.max_capacity());
}

#[tokio::test(start_paused = true)]
async fn the_lines_that_a_disk_that_does_not_answer_has_not_taken_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fifo");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let reader = File::options().read(true).write(true).open(&path).unwrap();
    let audit = Audit::open(&path).unwrap();
    // More than a pipe holds: the thread has this line in its hand, the other one is in the queue.
    for user in ["x".repeat(2 << 20), "two".into()] {
        audit.write(&event(&user)).await;
    }
    audit.close().await;
    assert_eq!(audit.shared.unwritten(), 2, "what wakes the thread is not a line");
    drop(reader);
}

#[tokio::test]
async fn a_line_that_was_cut_short_is_ended_before_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit");
    fs::write(&path, "{\"time\":").unwrap();
    Audit::open(&path).unwrap().write(&event("me")).await;
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 2);
    assert_eq!(user(text.lines().last().unwrap()), "me");
}
