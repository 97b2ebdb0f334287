# What the checks by other people's programs share. Each sources it first. From then on `root` is the project, `strongroom`
# its program, and the working directory a folder that goes away at the end, together with every one of `processes` and `mounts`.
# shellcheck shell=bash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root="$PWD"

cargo build --locked --quiet
strongroom="$(realpath "${CARGO_TARGET_DIR:-target}")/debug/strongroom"

folder="$(mktemp -d)"
processes=()
mounts=()
cleanup() {
    [ "$1" = 0 ] || tail -n 30 "$folder"/*.log >&2 2>/dev/null || true
    for process in "${processes[@]}"; do { kill -9 "$process" && wait "$process"; } 2>/dev/null || true; done
    for mount in "${mounts[@]}"; do umount -l "$mount" 2>/dev/null || true; done
    rm -rf --one-file-system "$folder"
}
trap 'cleanup $?' EXIT
trap 'exit 1' HUP INT TERM
cd "$folder"

# Installs Debian packages where that can be done.
install() {
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        (apt-get install -y -q "$@" || { apt-get update -q && apt-get install -y -q "$@"; }) >&2 || true
    fi
}

# need PROGRAM PACKAGE...: sees to it that a program is there, if need be from these Debian packages.
need() {
    command -v "$1" >/dev/null || install "${@:2}"
    command -v "$1" >/dev/null || { echo "$1 is missing: install ${*:2}" >&2; exit 1; }
}

# python_with PACKAGE...: makes python/bin, a Python of its own with these packages of PyPI.
python_with() {
    python3 -c 'import ensurepip, venv' 2>/dev/null || install python3 python3-venv
    python3 -c 'import ensurepip, venv' || { echo "python3 with venv is missing: install python3-venv" >&2; exit 1; }
    python3 -m venv python
    python/bin/python -m pip install --quiet --disable-pip-version-check "$@"
}

# npm_with PACKAGE...: puts these packages of npm into node_modules.
npm_with() {
    need node nodejs npm
    need npm nodejs npm
    npm install --silent --no-fund --no-audit --prefix . "$@"
}

# address PROCESS NAME: prints where the process listens, which it tells in NAME.out.
address() {
    for _ in $(seq 300); do
        sed -n 's/^listening on //p' "$2.out" 2>/dev/null | grep . && return
        kill -0 "$1" 2>/dev/null || break
        sleep 0.1
    done
    echo "$2 did not start" >&2
    exit 1
}

# serve DATA [ARGUMENT...]: starts a server on a data folder, with small files, and sets `url`.
serve() {
    STRONGROOM__JOURNAL__SEGMENT_BYTES=1048576 STRONGROOM__JOURNAL__BATCH_BYTES_MAX=262144 \
        "$strongroom" serve --listen 127.0.0.1:0 --data "$1" "${@:2}" >"$1.out" 2>"$1.log" &
    processes+=($!)
    url="$(address $! "$1")"
}
