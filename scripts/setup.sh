#!/usr/bin/env bash
# Installs what a build needs and the machine lacks. On a machine that has everything it does nothing, quickly.
# Debian and its derivatives; elsewhere it names what is missing.
#
# Usage: setup.sh [tests]    "tests" adds what only tests use: pg_cron, curl, kill

source "$(dirname "$0")/common.sh"

has_header() {
    [[ -x $PG_CONFIG && -e $("$PG_CONFIG" --includedir-server)/postgres.h ]]
}

has_server() {
    [[ -x $PG_CONFIG && -x $("$PG_CONFIG" --bindir)/initdb ]]
}

# bindgen needs the library and, beside it, the compiler's own headers.
has_libclang() {
    [[ -n ${LIBCLANG_PATH:-} ]] || {
        compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' && compgen -G '/usr/lib/llvm-*/lib/clang/*/include/stddef.h'
    } >/dev/null || {
        ! command -v apt-get && ldconfig -p | grep libclang
    } >/dev/null
}

missing_packages() {
    local version
    if ! has_server || ! has_header; then
        # Debian keeps each major version in a directory of its own.
        [[ $PG_CONFIG =~ ^/usr/lib/postgresql/(1[5-8])/bin/pg_config$ ]] ||
            die "$PG_CONFIG has no server programs or no server headers." \
                "Install them, or set PG_CONFIG to a PostgreSQL that has both."
        version=${BASH_REMATCH[1]}
        has_server || echo "postgresql-$version"
        has_header || echo "postgresql-server-dev-$version"
    fi
    if [[ ${1:-} == tests ]]; then
        command -v curl >/dev/null || echo curl
        # The program, not the shell's own.
        type -P kill >/dev/null || echo procps
        if [[ $PG_CONFIG =~ ^/usr/lib/postgresql/([0-9]+)/ ]]; then
            [[ -e $("$PG_CONFIG" --sharedir)/extension/pg_cron.control ]] || echo "postgresql-${BASH_REMATCH[1]}-cron"
        fi
    fi
    has_libclang || echo libclang-dev clang
    command -v cc >/dev/null || echo gcc libc6-dev
    command -v make >/dev/null || echo make
    command -v pkg-config >/dev/null || echo pkg-config
    return 0
}

install_packages() {
    command -v apt-get >/dev/null || die "Missing, and there is no apt-get to install it with: $*"
    say "Installing $*"
    # A new server package makes and starts a cluster of its own. Nobody asked for one.
    local no_cluster=/etc/postgresql-common/createcluster.d/whatsapp_pg-setup.conf
    as_root mkdir -p "${no_cluster%/*}"
    echo 'create_main_cluster = false' | as_root tee "$no_cluster" >/dev/null
    # shellcheck disable=SC2064 # the path is fixed now
    trap "as_root rm -f '$no_cluster'" EXIT
    as_root apt-get update -q
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@" </dev/null
    as_root rm -f "$no_cluster"
    trap - EXIT
}

require_rust() {
    local wanted found
    wanted=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
    found=$(cargo --version 2>/dev/null | awk '{ print $2 }') || found=
    if [[ -z $found ]]; then
        die "There is no cargo: install Rust $wanted or newer first." \
            "Debian 13 and newer: apt-get install rustup && rustup default stable. Elsewhere: https://rustup.rs"
    elif [[ $(printf '%s\n' "$wanted" "$found" | sort -V | head -n 1) != "$wanted" ]]; then
        die "cargo is $found; whatsapp_pg needs Rust $wanted or newer: rustup update stable"
    fi
}

# First what only the user can mend.
require_rust

read -r -d '' -a packages < <(missing_packages "$@" && printf '\0') || exit 1
if [[ ${#packages[@]} -gt 0 ]]; then
    install_packages "${packages[@]}"
fi
major=$(pg_major)
mkdir -p "$PGRX_HOME"
printf '[configs]\npg%s = "%s"\n' "$major" "$PG_CONFIG" >"$PGRX_HOME/config.toml.new"
# An unchanged file keeps its date: cargo rebuilds what depends on it.
if cmp -s "$PGRX_HOME/config.toml.new" "$PGRX_HOME/config.toml"; then
    rm "$PGRX_HOME/config.toml.new"
else
    mv "$PGRX_HOME/config.toml.new" "$PGRX_HOME/config.toml"
fi

if ! cargo_pgrx >/dev/null; then
    say "Building cargo-pgrx $PGRX_VERSION (once; takes some minutes)"
    CARGO_TARGET_DIR=$PGRX_HOME/build cargo install cargo-pgrx --version "=$PGRX_VERSION" --locked --root "$PGRX_HOME"
    rm -rf "$PGRX_HOME/build"
fi
