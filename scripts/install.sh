#!/usr/bin/env bash
# Puts the built extension where PostgreSQL looks for it.

source "$(dirname "$0")/common.sh"

tree=$TARGET/package/pg$(pg_major)
library=$("$PG_CONFIG" --pkglibdir)
extension=$("$PG_CONFIG" --sharedir)/extension

# install(1) replaces a file and does not write into it: a running server keeps the library it has loaded.
as_root install -d "$library" "$extension"
as_root install -m 755 "$tree$library/whatsapp_pg.so" "$library/"
as_root install -m 644 "$tree$extension/whatsapp_pg.control" "$tree$extension"/whatsapp_pg--*.sql "$extension/"
