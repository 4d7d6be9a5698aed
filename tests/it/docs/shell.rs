//! Runs a document: one bash in a network of its own, so that every port is free and no other machine is reached.

use std::{collections::BTreeSet, fmt::Write, fs, os::unix::fs::PermissionsExt, process::Stdio};

use serde_json::Value;

use super::document::{Block, Document, Kind};
use crate::clients::{self, Room};

/// Before each block, on a line of its own.
const MARK: &str = "@@ block ";

/// Environment of a document: the program on PATH, settings as after the installation, and an empty
/// directory.
const PRELUDE: &str = r#"
set -eo pipefail
ip link set lo up
mkdir -p "$HOME/work" "$HOME/serving"
cd "$HOME/work"
export OCIPFS_BOOTSTRAP=none NO_COLOR=1
# A reader types the next command when the node is ready. A document stops its nodes by `kill %1` or not at all.
settle() {
    local pid deadline
    for pid in $(nodes); do
        until grep -qs '^ready:' "$HOME/serving/$pid" || ! kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
    done
    deadline=$((SECONDS + 30))
    until is_quiet || ((SECONDS > deadline)); do sleep 0.2; done
}
nodes() { jobs -l | awk '/ocipfs.* serve/ { print $2 }'; }
# Other servers listen, and nodes that follow one of these nodes serve what that has published.
is_quiet() {
    local pid globals all
    # A subshell knows no jobs.
    all=$(nodes)
    for pid in $(jobs -l | awk '/Running/ && !/ocipfs/ { print $2 }'); do
        ss -Hltnp | grep -q "pid=$pid,\|pid=$(pgrep -P "$pid" | head -1)," || return 1
    done
    for pid in $all; do
        [ -e "$HOME/serving/$pid.globals" ] && kill -0 "$pid" 2>/dev/null || continue
        readarray -t globals <"$HOME/serving/$pid.globals"
        "$PROGRAM" "${globals[@]}" status --json 2>/dev/null || true
    done | awk '
        /^  "published"/ { within = "published" }
        /^  "followed"/ { within = "followed" }
        within == "published" && /^    "name"/ { name = $2 }
        within == "published" && /^    "root"/ { published[name] = $2 }
        within == "published" && /^    "behind": [1-9]/ { late = 1 }
        within == "followed" && /^      "name"/ { name = $2; names[++count] = name }
        within == "followed" && /^        "root"/ { served[count] = $2 }
        END {
            for (n in names) {
                root = published[names[n]]
                if (root != "" && root != "null," && root != served[n]) late = 1
            }
            exit late
        }'
}
"#;

/// `ocipfs` as documents call it: what `serve` prints is kept, so that it is known to be ready.
const WRAPPER: &str = r#"#!/bin/bash
case " $* " in *" serve "*)
    for argument; do [ "$argument" != serve ] && printf '%s\n' "$argument" || break; done >"$HOME/serving/$$.globals"
    exec "$PROGRAM" "$@" > >(tee "$HOME/serving/$$")
    ;;
esac
exec "$PROGRAM" "$@"
"#;

const DOCKERD: &str = r#"
dockerd --data-root="$HOME/docker" --storage-driver=vfs --bridge=none --iptables=false --ip-forward=false >"$HOME/dockerd.log" 2>&1 &
until docker version >/dev/null 2>&1; do kill -0 %?dockerd || { cat "$HOME/dockerd.log"; exit 1; }; sleep 0.1; done
disown -a
"#;

const CONTAINERD: &str = r#"
printf 'version = 2\nroot = "%s"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n' "$HOME/containerd" >"$HOME/containerd.toml"
containerd --config "$HOME/containerd.toml" >"$HOME/containerd.log" 2>&1 &
until ctr version >/dev/null 2>&1; do kill -0 %?containerd || { cat "$HOME/containerd.log"; exit 1; }; sleep 0.1; done
disown -a
"#;

