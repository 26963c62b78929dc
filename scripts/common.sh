# shellcheck shell=bash
# What all scripts share. Source it; it changes to the top of the project.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# cargo may have been installed without the login shell having noticed.
PATH="$PATH:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin"

PG_CONFIG=${PG_CONFIG:-/usr/lib/postgresql/15/bin/pg_config}
export PG_CONFIG

readonly PGRX_VERSION=0.18.1
readonly TARGET=${CARGO_TARGET_DIR:-$PWD/target}
# What pgrx needs beside the build results: its configuration and, unless the user has that very version, its tool.
export PGRX_HOME=$TARGET/pgrx

die() {
    printf '%s\n' "$@" >&2
    exit 1
}

say() {
    printf '== %s\n' "$*"
}

as_root() {
    if [[ $EUID -eq 0 ]]; then
        "$@"
    else
        sudo "$@"
    fi
}

# The major version of the installation that PG_CONFIG names.
pg_major() {
    local version
    version=$("$PG_CONFIG" --version) || die "$PG_CONFIG does not run. Set PG_CONFIG, or run \`make setup\`."
    version=${version#PostgreSQL }
    version=${version%%[!0-9]*}
    [[ $version -ge 15 && $version -le 18 ]] ||
        die "$PG_CONFIG is PostgreSQL $version; whatsapp_pg supports 15 to 18."
    printf '%s\n' "$version"
}

# The path of a cargo-pgrx of exactly the version that the code was written for; fails if there is none.
cargo_pgrx() {
    local candidate
    for candidate in "$(command -v cargo-pgrx || true)" "$PGRX_HOME/bin/cargo-pgrx"; do
        if [[ -n $candidate && $("$candidate" pgrx --version 2>/dev/null) == *" $PGRX_VERSION" ]]; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    return 1
}
