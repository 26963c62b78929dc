#!/usr/bin/env bash
# Puts the built extension where PostgreSQL looks for it.

source "$(dirname "$0")/common.sh"

tree=$TARGET/package/pg$(pg_major)
library=$("$PG_CONFIG" --pkglibdir)
extension=$("$PG_CONFIG" --sharedir)/extension

# Written beside and renamed: a running server keeps the library it has loaded, and whoever loads it meanwhile finds
# the old one or the new one, never none.
put() {
    local mode=$1 file=$2 directory=$3
    as_root install -m "$mode" "$file" "$directory/.new-${file##*/}"
    as_root mv -f "$directory/.new-${file##*/}" "$directory/${file##*/}"
}

as_root install -d "$library" "$extension"
put 755 "$tree$library/whatsapp_pg.so" "$library"
for file in "$tree$extension"/whatsapp_pg--*.sql "$tree$extension/whatsapp_pg.control"; do
    put 644 "$file" "$extension"
done
