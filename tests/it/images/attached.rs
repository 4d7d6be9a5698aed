//! Files that a command opens itself: with the rights of its user, from pipes, and half read.

use std::{
    fs::{self, File, Permissions},
    io::Write,
    os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use libtest_mimic::Trial;
use serde_json::json;
use tempfile::TempDir;

use super::{archive, document, hex, image, name, since_25, with_input, write};
use crate::{
    clients,
    harness::{Said, Serve, files_below, finish, last_line, noise, ocipfs, ocipfs_as, tar_of, trials},
    names::image::{Image, layout, tagged},
};

pub fn trials() -> Vec<Trial> {
    let mut all = trials![needs clients::root_for("another user");
        a_node_of_another_user_imports_and_adds_files_that_it_cannot_read,
        a_node_of_another_user_exports_to_a_directory_that_it_cannot_write,
        the_control_socket_of_another_user_is_refused_with_a_hint,
    ];
    all.extend(trials![
        files_named_pipes_and_process_substitutions_have_the_same_cid,
        a_second_import_of_a_layout_folder_opens_none_of_its_blobs,
        layer_add_reads_stdin_under_the_given_name,
        files_that_cannot_be_opened_are_named_before_the_node_is_asked,
        a_command_of_another_node_directory_is_told_that_a_registry_answers,
    ]);
    all
}

/// A user who owns none of the files of these tests.
const NOBODY: u32 = 65534;

/// A node of another user, with the directory that only this user can use.
fn of_nobody(arguments: &[&str]) -> (Serve, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let node = Serve::start_as(NOBODY, dir.path(), arguments);
    (node, dir)
}

/// A directory that other users cannot enter.
fn private() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
    dir
}

pub fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Runs a line of bash with `$1`, `$2` and so on.
fn bash(data_dir: &Path, line: &str, arguments: &[&str]) -> Said {
    let program = ocipfs(data_dir);
    let mut command = Command::new("bash");
    command.args(["-c", line, "bash"]).args(arguments).env("PROGRAM", program.get_program());
    for (key, value) in program.get_envs() {
        match value {
            Some(value) => command.env(key, value),
            None => command.env_remove(key),
        };
    }
    finish(command.stdin(Stdio::null()))
}

/// Writes a layout whose blobs are links out of it, as Bazel does.
fn linked_layout(dir: &Path) -> PathBuf {
    let (layout, cache) = (dir.join("layout"), dir.join("cache"));
    fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
    fs::create_dir(&cache).unwrap();
    for (path, bytes) in since_25(dir) {
        match path.strip_prefix("blobs/sha256/") {
            Some(hex) => {
                fs::write(cache.join(hex), bytes).unwrap();
                symlink(Path::new("../../../cache").join(hex), layout.join(&path)).unwrap();
            }
            None => fs::write(layout.join(path), bytes).unwrap(),
        }
    }
    layout
}

/// Writes a folder with a file that only its owner can read.
fn rootfs(dir: &Path) -> PathBuf {
    let rootfs = dir.join("rootfs");
    fs::create_dir(&rootfs).unwrap();
    fs::write(rootfs.join("secret"), noise(3 << 20)).unwrap();
    fs::set_permissions(rootfs.join("secret"), Permissions::from_mode(0o600)).unwrap();
    symlink("secret", rootfs.join("link")).unwrap();
    rootfs
}

async fn a_node_of_another_user_imports_and_adds_files_that_it_cannot_read() {
    let (node, _dir) = of_nobody(&[]);
    let own = private();
    let alone = own.path().join("alone");
    let tar = write(own.path(), "archive.tar", &archive(&since_25(own.path())));
    let (layout, rootfs) = (linked_layout(own.path()), rootfs(own.path()));
    let single = tar_of(own.path(), "foo.tar", &noise(3 << 20));
    for arguments in [
        &["image", "import", &tar][..],
        &["image", "import", text(&layout)],
        &["image", "import", text(&layout), "--as", "descriptor", "--compress", "zstd"],
        &["layer", "add", text(&single)],
        &["layer", "add", text(&rootfs)],
        &["layer", "add", text(&single), text(&rootfs)],
    ] {
        let expected = last_line(ocipfs(&alone).args(arguments));
        assert_eq!(name(&node.ask(arguments)), name(&expected), "{arguments:?}");
    }
    assert_eq!(files_below(node.data_dir(), "incoming"), 0);
    // A link out of the layout that no digest verifies is the command's to refuse.
    fs::remove_file(layout.join("oci-layout")).unwrap();
    symlink("/etc/hostname", layout.join("oci-layout")).unwrap();
    for dir in [node.data_dir(), &alone] {
        finish(ocipfs(dir).args(["image", "import", text(&layout)]))
            .failed(1, &["\"oci-layout\": it is a symbolic link", "hint: `tar -ch DIR"]);
    }
}

