use std::{
    collections::HashMap,
    fs,
    io::Read,
    net::{TcpListener, UdpSocket},
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::Path,
};

use libtest_mimic::Trial;
use ocipfs_oci::Digest;

use crate::harness::{Said, Serve, finish, last_line, ocipfs, trials};

const FREE: [&str; 4] = ["--listen", "127.0.0.1:0", "--swarm-listen", "/ip4/127.0.0.1/tcp/0"];

pub fn trials() -> Vec<Trial> {
    trials![
        a_port_in_use_is_an_error_that_names_the_flag,
        a_node_directory_in_use_is_rejected_with_the_process_id,
        an_unwritable_node_directory_is_rejected,
        a_node_directory_with_a_damaged_file_is_rejected_and_not_changed,
        invalid_flags_and_settings_are_usage_errors_and_write_no_files,
        a_private_swarm_with_public_options_is_a_usage_error,
        an_insecure_control_socket_directory_is_rejected_by_serve_and_commands,
        world_readable_keys_and_node_directory_are_warned_about_at_start,
        flags_override_the_environment_and_the_environment_overrides_the_config_file,
    ]
}

/// Runs a `serve` that does not come up.
fn serve(data_dir: &Path, arguments: &[&str]) -> Said {
    finish(ocipfs(data_dir).arg("serve").args(arguments))
}

async fn a_port_in_use_is_an_error_that_names_the_flag() {
    let dir = tempfile::tempdir().unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp_port = tcp.local_addr().unwrap().port();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let udp_port = udp.local_addr().unwrap().port();
    let registry = format!("127.0.0.1:{tcp_port}");
    serve(dir.path(), &["--listen", &registry, FREE[2], FREE[3]])
        .failed(1, &["error: cannot listen on", &registry, "in use", "hint: ", "--listen"]);
    for taken in [format!("/ip4/127.0.0.1/tcp/{tcp_port}"), format!("/ip4/127.0.0.1/udp/{udp_port}/quic-v1")]
    {
        serve(dir.path(), &[FREE[0], FREE[1], "--swarm-listen", &taken])
            .failed(1, &["error: cannot listen on", &taken, "in use", "hint: ", "--swarm-listen"]);
    }
    // What holds the ports may be a node too, whose sockets libp2p would share.
    let node = Serve::start(&[]);
    let taken = node.address().split("/p2p/").next().unwrap();
    serve(dir.path(), &[FREE[0], FREE[1], "--swarm-listen", taken])
        .failed(1, &["error: cannot listen on", taken, "hint: "]);
}

async fn a_node_directory_in_use_is_rejected_with_the_process_id() {
    let node = Serve::start(&[]);
    let user = format!("in use by process {}", node.pid());
    serve(node.data_dir(), &FREE).failed(1, &["error: ", &user, "hint: ", "--data-dir"]);
    assert_eq!(node.status()["peers"], 0, "the first still answers");
}

async fn an_unwritable_node_directory_is_rejected() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    // Not even root makes a directory below a file, or in /proc.
    for data_dir in [file.join("below"), file.clone(), "/proc/ocipfs".into()] {
        let named = format!("cannot use the node directory {}", data_dir.display());
        serve(&data_dir, &FREE).failed(1, &["error: ", &named, "hint: ", "--data-dir"]);
        finish(ocipfs(&data_dir).args(["layer", "add", "/etc"])).failed(1, &[&named, "hint: "]);
    }
}

async fn a_node_directory_with_a_damaged_file_is_rejected_and_not_changed() {
    for (name, told) in [("identity.key", "not a libp2p private key"), ("index.redb", "the index")] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        fs::write(&path, "nonsense").unwrap();
        serve(dir.path(), &FREE).failed(1, &["error: ", told, &path.display().to_string(), "hint: "]);
        assert_eq!(fs::read(&path).unwrap(), b"nonsense");
    }
}

