#!/usr/bin/env bash
# The whole story in a terminal: a temporary server, the extension, the example host application, a simulated Graph
# API; a reminder queued, an AI task executed, the worker draining, and what came of each message.
# KEEP=1 leaves it running. Everything lives in one temporary directory; no other server is touched.

source "$(dirname "$0")/common.sh"

readonly ORGANIZER=0a000000-0000-4000-8000-000000000001
readonly EVENT=0e000000-0000-4000-8000-000000000001
readonly HOST_APP=$PWD/tests/host_app

bin=$("$PG_CONFIG" --bindir)
readonly bin
dir=$(mktemp -d "${TMPDIR:-/tmp}/whatsapp_pg-demo.XXXXXX")
readonly dir
simulator_pid=

terminal=false bold='' dim='' normal=''
if [[ -t 1 ]]; then
    terminal=true
    [[ -n ${NO_COLOR:-} ]] || { bold=$'\e[1m' dim=$'\e[2m' normal=$'\e[0m'; }
fi

# PostgreSQL refuses to run as root.
as_server_user() {
    if [[ $EUID -eq 0 ]]; then
        (cd "$dir" && runuser -u postgres -- "$@")
    else
        (cd "$dir" && "$@")
    fi
}

stop_all() {
    if [[ -e $dir/data/postmaster.pid ]]; then
        as_server_user "$bin/pg_ctl" stop -D "$dir/data" -m fast -s || true
    fi
    if [[ -n $simulator_pid ]]; then
        kill "$simulator_pid" 2>/dev/null || true
        wait "$simulator_pid" 2>/dev/null || true
    fi
    rm -rf "$dir"
}
trap stop_all EXIT
trap 'exit 130' INT TERM

chapter() {
    printf '\n%s%s%s\n' "$bold" "$*" "$normal"
}

# psql in the demo's database; messages come on standard error without file names.
sql() {
    "$bin/psql" -X -q -h "$dir" -U postgres -d demo -v ON_ERROR_STOP=1 \
        -v organizer="$ORGANIZER" -v event="$EVENT" "$@"
}

show_statement() {
    printf '%s\n' "$1" | sed "s/^/  $dim/; s/\$/$normal/"
}

# Shows a statement, runs it, shows the answer indented.
show_sql() {
    show_statement "$1"
    sql -P border=1 -P linestyle=unicode -P footer=off -P null=- "${@:2}" <<<"$1" 2>&1 |
        sed 's/^psql:<stdin>:[0-9]*: //; /^$/d; s/^/    /'
}

one_value() {
    sql -At <<<"$1"
}

# A request to the simulator's control API.
control() {
    local method=$1 path=$2 body=${3:-}
    exec 3<>"/dev/tcp/127.0.0.1/${graph_url##*:}"
    printf '%s /_control/%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s' \
        "$method" "$path" "$(printf %s "$body" | wc -c)" "$body" >&3
    tail -n 1 <&3
    exec 3>&-
}

start_simulator() {
    : >"$dir/graph-simulator.log"
    # Meta takes a few hundred milliseconds per message, and so does this.
    setsid "$TARGET/release/graph-simulator" --listen 127.0.0.1:0 --latency-ms 250 --latency-jitter-ms 350 \
        >"$dir/graph-simulator.log" 2>&1 &
    simulator_pid=$!
    local tries
    for ((tries = 0; tries < 100; tries++)); do
        graph_url=$(sed -n 's/^Graph API stand-in on //p' "$dir/graph-simulator.log")
        [[ -z $graph_url ]] || break
        kill -0 "$simulator_pid" 2>/dev/null || break
        sleep 0.05
    done
    [[ -n $graph_url ]] || die 'The simulator did not start:' "$(cat "$dir/graph-simulator.log")"
    # One recipient turns out not to be on WhatsApp, and one call meets a hiccup at Meta and is tried again.
    control PUT faults '[{"match": {"to": "+254712123456"}, "action": {"error": {"code": 131026}}},
                         {"match": {"to": "+972502345678", "first": 1}, "action": {"error": {"code": 131000}}}]' >/dev/null
}