async fn a_node_of_another_user_exports_to_a_directory_that_it_cannot_write() {
    let (node, _dir) = of_nobody(&[]);
    let own = private();
    let bytes = tar_of(own.path(), "layer.tar", &noise(3 << 20));
    let reference = node.ask(&["-q", "layer", "add", text(&bytes)]);
    let dest = |name: &str| own.path().join(name);
    for name in ["layout", "image.tar", "image.oci.tar"] {
        assert_eq!(node.ask(&["image", "export", &reference, text(&dest(name))]), text(&dest(name)));
        assert_eq!(fs::metadata(dest(name)).unwrap().uid(), 0, "{name} belongs to who typed the command");
        if name == "image.tar" {
            continue;
        }
        // What it holds is complete.
        let imported = document(&node.command(&["--json", "image", "import", text(&dest(name))]));
        let inspected = document(&node.command(&["--json", "image", "inspect", &reference]));
        assert_eq!(imported[0]["digest"], inspected["digest"], "{name}");
    }
    for (name, told) in [("layout", "not empty"), ("image.tar", "exists"), ("no/image.tar", "No such file")] {
        node.command(&["image", "export", &reference, text(&dest(name))])
            .failed(1, &["error: cannot write ", name, told]);
    }
    node.command(&["image", "export", "nowhere/at/all", text(&dest("none"))]).failed(1, &["not found"]);
    assert!(!dest("none").exists());
}

async fn the_control_socket_of_another_user_is_refused_with_a_hint() {
    let node = Serve::start(&[]);
    let said = finish(ocipfs_as(NOBODY, node.data_dir()).args(["swarm", "id"]));
    said.failed(
        1,
        &[
            "cannot use the control socket",
            "hint: run the command as the user that runs the node, or as root",
        ],
    );
}

