//! The container image, and the compose file that starts it.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use libtest_mimic::Trial;

use super::{dist, file, script, tools};
use crate::{
    clients::{Docker, Podman},
    harness::{blocking, trials},
    invitations::first,
};

pub fn trials() -> Vec<Trial> {
    let docker = || tools().and_then(|()| Docker::available());
    let compose = || tools().and_then(|()| Docker::compose_available());
    [
        trials![needs tools(); the_same_files_give_the_same_container_image],
        trials![needs docker(); docker_runs_the_container_image_with_a_read_only_root_and_no_rights],
        trials![needs tools().and_then(|()| Podman::available()); podman_runs_the_container_image_with_a_read_only_root_and_no_rights],
        trials![needs compose(); the_compose_file_runs_a_node_that_joined_by_an_invitation],
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Makes an image, and returns the digest of its manifest.
fn make(archive: &Path) -> String {
    let mut make = script("packaging/container");
    // What is only tested need not be small.
    let made = make.env("GZIP_LEVEL", "1").arg(dist()).arg(archive).output().expect("a shell");
    let said = String::from_utf8_lossy(&made.stdout).into_owned();
    assert!(made.status.success(), "{said}{}", String::from_utf8_lossy(&made.stderr));
    said.lines().next().expect("a digest").to_owned()
}

/// The archive of the image, made once.
fn archive() -> &'static str {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    let path = MADE.get_or_init(|| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ocipfs-image.tar");
        make(&path);
        path
    });
    path.to_str().expect("UTF-8")
}

const IMAGE: &str = concat!("localhost/ocipfs:", env!("CARGO_PKG_VERSION"));

/// Loads the image and runs it: with nothing to write to but its volume, as the user of the image, without any right of root. Its
/// identity and what is added are there again after a stop.
const STORY: &str = r#"
set -ex
engine=$1 archive=$2 image=$3
shift 3
ocipfs() { "$engine" exec --interactive node /usr/bin/ocipfs "$@"; }
# Waits for the ready line of the node's start with this number.
ready() {
    tries=0
    until [ "$("$engine" logs node 2>/dev/null | grep -c '^ready:')" -ge "$1" ]; do
        tries=$((tries + 1))
        [ $tries -lt 300 ] || { "$engine" logs node >&2; exit 1; }
        sleep 0.1
    done
    registry=$("$engine" logs node 2>/dev/null | sed -nE 's|^ready: registry http://([^, ]+).*|\1|p' | tail -n 1)
}
pull() {
    path=${reference#*/}
    curl --noproxy '*' -fsS -o "$TMPDIR/manifest" "http://$registry/v2/${path%:*}/manifests/${path##*:}"
}
"$engine" load --input "$archive" >&2
[ "$("$engine" image inspect --format '{{.Config.User}}' "$image")" = 65532:65532 ]
"$engine" run --detach --name node --network=host --read-only --cap-drop=ALL --security-opt=no-new-privileges \
    --volume node:/var/lib/ocipfs "$@" "$image" \
    serve --bootstrap none --listen 127.0.0.1:0 --swarm-listen /ip4/127.0.0.1/tcp/0 >&2
ready 1
peer=$(ocipfs -q swarm id)
cd "$TMPDIR"
echo hello >hello.txt
tar -cf layer.tar hello.txt
reference=$(ocipfs -q layer add - --name layer.tar <layer.tar)
pull
if ocipfs swarm key /etc/written; then exit 1; fi
if "$engine" exec node /bin/sh -c true; then exit 1; fi
"$engine" stop --time 15 node >&2
[ "$("$engine" inspect --format '{{.State.ExitCode}}' node)" = 0 ]
"$engine" start node >&2
ready 2
[ "$(ocipfs -q swarm id)" = "$peer" ]
pull
"$engine" rm --force node >&2
echo done
"#;

async fn the_same_files_give_the_same_container_image() {
    let dir = tempfile::tempdir().unwrap();
    let again = dir.path().join("again.tar");
    make(&again);
    assert!(fs::read(archive()).unwrap() == fs::read(again).unwrap());
}

async fn docker_runs_the_container_image_with_a_read_only_root_and_no_rights() {
    let said = blocking(|| Docker::start()?.script(STORY, &["docker", archive(), IMAGE])).await.unwrap();
    assert_eq!(said.lines().last(), Some("done"), "{said}");
}

async fn podman_runs_the_container_image_with_a_read_only_root_and_no_rights() {
    let run = || Podman::new()?.script(STORY, &["podman", archive(), IMAGE, "--log-driver=k8s-file"]);
    let said = blocking(run).await.unwrap();
    assert_eq!(said.lines().last(), Some("done"), "{said}");
}

async fn the_compose_file_runs_a_node_that_joined_by_an_invitation() {
    let dir = tempfile::tempdir().unwrap();
    let first = first();
    let invitation = first.ask(&["-q", "swarm", "invite"]);
    let docker = Docker::start().unwrap();
    docker.load(Path::new(archive())).unwrap();
    // Free ports, as other tests run at the same time.
    let ports = dir.path().join("ports.yaml");
    let command = r#"[serve, --listen, "127.0.0.1:0", --swarm-listen, /ip4/127.0.0.1/tcp/0]"#;
    fs::write(&ports, format!("services:\n  ocipfs:\n    command: {command}\n")).unwrap();
    let files = [file("bootstrap/compose.yaml"), ports].map(|path| path.display().to_string());
    let compose = |arguments: &[&str]| {
        let files = ["--file", &files[0], "--file", &files[1], "--project-name", "kit"];
        docker.script("exec docker-compose --no-ansi \"$@\"", &[&files, arguments].concat())
    };
    compose(&["run", "--rm", "-T", "ocipfs", "join", &invitation]).unwrap();
    compose(&["up", "--detach"]).unwrap();
    first.until("the container is a member", |status| status["peers"] == 1).await;
    let status = compose(&["exec", "-T", "ocipfs", "/usr/bin/ocipfs", "status", "--json"]).unwrap();
    assert!(
        status.contains(r#""network":"private""#) || status.contains(r#""network": "private""#),
        "{status}"
    );
    compose(&["down", "--volumes"]).unwrap();
    first.until("the container is gone", |status| status["peers"] == 0).await;
}