start_server() {
    [[ $EUID -ne 0 ]] || chown postgres "$dir"
    as_server_user "$bin/initdb" -D "$dir/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 --no-sync >"$dir/initdb.log" ||
        die 'initdb failed:' "$(cat "$dir/initdb.log")"
    cat >>"$dir/data/postgresql.conf" <<EOF
listen_addresses = ''
unix_socket_directories = '$dir'
fsync = off
shared_preload_libraries = 'whatsapp_pg'
whatsapp_pg.graph_url = '$graph_url'
whatsapp_pg.sender_threads = 4
whatsapp_pg.retry_delay = '2s'
EOF
    as_server_user "$bin/pg_ctl" start -D "$dir/data" -l "$dir/server.log" -w -s ||
        die 'The server did not start:' "$(tail "$dir/server.log")"
    "$bin/createdb" -h "$dir" -U postgres demo
}

# How far the tasks are: redrawn in place on a terminal, a line a second elsewhere.
watch_tasks() {
    local sent waiting flying failed total full line drawn=-1 width=32
    while true; do
        IFS='|' read -r sent waiting flying failed < <(one_value "
            SELECT count(*) FILTER (WHERE status = 'sent'), count(*) FILTER (WHERE status = 'queued'),
                   count(*) FILTER (WHERE status = 'sending'), count(*) FILTER (WHERE status = 'failed')
            FROM whatsapp_queue WHERE task_id IS NOT NULL")
        total=$((sent + waiting + flying + failed))
        full=$((total == 0 ? width : (sent + failed) * width / total))
        line=$(printf '%s%s  %d sent, %d in flight, %d waiting, %d failed' \
            "$(printf '%*s' "$full" '' | tr ' ' '#')" "$(printf '%*s' $((width - full)) '' | tr ' ' '.')" \
            "$sent" "$flying" "$waiting" "$failed")
        if $terminal; then
            printf '\r    %s\e[K' "$line"
        elif [[ $drawn -ne $SECONDS || $((waiting + flying)) -eq 0 ]]; then
            printf '    %s\n' "$line"
            drawn=$SECONDS
        fi
        [[ $((waiting + flying)) -gt 0 ]] || break
        [[ $((SECONDS - began)) -lt 120 ]] || die 'The worker is stuck:' "$(tail "$dir/server.log")"
        sleep 0.1
    done
    ! $terminal || echo
}

# Two columns, the second broken between words.
show_list() {
    local first rest
    show_statement "$1"
    sql -At -F '|' <<<"$1" | while IFS='|' read -r first rest; do
        printf '%s\n' "$rest" | fold -s -w 76 |
            awk -v first="$first" '{ printf "    %-25s %s\n", NR == 1 ? first : "", $0 }' | sed 's/ *$//'
    done
}

began=$SECONDS
chapter '1. A server of our own and a stand-in for the Graph API'
start_simulator
start_server
printf '    %s, socket in %s\n' "$(one_value "SELECT 'PostgreSQL ' || current_setting('server_version')")" "$dir"
printf '    Graph API stand-in on %s: nothing here reaches anybody\n' "$graph_url"

chapter '2. The host application: an event platform with one event'
sql -f "$HOST_APP/schema.sql" -f "$HOST_APP/data.sql"
show_sql "SELECT e.name AS event, count(*) AS attendees, count(*) FILTER (WHERE ticket_type = 'VIP') AS vip,
       count(*) FILTER (WHERE coalesce(attendee_info ->> 'phone', '') = '') AS no_phone
FROM attendees AS a JOIN orders AS o ON o.id = a.order_id JOIN ai_events AS e ON e.id = o.event_id GROUP BY e.name;"

chapter '3. The extension and the account of the organizer'
show_sql 'CREATE EXTENSION whatsapp_pg;'
show_sql "SELECT wa_configure(user_id => :'organizer', phone_number_id => '106540352242922',
       business_account_id => '102290129340398', access_token => :'token',
       webhook_verify_token => 'a-word-of-your-own') IS NOT NULL AS configured;" -v token=EAAG-not-a-real-token
sql -f "$HOST_APP/templates.sql"
show_sql "SELECT left(access_token_encrypted, 24) || '…' AS token_as_stored,
       (SELECT count(*) FROM whatsapp_templates) AS approved_templates FROM whatsapp_config;"

