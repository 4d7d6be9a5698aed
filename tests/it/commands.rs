//! Commands as scripts use them: one line with `-q`, one document with `--json`, wherever the node directory is.

use std::fs;

use libtest_mimic::Trial;
use serde_json::Value;

use crate::harness::{Said, Serve, finish, noise, ocipfs, tar_of, trials, until};

pub fn trials() -> Vec<Trial> {
    trials![
        quiet_commands_print_one_line,
        json_output_of_commands_is_one_document,
        a_node_directory_with_a_long_path_has_a_control_socket,
        the_ready_line_shows_the_addresses_of_registry_and_swarm,
        errors_are_one_json_document_with_the_json_flag,
        an_empty_environment_variable_counts_as_unset,
        a_command_does_not_panic_on_a_broken_pipe,
        shell_completions_and_man_pages_are_generated,
    ]
}

fn line(said: &Said) -> &str {
    assert!(said.code == Some(0) && said.stderr.is_empty(), "{said:?}");
    assert_eq!(said.stdout.lines().count(), 1, "{said:?}");
    said.last_line()
}

fn document(said: &Said) -> Value {
    assert_eq!(said.code, Some(0), "{said:?}");
    serde_json::from_str(&said.stdout).unwrap_or_else(|e| panic!("{e}: {said:?}"))
}

async fn quiet_commands_print_one_line() {
    let node = Serve::start(&[]);
    let other = Serve::start(&[]);
    let path = tar_of(node.data_dir(), "foo.tar", &noise(1000));
    let added = node.command(&["-q", "layer", "add", path.to_str().unwrap()]);
    let reference = line(&added);
    assert!(reference.starts_with(&format!("{}/layer/bafkrei", node.registry())), "{reference}");
    assert!(reference.ends_with(":foo.tar"), "{reference}");
    assert_eq!(line(&node.command(&["-q", "layer", "inspect", reference])), reference);
    assert_eq!(line(&node.command(&["-q", "swarm", "id"])), node.peer());
    assert_eq!(line(&node.command(&["-q", "swarm", "connect", other.address()])), other.peer());
    let cid = reference.split("layer/").nth(1).and_then(|rest| rest.split(':').next()).unwrap();
    assert_eq!(line(&node.command(&["-q", "layer", "rm", reference])), cid);
    // Without `-q` there is more, and the same line is the last.
    let told = node.command(&["layer", "add", path.to_str().unwrap()]);
    assert!(told.stdout.lines().count() > 1 && told.last_line() == reference, "{told:?}");
}

async fn json_output_of_commands_is_one_document() {
    let node = Serve::start(&[]);
    let other = Serve::start(&[]);
    let path = tar_of(node.data_dir(), "foo.tar", &noise(1000));
    let bytes = fs::read(&path).unwrap();
    let json = |arguments: &[&str]| document(&node.command(&[&["--json"], arguments].concat()));
    let added = json(&["layer", "add", path.to_str().unwrap()]);
    let digest = ocipfs_oci::Digest::sha256_of(&bytes).to_string();
    assert_eq!(
        (&added["layers"][0]["digest"], &added["layers"][0]["diff_id"]),
        (&digest.as_str().into(), &digest.as_str().into())
    );
    assert_eq!(added["layers"][0]["size"], bytes.len());
    assert_eq!(added["layers"][0]["media_type"], "application/vnd.oci.image.layer.v1.tar");
    let reference = added["reference"].as_str().unwrap();
    let inspected = json(&["layer", "inspect", reference]);
    assert_eq!((&inspected["cid"], &inspected["reference"]), (&added["cid"], &added["reference"]));
    assert_eq!((&inspected["local"], &inspected["owned"]), (&true.into(), &true.into()));
    assert_eq!(inspected["manifest"]["layer"]["digest"], digest.as_str());
    assert_eq!(json(&["swarm", "connect", other.address()])["peer"], other.peer());
    until("the peer is seen", || json(&["swarm", "peers"])[0]["peer"] == other.peer()).await;
    let identity = json(&["swarm", "id"]);
    assert_eq!(
        (identity["peer"].as_str(), identity["listen"][0].as_str()),
        (Some(node.peer()), Some(node.address()))
    );
    let status = json(&["status"]);
    assert_eq!((&status["layers"], &status["peers"]), (&1.into(), &1.into()));
    assert_eq!((&status["network"], &status["reachable"]), (&"own".into(), &true.into()));
    assert_eq!(json(&["layer", "rm", reference])["cid"], added["cid"]);
}

