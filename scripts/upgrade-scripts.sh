#!/usr/bin/env bash
# Writes the upgrade scripts (ALTER EXTENSION whatsapp_pg UPDATE) into the directory given: for each released version
# what its tables lack, then everything that can simply be made anew. Objects the extension does not own are never
# replaced: PostgreSQL refuses that in extension scripts.

source "$(dirname "$0")/common.sh"

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
for delta in sql/upgrades/[0-9]*.sql; do
    from=${delta##*/}
    from=${from%.sql}
    {
        printf '%s\n' '\echo Use "ALTER EXTENSION whatsapp_pg UPDATE" to load this file. \quit'
        cat "$delta" sql/contacts.sql sql/ledger.sql
        # The order of the manifest in src/lib.rs.
        for part in functions limits outcomes explain audit doctor host triggers views security; do
            cat "sql/$part.sql"
        done
        cat sql/upgrades/finish.sql
    } >"$1/whatsapp_pg--$from--$version.sql"
done