chapter '4. A reminder, a day before the event'
reminder() {
    printf "SELECT count(*) AS queued, min(scheduled_for) AS leaves_at
FROM wa_enqueue(user_id => :'organizer', event_id => :'event', recipients => ARRAY['%s', '%s'],
       template_name => 'event_reminder_24h',
       variables => '{\"attendee_name\": \"John Doe\", \"event_name\": \"Tech Summit\", \"event_time\": \"10:00 AM\"}',
       scheduled_for => (SELECT start_date - interval '24 hours' FROM ai_events WHERE id = :'event'));" "$1" "$2"
}
echo '    With a number that cannot exist, nothing is queued:'
show_sql "$(reminder +12015550123 +0987654321)" || true
echo '    With two good ones:'
show_sql "$(reminder +12015550123 +447400123456)"

chapter '5. Two AI tasks start: news for everybody, the check-in code for VIP tickets'
show_sql "INSERT INTO ai_tasks (event_id, task_type, scheduled_for, template_name, recipient_filter, metadata) VALUES
    (:'event', 'send_update', now(), 'event_update', NULL, '{\"update_message\": \"Doors open at nine.\"}'),
    (:'event', 'check_in_prep', now(), 'check_in_instructions', '{\"ticket_type\": \"VIP\"}', '{}');
UPDATE ai_tasks SET status = 'executing';"
watch_tasks
show_sql 'SELECT template_name, queued_count AS queued, refused_count AS refused, no_phone_count AS no_phone,
       duplicate_count AS same_number FROM ai_tasks ORDER BY template_name DESC;'

chapter '6. What came of it'
show_sql "SELECT state, count(*) AS messages, min(\"to\") AS for_example FROM whatsapp_messages
GROUP BY state ORDER BY messages DESC;"
show_sql "SELECT \"to\", template, state, to_char(since, 'HH24:MI:SS.MS') AS since, next_step
FROM whatsapp_messages WHERE state <> 'failed' ORDER BY state, since DESC LIMIT 6;"
echo '    One met a hiccup at Meta and was tried again:'
show_sql "SELECT q.recipient_phone AS \"to\", l.attempt, l.status, l.http_status AS http, l.error_code, l.latency_ms AS ms
FROM whatsapp_delivery_logs AS l JOIN whatsapp_queue AS q ON q.id = l.queue_id
WHERE q.retry_count > 0 ORDER BY l.attempt;"

chapter '7. What was refused, and why'
show_list "SELECT DISTINCT \"to\", error FROM whatsapp_messages WHERE state = 'failed' ORDER BY 1;"

chapter '8. The limits'
show_sql "SELECT limit_name, allowed, used, remaining, wa_rate_ok(:'organizer') AS ok FROM wa_rate_status(:'organizer')
WHERE used IS NOT NULL;"

chapter '9. One message from its beginning to its end, and is anything missing?'
show_list "SELECT what, details FROM wa_explain((SELECT id FROM whatsapp_queue WHERE retry_count > 0 LIMIT 1)) WHERE what <> 'the request';"
show_sql "SELECT check_name, expected, found, ok FROM wa_audit(full => true);"

stats=$(control GET stats)
count_of() { grep -o "\"$1\":[0-9]*" <<<"$stats" | head -n 1 | cut -d: -f2; }
printf '\n    The stand-in accepted %s messages, %s of them twice; the database says %s were sent. (%d s)\n' \
    "$(count_of accepted)" "$(count_of duplicates)" \
    "$(one_value "SELECT count(*) FROM whatsapp_queue WHERE status = 'sent'")" $((SECONDS - began))

if [[ -n ${KEEP:-} ]]; then
    cat >"$dir/stop" <<EOF
#!/bin/sh
# Stops this demo and removes its files.
cd / && kill $simulator_pid $(head -n 1 "$dir/data/postmaster.pid")
while kill -0 $(head -n 1 "$dir/data/postmaster.pid") 2>/dev/null; do sleep 0.1; done
rm -rf '$dir'
EOF
    trap - EXIT
    disown "$simulator_pid"
    printf '\n    It keeps running:   %s/psql -h %s -U postgres demo\n    To stop it:         sh %s/stop\n' "$bin" "$dir" "$dir"
fi
