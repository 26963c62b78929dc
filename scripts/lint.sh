#!/usr/bin/env bash
# Format, clippy, the layers of the code, and the scripts themselves.

source "$(dirname "$0")/common.sh"

if ! cargo fmt --version >/dev/null 2>&1 || ! cargo clippy --version >/dev/null 2>&1; then
    rustup component add rustfmt clippy
fi

say 'Format'
cargo fmt --all --check

say 'Clippy'
cargo clippy --workspace --all-targets --no-default-features --features "whatsapp_pg/pg$(pg_major)" -- -D warnings

say 'Layers'
scripts/layers.sh

if command -v shellcheck >/dev/null; then
    say 'Scripts'
    shellcheck --external-sources --source-path=SCRIPTDIR scripts/*.sh .ci/run
fi