const BUILDKITD: &str = r#"
export BUILDKIT_HOST="unix://$HOME/buildkitd.sock"
buildkitd --addr "$BUILDKIT_HOST" --root "$HOME/buildkit" --containerd-worker=false --oci-worker-snapshotter=native --oci-worker-net=host >"$HOME/buildkitd.log" 2>&1 &
until buildctl debug workers >/dev/null 2>&1; do kill -0 %?buildkitd || { cat "$HOME/buildkitd.log"; exit 1; }; sleep 0.1; done
disown -a
"#;

const HTPASSWD: (&str, &str) = ("htpasswd", "apache2-utils");

/// Says what is missing to run the blocks that need `client`, or those that need none.
pub fn available(client: Option<&'static str>) -> Result<(), String> {
    clients::root_for("a network of its own")?;
    match client {
        None => clients::installed(&[
            ("ip", "iproute2"),
            ("ss", "iproute2"),
            ("pgrep", "procps"),
            ("curl", "curl"),
            ("openssl", "openssl"),
            ("skopeo", "skopeo"),
        ]),
        Some("docker") => clients::Docker::available(),
        Some("podman") => clients::Podman::available(),
        Some("buildah") => clients::Buildah::available(),
        Some("ctr") => clients::Containerd::available(),
        Some("crane") => clients::CRANE.available(),
        Some("oras") => clients::ORAS.available(),
        Some("cosign") => clients::COSIGN.available(),
        Some("helm") => clients::HELM.available(),
        Some("notation") => clients::NOTATION.available(),
        Some("regctl") => clients::REGCTL.available(),
        Some("buildctl") => clients::BuildKit::available(),
        Some("docker-registry") => {
            clients::CRANE.available().and(clients::installed(&[("docker-registry", "docker-registry")]))
        }
        Some("htpasswd") => clients::installed(&[HTPASSWD]),
        Some("nginx") => clients::installed(&[("nginx", "nginx-light"), HTPASSWD]),
        Some("caddy") => clients::installed(&[("caddy", "caddy"), HTPASSWD]),
        Some(client) => clients::installed(&[(client, client)]),
    }
}

/// Runs the blocks of a document that need no client, and those that need `client`.
pub fn run(document: &Document, client: Option<&'static str>) {
    let mut room = Room::new("docs").expect("a room");
    let script = room.write("script", &script(&document.blocks, client)).expect("a file");
    set_up(&mut room);
    let output = room.script("exec unshare --net \"$@\"", &["bash", &script]).stdin(Stdio::null()).output();
    let output = output.expect("bash starts");
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let (_, said) = stdout.split_once(MARK).unwrap_or_default();
    let mark = format!("\n{MARK}");
    let mut said = said.split(&mark).peekable();
    for (number, block) in document.blocks.iter().enumerate().filter(|(_, block)| is_run(block, client)) {
        let at = format!("{}:{}", document.path, block.line);
        let Some((_, text)) = said.next().and_then(|text| text.split_once('\n')) else {
            panic!("{at}: not run:\n{stdout}\n{}", String::from_utf8_lossy(&output.stderr));
        };
        if said.peek().is_none() {
            panic!("{at}: failed with {}:\n{}\n{text}", output.status, block.text);
        }
        match document.blocks.get(number + 1) {
            Some(next) if next.kind == Kind::Text => printed(&at, &next.text, text),
            Some(next) if next.kind == Kind::Fields => fields(&at, &next.text, text),
            _ => {}
        }
    }
}

fn is_run(block: &Block, client: Option<&'static str>) -> bool {
    matches!(block.kind, Kind::Run(needed) if needed.is_none() || needed == client)
}

fn script(blocks: &[Block], client: Option<&'static str>) -> String {
    let mut script = String::from("exec 2>&1\n");
    script += PRELUDE;
    script += match client {
        Some("docker") => DOCKERD,
        Some("ctr") => CONTAINERD,
        Some("buildctl") => BUILDKITD,
        _ => "",
    };
    for block in blocks {
        let written = match &block.kind {
            Kind::Run(_) if is_run(block, client) => {
                writeln!(script, "printf '\\n{MARK}{}\\n'\n{}settle", block.line, block.text)
            }
            Kind::File(name) => writeln!(
                script,
                "mkdir -p \"$(dirname '{name}')\" && cat >'{name}' <<'END-OF-FILE'\n{}END-OF-FILE",
                block.text
            ),
            _ => Ok(()),
        };
        written.expect("a string");
    }
    writeln!(script, "printf '\\n{MARK}end\\n'").expect("a string");
    script
}

