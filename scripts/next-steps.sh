#!/usr/bin/env bash
# What is left to do after `make install`, for the server's administrator.

source "$(dirname "$0")/common.sh"

cat <<EOF

Installed for $("$PG_CONFIG" --version). What is left to do, as the server's administrator:

  1. in postgresql.conf:  shared_preload_libraries = 'whatsapp_pg'
     (add it to what stands there already, separated by a comma)
  2. restart the server
  3. in your database:  CREATE EXTENSION whatsapp_pg;

Without steps 1 and 2 messages leave only when wa_process_batch() is called, by hand or by pg_cron.
EOF