async fn a_node_directory_with_a_long_path_has_a_control_socket() {
    let dir = tempfile::tempdir().unwrap();
    let long = dir.path().join("d".repeat(200)).join("e".repeat(200));
    let node = Serve::start_in(&long, &[]);
    assert!(node.log().contains("too long for a socket"), "it says where commands are taken");
    let path = tar_of(dir.path(), "foo.tar", &noise(1000));
    let reference = node.ask(&["-q", "layer", "add", path.to_str().unwrap()]);
    assert!(reference.starts_with(node.registry()), "the running node answered: {reference}");
    assert_eq!(node.status()["layers"], 1);
    let log = node.log();
    let socket = log.split("listening for commands at ").nth(1).and_then(|rest| rest.lines().next()).unwrap();
    let socket = std::path::Path::new(socket.trim());
    assert!(socket.exists(), "{socket:?}");
    assert!(node.stop().success());
    assert!(!socket.exists() && !socket.parent().unwrap().exists(), "{socket:?} is left behind");
    let said = finish(ocipfs(&long).args(["-q", "layer", "inspect", &reference]));
    assert!(said.last_line().ends_with(":foo.tar"), "{said:?}");
}

async fn the_ready_line_shows_the_addresses_of_registry_and_swarm() {
    use std::io::{BufRead, BufReader};
    let dir = tempfile::tempdir().unwrap();
    let mut command = ocipfs(dir.path());
    command.args(["serve", "--listen", "127.0.0.1:0", "--swarm-listen", "/ip4/127.0.0.1/tcp/0"]);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut ready = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    let said = finish(ocipfs(dir.path()).args(["--json", "status"]));
    let _ = child.kill();
    let _ = child.wait();
    let status = document(&said);
    let registry = status["registry"].as_str().unwrap();
    for text in [
        format!("ready: registry http://{registry}"),
        status["identity"]["listen"][0].as_str().unwrap().into(),
        format!("docker pull {registry}/layer/<cid>"),
    ] {
        assert!(ready.contains(&text), "{text:?} is not in {ready:?}");
    }
}

async fn errors_are_one_json_document_with_the_json_flag() {
    let dir = tempfile::tempdir().unwrap();
    for (arguments, code, told) in [
        (&["--json", "layer", "inspect", "bafkreinonsense"][..], 1, "bafkreinonsense"),
        (&["--json", "serve", "--max-size", "ten"], 2, "invalid size \"ten\""),
        (&["--json", "layer", "inspct"], 2, "inspct"),
    ] {
        let said = finish(ocipfs(dir.path()).args(arguments));
        assert_eq!((said.code, said.stderr.as_str()), (Some(code), ""), "{said:?}");
        let document: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|e| panic!("{e}: {said:?}"));
        assert!(document["error"].as_str().unwrap().contains(told), "{document}");
        assert!(document.get("hint").is_some(), "{document}");
    }
    let key = document(&finish(ocipfs(dir.path()).args(["--json", "swarm", "key"])));
    assert!(key["key"].as_str().unwrap().starts_with("/key/swarm/psk/1.0.0/"), "{key}");
}

async fn an_empty_environment_variable_counts_as_unset() {
    let empty =
        ["OCIPFS_MAX_SIZE", "OCIPFS_LISTEN", "OCIPFS_PEER", "OCIPFS_LOG_FORMAT"].map(|name| (name, ""));
    let dir = tempfile::tempdir().unwrap();
    let node = Serve::start_with(dir.path(), &[], &empty.into());
    assert_eq!(node.status()["peers"], 0);
    let said = finish(ocipfs(dir.path()).args(["--json", "status"]).envs(empty));
    assert_eq!(document(&said)["registry"], node.registry());
}

async fn shell_completions_and_man_pages_are_generated() {
    let dir = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let said = finish(ocipfs(dir.path()).args(["completions", shell]));
        assert!(said.code == Some(0) && said.stdout.contains("swarm-listen"), "{shell}: {said:?}");
    }
    let page = finish(ocipfs(dir.path()).arg("man"));
    assert!(page.code == Some(0) && page.stdout.contains(".TH ocipfs 1"), "{page:?}");
    let pages = dir.path().join("man1");
    fs::create_dir(&pages).unwrap();
    let said = finish(ocipfs(dir.path()).args(["man", pages.to_str().unwrap()]));
    assert_eq!(said.code, Some(0), "{said:?}");
    let serve = fs::read_to_string(pages.join("ocipfs-serve.1")).unwrap();
    assert!(serve.contains("find\\-timeout") && pages.join("ocipfs-layer-add.1").exists(), "{serve}");
    finish(ocipfs(dir.path()).args(["man", "/nonexistent"])).failed(1, &["/nonexistent", "hint: "]);
}

async fn a_command_does_not_panic_on_a_broken_pipe() {
    let dir = tempfile::tempdir().unwrap();
    for (arguments, code) in [
        (&["store", "stat"][..], 0),
        (&["--json", "store", "stat"], 0),
        (&["completions", "bash"], 0),
        (&["swarm", "id"], 0),
        (&["--json", "layer", "inspect", "bafkreinonsense"], 1),
    ] {
        let mut command = ocipfs(dir.path());
        command.args(arguments).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(!stderr.contains("panicked"), "{arguments:?}: {stderr}");
    }
}