/// Puts the program on PATH, with the clients that are built here.
fn set_up(room: &mut Room) {
    let bin = room.path("bin");
    fs::create_dir_all(&bin).expect("a directory");
    let wrapper = room.write("bin/ocipfs", WRAPPER).expect("a file");
    fs::set_permissions(wrapper, fs::Permissions::from_mode(0o755)).expect("a mode");
    let built = clients::all().map(|tool| tool.program());
    let built = built.iter().filter_map(|program| program.parent()).map(|dir| format!(":{}", dir.display()));
    room.set("PATH", format!("{bin}:{}{}", clients::search_path(), built.collect::<String>()));
    room.set("PROGRAM", env!("CARGO_BIN_EXE_ocipfs").into());
    for (variable, value) in clients::SETTINGS {
        room.set(variable, value.into());
    }
    room.set("CONTAINERD_SNAPSHOTTER", "native".into());
}

/// Each line of `expected` is printed, in this order; `...` stands for any text of a line.
fn printed(at: &str, expected: &str, said: &str) {
    let mut lines = said.lines();
    for line in expected.lines().filter(|line| !line.trim().is_empty() && line.trim() != "...") {
        assert!(
            lines.any(|said| matches(line, said)),
            "{at}: does not print {line:?}, in this order:\n{said}"
        );
    }
}

fn matches(pattern: &str, line: &str) -> bool {
    let mut parts = pattern.trim().split("...");
    let Some(mut rest) = parts.next().and_then(|first| line.trim().strip_prefix(first)) else { return false };
    let mut is_open = false;
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
        is_open = part.is_empty();
    }
    rest.is_empty() || is_open
}

/// The JSON document that is printed has these fields and no others. Below one that is empty or null, and of a `JSON object`,
/// nothing is looked for; one that says *optional* may be absent.
fn fields(at: &str, table: &str, said: &str) {
    // Progress goes to stderr, which is shown with the result here.
    let is_event = |line: &&str| line.starts_with("{\"event\":");
    let said = said.lines().filter(|line| !is_event(line)).collect::<Vec<_>>().join("\n");
    let said = said.as_str();
    let begin = said.find(['{', '[']).unwrap_or_else(|| panic!("{at}: no JSON:\n{said}"));
    let value = serde_json::Deserializer::from_str(&said[begin..]).into_iter::<Value>().next();
    let value = value.expect("JSON").unwrap_or_else(|error| panic!("{at}: {error}:\n{said}"));
    let rows: Vec<_> = table.lines().filter_map(|row| Some((row.split('`').nth(1)?, row))).collect();
    let opaque = rows.iter().filter(|(_, row)| row.contains("JSON object")).map(|(name, _)| *name).collect();
    let (mut found, mut empty) = (BTreeSet::new(), BTreeSet::new());
    walk(&value, "", &opaque, &mut found, &mut empty);
    for name in &found {
        assert!(rows.iter().any(|(row, _)| row == name), "{at}: field {name:?} is not documented:\n{said}");
    }
    for (name, row) in &rows {
        let may_miss = row.contains("optional") || empty.iter().any(|above| name.starts_with(above.as_str()));
        assert!(found.contains(*name) || may_miss, "{at}: field {name:?} is not there:\n{said}");
    }
}

fn walk(
    value: &Value,
    name: &str,
    opaque: &BTreeSet<&str>,
    found: &mut BTreeSet<String>,
    empty: &mut BTreeSet<String>,
) {
    match value {
        _ if opaque.contains(name) => {}
        Value::Object(fields) => {
            for (key, value) in fields {
                let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                found.insert(name.clone());
                walk(value, &name, opaque, found, empty);
            }
        }
        Value::Array(items) => {
            let name = format!("{name}[]");
            if items.is_empty() {
                empty.insert(name.clone());
            }
            items.iter().for_each(|item| walk(item, &name, opaque, found, empty));
        }
        Value::Null => drop(empty.insert(format!("{name}."))),
        _ => {}
    }
}
