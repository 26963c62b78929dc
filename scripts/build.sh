#!/usr/bin/env bash
# Builds the extension into a directory tree as it will lie on the system. Needs no privileges.

source "$(dirname "$0")/common.sh"

major=$(pg_major)
"$(cargo_pgrx)" pgrx package --pg-config "$PG_CONFIG" --no-default-features --features "pg$major" \
    --out-dir "$TARGET/package/pg$major"
scripts/upgrade-scripts.sh "$TARGET/package/pg$major$("$PG_CONFIG" --sharedir)/extension"
