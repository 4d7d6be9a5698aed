//! Progress of long commands: JSON lines, a bar on a terminal, nothing with `-q`.

use std::{
    fs::{self, File, OpenOptions},
    io::Read,
    path::Path,
    process::{Command, Stdio},
};

use libtest_mimic::Trial;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::Value;

use crate::{
    harness::{Said, Serve, finish, noise, ocipfs, tar_of, trials},
    push::Repository,
};

pub fn trials() -> Vec<Trial> {
    trials![
        every_long_command_prints_progress_events_with_the_json_flag,
        progress_events_of_a_command_without_a_node_are_the_same,
        a_terminal_shows_a_progress_bar,
        without_a_terminal_short_commands_print_no_progress,
    ]
}

/// Holds that the standard output is one document, and the phases on stderr are complete; their names.
#[track_caller]
pub fn phases(said: &Said) -> Vec<String> {
    assert_eq!(said.code, Some(0), "{said:?}");
    serde_json::from_str::<Value>(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    let mut last: Vec<Value> = Vec::new();
    for line in said.stderr.lines().filter(|line| line.starts_with('{')) {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(event["event"], "progress", "{line}");
        assert!(event["done"].is_u64() && event["unit"].is_string(), "{line}");
        match last.last_mut().filter(|last| last["phase"] == event["phase"]) {
            Some(last) => *last = event,
            None => last.push(event),
        }
    }
    for event in &last {
        assert_eq!(event["done"], event["total"], "{said:?}");
    }
    last.iter().map(|event| event["phase"].as_str().expect("a name").to_string()).collect()
}

/// A folder that becomes a layer.
fn folder(dir: &Path) -> String {
    let folder = dir.join("rootfs");
    fs::create_dir_all(folder.join("etc")).expect("a folder");
    fs::write(folder.join("etc/data"), noise(3 << 20)).expect("a file");
    folder.display().to_string()
}

async fn every_long_command_prints_progress_events_with_the_json_flag() {
    let [node, other] = [Serve::start(&[]), Serve::start(&[])];
    let path = |name: &str| node.data_dir().join(name).display().to_string();
    let (folder, tar) = (folder(node.data_dir()), tar_of(node.data_dir(), "a.tar", &noise(1 << 20)));
    let layer = fs::read(&tar).expect("the tar");
    let digest = Repository::new(&node, "team/app").push_image("1", &layer).await;
    let image = format!("team/app@{digest}");
    let (layout, archive, bundle) = (path("layout"), path("app.oci.tar"), path("app.car"));
    let tar = tar.display().to_string();
    for (node, arguments, expected) in [
        (&node, &["layer", "add", &folder][..], &["add"][..]),
        (&node, &["layer", "add", &tar, &folder], &["add"]),
        (&node, &["image", "export", &image, &layout], &["export"]),
        (&node, &["image", "export", &image, &archive], &["export"]),
        (&node, &["image", "push", &image, "--as", "ipfs"], &["import"]),
        (&node, &["bundle", "export", &bundle, "team/app:1"], &["fetch", "export"]),
        (&node, &["store", "pin", &image], &["fetch"]),
        (&node, &["store", "gc"], &["mark", "delete"]),
        (&node, &["store", "gc", "--dry-run"], &["mark"]),
        (&node, &["store", "verify"], &["hash", "hash blocks"]),
        (&other, &["image", "import", &layout, "--name", "app"], &["import"]),
        (&other, &["image", "import", &archive, "--name", "app"], &["import"]),
        (&other, &["bundle", "import", &bundle], &["import"]),
    ] {
        let said = node.command(&[&["--json"], arguments].concat());
        assert_eq!(phases(&said), expected, "{arguments:?}");
    }
    // Scripts that want one line see nothing else.
    let said = node.command(&["--json", "-q", "store", "gc"]);
    assert!(said.stderr.is_empty() && phases(&said).is_empty(), "{said:?}");
}

async fn progress_events_of_a_command_without_a_node_are_the_same() {
    let dir = tempfile::tempdir().expect("a directory");
    let (data_dir, folder) = (dir.path().join("node"), folder(dir.path()));
    let added = finish(ocipfs(&data_dir).args(["--json", "layer", "add", &folder]));
    assert_eq!(phases(&added), ["add"]);
    let last = added.stderr.lines().last().expect("an event");
    let event: Value = serde_json::from_str(last).expect("JSON");
    assert!(
        event["done"].as_u64() > Some(3 << 20),
        "the files are counted, not what they compress to: {event}"
    );
    assert_eq!(
        phases(&finish(ocipfs(&data_dir).args(["--json", "store", "verify"]))),
        ["hash", "hash blocks"]
    );
}

async fn a_terminal_shows_a_progress_bar() {
    let dir = tempfile::tempdir().expect("a directory");
    let folder = folder(dir.path());
    let add = |arguments: &[&str]| {
        let mut command = ocipfs(&dir.path().join("node"));
        command.args(arguments).args(["layer", "add", &folder]);
        on_terminal(command)
    };
    let shown = add(&[]);
    assert!(shown.contains("add ") && shown.contains("/s"), "{shown:?}");
    // The bar is gone at the end: its line is cleared.
    assert!(shown.contains("\u{1b}["), "{shown:?}");
    for arguments in [&["-q"][..], &["--json", "-q"]] {
        assert_eq!(add(arguments), "", "{arguments:?}");
    }
}

/// Runs a command whose stderr is a terminal, and returns what that shows.
pub fn on_terminal(mut command: Command) -> String {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&terminal).expect("its rights");
    unlockpt(&terminal).expect("it is unlocked");
    let name = ptsname(&terminal, Vec::new()).expect("its name");
    let name = name.to_str().expect("UTF-8").to_string();
    let side = OpenOptions::new().read(true).write(true).open(name).expect("its other side");
    let mut child =
        command.env("TERM", "xterm").stdout(Stdio::null()).stderr(side).spawn().expect("the program starts");
    // Its copy of the other side is still open.
    drop(command);
    let mut shown = Vec::new();
    // The end of a terminal is an error.
    let _ = File::from(terminal).read_to_end(&mut shown);
    assert!(child.wait().expect("it ended").success());
    String::from_utf8_lossy(&shown).into_owned()
}

async fn without_a_terminal_short_commands_print_no_progress() {
    let node = Serve::start(&[]);
    let said = node.command(&["layer", "add", &folder(node.data_dir())]);
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{said:?}");
}