async fn files_named_pipes_and_process_substitutions_have_the_same_cid() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = archive(&since_25(dir.path()));
    let (path, pipe) = (write(dir.path(), "archive.tar", &bytes), dir.path().join("pipe.tar"));
    let gzip =
        write(dir.path(), "foo.tar.gz", &zipped(&fs::read(tar_of(dir.path(), "foo.tar", b"foo")).unwrap()));
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (node, alone) = (Serve::start(&[]), dir.path().join("alone"));
    let expected = name(&node.ask(&["-q", "image", "import", &path])).to_string();
    for data_dir in [node.data_dir(), &alone] {
        let substituted = bash(data_dir, r#""$PROGRAM" -q image import <(cat "$1")"#, &[&path]);
        let piped =
            bash(data_dir, r#"cat "$1" > "$2" & "$PROGRAM" -q image import "$2""#, &[&path, text(&pipe)]);
        let input = with_input(data_dir, &["-q", "image", "import", "-"], &bytes);
        for said in [substituted, piped, input] {
            assert_eq!((said.code, name(said.last_line())), (Some(0), &expected[..]), "{said:?}");
        }
        let layer = bash(data_dir, r#""$PROGRAM" -q layer add <(cat "$1")"#, &[&gzip]);
        assert!(layer.last_line().ends_with(":layer.tar.gz"), "{layer:?}");
        // What fails in the middle is an error, not a shorter archive.
        let cut = bash(data_dir, r#""$PROGRAM" image import <(head -c 1000000 "$1")"#, &[&path]);
        cut.failed(1, &["truncated", "hint: "]);
    }
}

fn zipped(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

async fn layer_add_reads_stdin_under_the_given_name() {
    let dir = tempfile::tempdir().unwrap();
    let node = Serve::start(&[]);
    let path = tar_of(dir.path(), "foo.tar", &noise(5 << 20));
    let bytes = fs::read(&path).unwrap();
    let zstd = zstd::encode_all(&bytes[..], 1).unwrap();
    for data_dir in [node.data_dir(), &dir.path().join("alone")] {
        let file = last_line(ocipfs(data_dir).args(["-q", "layer", "add", text(&path)]));
        let input = with_input(data_dir, &["-q", "layer", "add", "-", "--name", "foo.tar"], &bytes);
        assert_eq!(input.last_line(), file, "{input:?}");
        for (bytes, tag) in
            [(&bytes, "layer.tar"), (&zipped(&bytes), "layer.tar.gz"), (&zstd, "layer.tar.zst")]
        {
            let said = with_input(data_dir, &["-q", "layer", "add", "-"], bytes);
            assert!(said.code == Some(0) && said.last_line().ends_with(&format!(":{tag}")), "{said:?}");
        }
        with_input(data_dir, &["layer", "add", "-"], b"").failed(1, &["the layer is empty", "hint: "]);
        with_input(data_dir, &["layer", "add", "-"], &zstd[..zstd.len() - 9]).failed(1, &["truncated"]);
        for wrong in ["a/b", ""] {
            with_input(data_dir, &["layer", "add", "-", "--name", wrong], &bytes)
                .failed(1, &["invalid layer name", "hint: "]);
        }
    }
    node.command(&["layer", "add", "a", "b", "--name", "c"]).failed(2, &["--name names one layer"]);
}

async fn files_that_cannot_be_opened_are_named_before_the_node_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let node = Serve::start(&[]);
    let missing = dir.path().join("missing.tar");
    let layout = dir.path().join("layout");
    fs::create_dir(&layout).unwrap();
    for data_dir in [node.data_dir(), &dir.path().join("alone")] {
        for arguments in [["image", "import"], ["layer", "add"]] {
            let said = finish(ocipfs(data_dir).args(arguments).arg(&missing));
            said.failed(1, &["error: cannot read ", "missing.tar: No such file", "hint: give a "]);
        }
        finish(ocipfs(data_dir).args(["image", "import", text(&layout)]))
            .failed(1, &["neither index.json nor"]);
        // A blob that is a folder.
        let (layer, config) = image(dir.path());
        let manifest = json!({ "schemaVersion": 2, "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": layer.len(),
            "digest": format!("sha256:{}", hex(&config)) }] });
        let damaged = tempfile::tempdir().unwrap();
        fs::create_dir_all(damaged.path().join("blobs/sha256").join(hex(&config))).unwrap();
        fs::write(damaged.path().join("index.json"), manifest.to_string()).unwrap();
        fs::write(damaged.path().join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        finish(ocipfs(data_dir).args(["image", "import", text(damaged.path())])).failed(1, &["not a file"]);
    }
    assert!(
        !dir.path().join("alone/identity").exists() || files_below(&dir.path().join("alone"), "blobs") == 0
    );
    // A file that shrinks while it is sent is an error of the command.
    let short = dir.path().join("short.tar");
    let file = File::create(&short).unwrap();
    file.set_len(512).unwrap();
    node.command(&["image", "import", text(&short)]).failed(1, &["error: "]);
    assert_eq!((node.stored("blobs"), files_below(node.data_dir(), "incoming")), (0, 0));
}

async fn a_command_of_another_node_directory_is_told_that_a_registry_answers() {
    let home = tempfile::tempdir().unwrap();
    let node = Serve::start(&[]);
    let path = tar_of(home.path(), "foo.tar", b"foo");
    let by = |dir: Option<&Path>, listen: &str, arguments: &[&str]| {
        let mut command = ocipfs(home.path());
        command
            .args(arguments)
            .env_remove("OCIPFS_DATA_DIR")
            .env("HOME", home.path())
            .env("OCIPFS_LISTEN", listen);
        finish(dir.into_iter().fold(&mut command, |command, dir| command.env("OCIPFS_DATA_DIR", dir)))
    };
    let told = format!("but a registry answers on {}", node.registry());
    for arguments in [&["layer", "add", text(&path)][..], &["store", "ls"], &["status"], &["name", "ls"]] {
        let said = by(None, node.registry(), arguments);
        said.failed(1, &["error: no node is running in ", ".ocipfs, ", &told, "hint: ", "--data-dir"]);
    }
    assert!(!home.path().join(".ocipfs").exists(), "nothing was made there");
    // A directory that was chosen is used.
    let chosen = home.path().join("chosen");
    let said = by(Some(&chosen), node.registry(), &["layer", "add", text(&path)]);
    assert!(said.code == Some(0) && said.stderr.contains(&told), "{said:?}");
    let said = by(Some(&chosen), node.registry(), &["store", "stat"]);
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{said:?}");
    let said = by(Some(node.data_dir()), "127.0.0.1:1", &["layer", "add", text(&path)]);
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{said:?}");
    // Nothing answers, or something else.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = listener.local_addr().unwrap().to_string();
    for listen in ["127.0.0.1:1", &silent] {
        let said = by(None, listen, &["store", "stat"]);
        assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{said:?}");
    }
}

async fn a_second_import_of_a_layout_folder_opens_none_of_its_blobs() {
    let (node, dir) = (Serve::start(&[]), tempfile::tempdir().unwrap());
    let image = Image::of("again", 3 << 20);
    for (path, bytes) in layout("", &[tagged(image.descriptor(), "1")], &[&image], &[]) {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let import = ["-q", "image", "import", text(dir.path()), "--name", "app:1"];
    let first = node.ask(&import);
    // A directory cannot be opened as a blob.
    let blobs = dir.path().join("blobs/sha256");
    for blob in [&image.manifest, &image.config, &image.layer] {
        let path = blobs.join(hex(blob));
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
    }
    assert_eq!(node.ask(&import), first);
    node.ask(&["image", "rm", &first]);
    node.ask(&["store", "gc"]);
    node.command(&import).failed(1, &["not a file"]);
}