async fn invalid_flags_and_settings_are_usage_errors_and_write_no_files() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("node");
    let config = dir.path().join("other.toml");
    fs::write(&config, "swarm-lisen = [\"/ip4/127.0.0.1/tcp/0\"]\n").unwrap();
    let config = config.to_str().unwrap();
    for (arguments, told) in [
        (&["--listen", "localhost"][..], "--listen"),
        (&["--swarm-listen", "127.0.0.1:4001"], "--swarm-listen"),
        (&["--bootstrap", "somewhere"], "--bootstrap somewhere"),
        (&["--find-timeout", "soon"], "10s"),
        (&["--stall-timeout", "0s"], "greater than zero"),
        (&["--profile", "v9"], "unixfs-v1-2025"),
        (&["--sahre", "all"], "--sahre"),
        (&["--config", "/nonexistent.toml"], "/nonexistent.toml"),
        (&["--config", config], "swarm-lisen"),
        (&["--max-memory", "47MiB"], "memory budget \"47.0 MiB\" is too small: the minimum is 48.0 MiB"),
    ] {
        let said = serve(&data_dir, &[&FREE, arguments].concat());
        said.failed(2, &["error: ", told]);
        assert!(!data_dir.exists(), "{arguments:?}");
    }
    for (key, value) in [("OCIPFS_FIND_TIMEOUT", "soon"), ("OCIPFS_PROFILE", "v9"), ("OCIPFS_LISTEN", "x")] {
        finish(ocipfs(&data_dir).args(["serve"]).env(key, value)).failed(2, &["error: "]);
        finish(ocipfs(&data_dir).args(["layer", "add", "/etc"]).env(key, value)).failed(2, &["error: "]);
    }
    // A typo in a variable would be ignored in silence, as in an air gap that then dials the public network.
    let misspelt = finish(ocipfs(&data_dir).args(["status"]).env("OCIPFS_BOOTSTAP", "none"));
    misspelt.failed(2, &["unknown environment variable OCIPFS_BOOTSTAP", "did you mean OCIPFS_BOOTSTRAP?"]);
    fs::create_dir(&data_dir).unwrap();
    fs::write(data_dir.join("config.toml"), "listen = \"127.0.0.1:0\"\nsurprise = 1\n").unwrap();
    serve(&data_dir, &[]).failed(2, &["config.toml", "surprise", "hint: "]);
    finish(ocipfs(&data_dir).args(["layer", "add", "/etc"]))
        .failed(2, &["config.toml", "surprise", "hint: "]);
    assert_eq!(fs::read_dir(&data_dir).unwrap().count(), 1);
}

async fn a_private_swarm_with_public_options_is_a_usage_error() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("node");
    let (key, bad) = (dir.path().join("swarm.key"), dir.path().join("bad.key"));
    fs::write(&key, finish(ocipfs(&data_dir).args(["swarm", "key"])).stdout).unwrap();
    fs::write(&bad, "/key/swarm/psk/1.0.0/\n/base16/\nabc\n").unwrap();
    let (key, bad) = (key.to_str().unwrap(), bad.to_str().unwrap());
    let peer = "12D3KooWGzBXWNvHpLUS1rFNPbvEeLQ1kYmpTPnwt4MM2XUzpY4q";
    for (arguments, told) in [
        (&["--swarm-key", key, "--bootstrap", "public"][..], "public bootstrap"),
        (&["--swarm-key", key, "--swarm-listen", "/ip4/127.0.0.1/udp/0/quic-v1"], "QUIC"),
        (&["--swarm-key", key, "--swarm-announce", "/dns4/example.org/tcp/4001"], "DNS"),
        (&["--swarm-key", key, "--peer", &format!("/dns/example.org/tcp/4001/p2p/{peer}")], "DNS"),
        (&["--swarm-key", key, "--bootstrap", &format!("/dnsaddr/example.org/p2p/{peer}")], "DNS"),
        (&["--swarm-key", bad], "line 3"),
        (&["--swarm-key", "/nonexistent.key"], "/nonexistent.key"),
        (&["--swarm-key", "/etc"], "/etc"),
    ] {
        let said = serve(&data_dir, &[&["--listen", "127.0.0.1:0"], arguments].concat());
        said.failed(2, &["error: ", told, "hint: "]);
        assert!(!data_dir.exists(), "{arguments:?}");
    }
    let forced = finish(ocipfs(&data_dir).arg("serve").args(FREE).env("LIBP2P_FORCE_PNET", "1"));
    forced.failed(2, &["LIBP2P_FORCE_PNET", "hint: ", "--swarm-key"]);
    let private = [("LIBP2P_FORCE_PNET", "1"), ("OCIPFS_SWARM_KEY", key)];
    let node = Serve::start_with(&data_dir, &[], &private.into_iter().collect());
    assert_eq!(node.status()["network"], "private");
}

