#!/usr/bin/env bash
# Removes what can be built again in a minute; cargo-pgrx, which takes several, stays.

source "$(dirname "$0")/common.sh"

rm -rf "${TARGET:?}"/{debug,release,doc,package,tmp}
