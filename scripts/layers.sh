#!/usr/bin/env bash
# Who may know whom. Threads that send may never reach Postgres, so what they run cannot even name it; SQL stands
# in src/store alone, so that names are qualified and plans are pinned in one place.

source "$(dirname "$0")/common.sh"

failed=0

# Lines of the Rust files below some directories that match a pattern, without comments.
lines() {
    local pattern=$1
    shift
    grep -rnE --include='*.rs' "$pattern" "$@" | grep -vE '^[^:]+:[0-9]+:[[:space:]]*//' || true
}

forbid() {
    local rule=$1 found
    shift
    found=$(lines "$@")
    if [[ -n $found ]]; then
        printf '%s:\n%s\n\n' "$rule" "$found" >&2
        failed=1
    fi
}

forbid 'crates/ must not know Postgres' '\b(pgrx|pg_sys)\b' crates/cloud-api crates/keyring
forbid 'the simulator must not share code with what it checks' '\b(cloud_api|keyring)::' crates/graph-simulator
forbid 'SQL belongs into src/store' \
    '"[^"]*\b(SELECT[[:space:]].*[[:space:]]FROM|INSERT[[:space:]]+INTO|UPDATE[[:space:]]+[a-z_{].*[[:space:]]SET|DELETE[[:space:]]+FROM)\b' \
    src/api src/worker
forbid 'the API and the worker meet only in src/store' '\bcrate::worker\b' src/api
forbid 'the API and the worker meet only in src/store' '\bcrate::api\b' src/worker src/store

exit "$failed"
