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
# A C string is no statement: it is what pg_stat_activity shows.
forbid 'SQL belongs into src/store' '(^|[^c])"[[:space:]]*(SELECT|INSERT|UPDATE|DELETE|WITH)[[:space:]]' src/api src/worker
forbid 'the worker and the store must not know the API' '\bcrate::api\b' src/worker src/store
forbid 'of the API only wa_process_batch knows the worker, which it starts' '\bcrate::worker\b' \
    src/api --exclude=batch.rs

exit "$failed"
