#!/usr/bin/env bash
# Removes what install.sh put in place. Databases that have the extension must DROP EXTENSION first.

source "$(dirname "$0")/common.sh"

extension=$("$PG_CONFIG" --sharedir)/extension
as_root rm -f "$("$PG_CONFIG" --pkglibdir)/whatsapp_pg.so" \
    "$extension/whatsapp_pg.control" "$extension"/whatsapp_pg--*.sql
