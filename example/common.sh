# Shared by the scripts beside it: two nodes on loopback that leave nothing behind. Sourced, with bash's strict mode on.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH=$PATH:$HOME/.cargo/bin
unset ${!OCIPFS_@} LIBP2P_FORCE_PNET # The settings of whoever runs this.

say() { printf '\n==> %s\n' "$*"; }
fail() { printf 'error: %s\n' "$1" >&2; printf 'hint: %s\n' "${@:2}" >&2; exit 1; }
has() { command -v "$1" >/dev/null; }

work=$(mktemp -d)
pids=()
pulled_by_docker=
cleanup() {
    [ -z "$pulled_by_docker" ] || docker rmi "$pulled_by_docker" >/dev/null 2>&1 || true
    [ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null || true
    # Without root, podman leaves a process that keeps its namespaces, and folders that are read-only.
    [ ! -e "$work/libpod/tmp/pause.pid" ] || kill "$(cat "$work/libpod/tmp/pause.pid")" 2>/dev/null || true
    wait
    chmod -R u+w "$work"
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# What it takes.
needed=1.93
rust=$(cargo --version 2>/dev/null | cut -d' ' -f2) || true
printf '%s\n' "$needed" "${rust:-0}" | sort --version-sort --check=quiet ||
    fail "Rust $needed or newer is needed, and here is ${rust:-none}" "https://rustup.rs installs it"

# A docker elsewhere, and a rootless one with a network of its own, do not see this machine's 127.0.0.1.
docker_answers() {
    local security
    has docker && [[ ${DOCKER_HOST:-unix:} == unix:* ]] &&
        security=$(docker info --format '{{.SecurityOptions}}' 2>/dev/null) && [[ $security != *rootless* ]]
}
# Installs Debian's packages $@, where there are any to install.
install() {
    [ $# -gt 0 ] || return 0
    local install=(apt-get install --yes --no-install-recommends "$@")
    [ "$(id -u)" -eq 0 ] || fail "not installed: $*" "as root: ${install[*]}"
    say "Installing $* from Debian"
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq update
    "${install[@]}"
}

build() {
    say "Building ocipfs (some minutes the first time)"
    cargo build --locked
    ocipfs=${CARGO_TARGET_DIR:-target}/debug/ocipfs
}

# Limits that podman and buildah would raise, which a container refuses.
own_limits() {
    printf '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n' >"$work/containers.conf"
}

# podman with storage and settings of its own, so that yours stay as they are.
own_podman() {
    own_limits
    env HOME="$work" XDG_RUNTIME_DIR="$work" CONTAINERS_CONF="$work/containers.conf" podman \
        --root "$work/storage" --runroot "$work/runroot" --storage-driver vfs "$@"
}

# Waits for the ready line of the node called $1, whose process is $2.
ready() {
    until grep -qs '^ready:' "$work/$1.out"; do
        kill -0 "$2" 2>/dev/null || fail "the $1 node did not start: $(cat "$work/$1.log")"
        sleep 0.02
    done
}

# Starts a node called $1, which is told the rest, and waits for its ready line.
start() {
    local name=$1 pid
    "$ocipfs" --data-dir "$work/$name" serve --bootstrap none --listen 127.0.0.1:0 \
        --swarm-listen /ip4/127.0.0.1/tcp/0 "${@:2}" >"$work/$name.out" 2>"$work/$name.log" &
    pid=$!
    pids+=("$pid")
    ready "$name" "$pid"
    cat "$work/$name.out"
}
status() { "$ocipfs" --data-dir "$work/$1" status | grep '^layers'; }

# Two nodes, the second of which knows the first one's address and nothing else; its registry is $registry.
start_both() {
    say "Starting the first node"
    start first
    local peer
    peer=$(sed -E 's|.* peer ([^,]+),.*|\1|' "$work/first.out")
    say "Starting the second node, which knows the first one's address and nothing else"
    start second --peer "$peer"
    registry=$(sed -E 's|.* registry http://([^,]+),.*|\1|' "$work/second.out")
}
