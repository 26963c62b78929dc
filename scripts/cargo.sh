#!/usr/bin/env bash
# cargo with the environment that a crate depending on pgrx needs.

source "$(dirname "$0")/common.sh"
exec cargo "$@"