async fn flags_override_the_environment_and_the_environment_overrides_the_config_file() {
    let dir = tempfile::tempdir().unwrap();
    // What a command prints without a running node shows where it believes the registry to be.
    let rootfs = dir.path().join("rootfs");
    fs::create_dir(&rootfs).unwrap();
    let rootfs = rootfs.to_str().unwrap();
    let data_dir = dir.path().join("node");
    fs::create_dir(&data_dir).unwrap();
    let registry = |command: &mut std::process::Command| {
        let reference = last_line(command.args(["-q", "layer", "add", rootfs]));
        reference.split_once('/').expect("a registry").0.to_string()
    };
    assert_eq!(registry(&mut ocipfs(&data_dir)), "127.0.0.1:5050");
    fs::write(data_dir.join("config.toml"), "listen = \"127.0.0.1:6001\"\n").unwrap();
    assert_eq!(registry(&mut ocipfs(&data_dir)), "127.0.0.1:6001");
    let other = dir.path().join("other.toml");
    fs::write(&other, "listen = \"127.0.0.1:6002\"\n").unwrap();
    assert_eq!(registry(ocipfs(&data_dir).arg("--config").arg(&other)), "127.0.0.1:6002");
    assert_eq!(registry(ocipfs(&data_dir).env("OCIPFS_CONFIG", &other)), "127.0.0.1:6002");
    assert_eq!(registry(ocipfs(&data_dir).env("OCIPFS_LISTEN", "127.0.0.1:6003")), "127.0.0.1:6003");

    // The file wants a port that is taken; the environment and then a flag save the start.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap();
    fs::write(data_dir.join("config.toml"), format!("listen = \"{port}\"\n")).unwrap();
    let swarm = ["--swarm-listen", "/ip4/127.0.0.1/tcp/0"];
    serve(&data_dir, &swarm).failed(1, &[&port.to_string()]);
    let environment = [("OCIPFS_LISTEN", "127.0.0.1:0"), ("OCIPFS_FIND_TIMEOUT", "nonsense")];
    let by_flags = ["--listen", "127.0.0.1:0", "--find-timeout", "1s"];
    let node = Serve::start_with(&data_dir, &by_flags, &environment.into_iter().collect());
    assert_ne!(node.registry(), port.to_string());
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

async fn an_insecure_control_socket_directory_is_rejected_by_serve_and_commands() {
    let dir = tempfile::tempdir().unwrap();
    // Too long for the address of a socket, which is in a directory for temporary files then.
    let data_dir = dir.path().join("d".repeat(120));
    let hex = Digest::sha256_of(data_dir.to_str().unwrap().as_bytes()).hex().to_string();
    let prepared = dir.path().join(format!("ocipfs-{}", &hex[..16]));
    let environment = HashMap::from([("TMPDIR", dir.path().to_str().unwrap()), ("XDG_RUNTIME_DIR", "")]);
    fs::create_dir(&prepared).unwrap();
    set_mode(&prepared, 0o777);
    let refused = ["error: refused the directory", prepared.to_str().unwrap(), "mode 0777", "hint: "];
    finish(ocipfs(&data_dir).arg("serve").args(FREE).envs(&environment)).failed(1, &refused);
    // Who listens there does not learn what a command says.
    let listener = UnixListener::bind(prepared.join("sock")).unwrap();
    finish(ocipfs(&data_dir).arg("status").envs(&environment)).failed(1, &refused);
    let mut heard = Vec::new();
    listener.accept().unwrap().0.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, b"");
    fs::remove_dir_all(&prepared).unwrap();
    let node = Serve::start_with(&data_dir, &[], &environment);
    let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&prepared), mode(&prepared.join("sock"))), (0o700, 0o600));
    let said = finish(ocipfs(&data_dir).arg("status").envs(&environment));
    assert_eq!(said.code, Some(0), "{said:?}");
    node.stop();
}

async fn world_readable_keys_and_node_directory_are_warned_about_at_start() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("node");
    let node = Serve::start_in(&data_dir, &[]);
    node.ask(&["name", "key", "new", "team"]);
    assert!(!node.log().contains("other users can read the key"), "{}", node.log());
    node.stop();
    for name in ["identity.key", "keys/team.key"] {
        set_mode(&data_dir.join(name), 0o644);
    }
    set_mode(&data_dir, 0o755);
    let node = Serve::start_in(&data_dir, &[]);
    for name in ["identity.key", "keys/team.key"] {
        let path = data_dir.join(name).display().to_string();
        let told = format!("other users can read the key {path} (mode 0644); hint: run `chmod 600 {path}`");
        assert!(node.log().contains(&told), "{}", node.log());
    }
    assert!(node.log().contains("other users can read the node directory (mode 0755)"), "{}", node.log());
}
