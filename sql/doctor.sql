-- wa_doctor(): what is wrong, what it means, what to do. Everything is looked up through indexes or in memory, so that
-- it can be asked at any time, whatever the backlog.

CREATE OR REPLACE FUNCTION wa_secret_problems () RETURNS TABLE (user_id uuid, problem text)
LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wa_secret_problems_wrapper';
COMMENT ON FUNCTION wa_secret_problems () IS
'Internal: accounts whose token or app secret cannot be opened, and why; without an organizer: the key itself cannot be used.';

-- The plan settings are the worker's: what is due must be found through the claim's index, whatever the statistics say.
CREATE OR REPLACE FUNCTION wa_doctor_report (library text, is_preloaded boolean)
RETURNS TABLE (severity text, finding text, detail text, meaning text, what_to_do text)
LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp SET enable_sort = off SET enable_bitmapscan = off SET jit = off
AS $$
WITH RECURSIVE here AS (
    SELECT d.oid, d.datname AS name, i.id AS installation, pg_is_in_recovery() AS is_standby,
           coalesce(current_setting('whatsapp_pg.mode', true), 'live') AS mode,
           coalesce(current_setting('whatsapp_pg.only_to', true), '') AS only_to,
           ARRAY['*', d.datname::text] && regexp_split_to_array(
               coalesce(current_setting('whatsapp_pg.databases', true), '*'), '[\s,"]+') AS is_served,
           coalesce(current_setting('whatsapp_pg.unknown_wait', true), '5min')::interval AS unknown_wait
    FROM pg_database AS d LEFT JOIN @extschema@.whatsapp_installation AS i ON true
    WHERE d.datname = current_database()
), worker AS (
    SELECT w.* FROM here AS h JOIN @extschema@.wa_worker_states() AS w ON w.database_id = h.oid
), organizers (user_id) AS (
    -- Who has something queued: one index probe each.
    (SELECT q.user_id FROM @extschema@.whatsapp_queue AS q WHERE q.status = 'queued' ORDER BY q.user_id LIMIT 1)
    UNION ALL
    SELECT (SELECT q.user_id FROM @extschema@.whatsapp_queue AS q
            WHERE q.status = 'queued' AND q.user_id > o.user_id ORDER BY q.user_id LIMIT 1)
    FROM organizers AS o WHERE o.user_id IS NOT NULL
), copies AS (
    SELECT c.user_id FROM @extschema@.whatsapp_config AS c CROSS JOIN here AS h
    WHERE c.sender_installation IS DISTINCT FROM h.installation OR c.sender_database IS DISTINCT FROM h.oid
), secrets AS (
    SELECT p.user_id, p.problem FROM @extschema@.wa_secret_problems() AS p
), holds AS (
    SELECT h.*, coalesce(r.reaction = 'hold_account_token', false) AS is_token
    FROM @extschema@.whatsapp_holds AS h
    LEFT JOIN (SELECT DISTINCT e.code::text AS code, e.reaction FROM @extschema@.wa_error_rules() AS e
               WHERE e.subcode IS NULL) AS r ON r.code = h.code
    WHERE h.source = 'meta' OR h.until > now()
), stopped AS (
    -- Their backlog is no news: another finding says why.
    SELECT h.user_id FROM holds AS h WHERE h.scope IN ('account', 'number')
    UNION SELECT c.user_id FROM copies AS c
    UNION SELECT s.user_id FROM secrets AS s WHERE s.user_id IS NOT NULL
    UNION SELECT c.user_id FROM @extschema@.whatsapp_config AS c WHERE c.status <> 'active'
), heads AS (
    -- The first due message of each organizer and priority.
    SELECT o.user_id, d.id, d.scheduled_for, d.error_code, d.error_message, d.updated_at
    FROM organizers AS o
    CROSS JOIN generate_series(1, 10) AS p (priority)
    CROSS JOIN LATERAL (
        SELECT q.id, q.scheduled_for, q.error_code, q.error_message, q.updated_at FROM @extschema@.whatsapp_queue AS q
        WHERE q.status = 'queued' AND q.user_id = o.user_id AND q.priority = p.priority AND q.scheduled_for <= now()
        ORDER BY q.scheduled_for, q.seq LIMIT 1) AS d
    WHERE o.user_id IS NOT NULL
), late AS (
    -- The oldest message of an organizer that could have left five minutes ago; the look past held ones is bounded.
    SELECT DISTINCT ON (o.user_id) o.user_id, d.id, d.scheduled_for, p.next_free
    FROM organizers AS o
    JOIN @extschema@.whatsapp_config AS c ON c.user_id = o.user_id
    LEFT JOIN @extschema@.whatsapp_pacing AS p ON p.phone_number_id = c.phone_number_id
    CROSS JOIN generate_series(1, 10) AS lane (priority)
    CROSS JOIN LATERAL (
        SELECT (a.q).id, (a.q).scheduled_for
        FROM (SELECT q FROM @extschema@.whatsapp_queue AS q
              WHERE q.status = 'queued' AND q.user_id = o.user_id AND q.priority = lane.priority
                AND q.scheduled_for < now() - interval '5 minutes'
              ORDER BY q.scheduled_for, q.seq LIMIT 20) AS a
        WHERE NOT EXISTS (SELECT FROM @extschema@.whatsapp_holds_on(a.q)) LIMIT 1) AS d
    WHERE o.user_id NOT IN (SELECT s.user_id FROM stopped AS s)
    ORDER BY o.user_id, d.scheduled_for
), tables AS (
    SELECT s.relname, s.n_live_tup, s.n_dead_tup, s.last_autovacuum FROM pg_stat_all_tables AS s
    WHERE s.relid IN ('@extschema@.whatsapp_queue'::regclass, '@extschema@.whatsapp_config'::regclass,
                      '@extschema@.whatsapp_pacing'::regclass, '@extschema@.whatsapp_usage'::regclass,
                      '@extschema@.whatsapp_ledger'::regclass)
      AND s.n_dead_tup > 100000 AND s.n_dead_tup > s.n_live_tup * 0.2
), horizons (who, since, age, cure) AS (
    -- What keeps VACUUM from removing dead rows of this database.
    SELECT format('%s of %s, pid %s, %s', a.backend_type, coalesce(a.usename, '?'), a.pid, coalesce(a.state, 'running')),
           a.xact_start, age(a.backend_xmin), format('SELECT pg_terminate_backend(%s)', a.pid)
    FROM pg_stat_activity AS a CROSS JOIN here AS h
    WHERE a.backend_xmin IS NOT NULL AND a.pid <> pg_backend_pid() AND coalesce(a.datid, 0) IN (0, h.oid)
    UNION ALL
    SELECT format('prepared transaction %L of %s', x.gid, x.owner), x.prepared, age(x.transaction),
           format('ROLLBACK PREPARED %L (or COMMIT PREPARED)', x.gid)
    FROM pg_prepared_xacts AS x CROSS JOIN here AS h WHERE x.database = h.name
    UNION ALL
    SELECT format('replication slot %s (%s)', s.slot_name, CASE WHEN s.active THEN 'active' ELSE 'nobody reads it' END),
           NULL, age(s.xmin), format('SELECT pg_drop_replication_slot(%L) if nobody needs it', s.slot_name)
    FROM pg_replication_slots AS s WHERE s.xmin IS NOT NULL
), host AS (
    SELECT o.name, o.oid FROM @extschema@.whatsapp_host AS h
    CROSS JOIN LATERAL (VALUES ('profiles', h.profiles), ('ai_events', h.ai_events), ('orders', h.orders),
                               ('attendees', h.attendees), ('rate_limits', h.rate_limits), ('audience', h.audience))
         AS o (name, oid)
), findings (rank, place, finding, detail, meaning, what_to_do) AS (
    -- ------------------------------------------------------------------------------------------------ the worker
    SELECT 3, 1, 'standby', 'This server is a standby.', 'It sends nothing until it is promoted; the primary does.', 'Nothing.'
    FROM here AS h WHERE h.is_standby
    UNION ALL
    SELECT 2, 1, 'worker not loaded', 'The library is not in shared_preload_libraries.',
           'Nothing leaves by itself: only calls of wa_process_batch() send.',
           'Add whatsapp_pg to shared_preload_libraries and restart the server, or have pg_cron call wa_process_batch().'
    FROM here AS h WHERE NOT h.is_standby AND NOT is_preloaded
    UNION ALL
    SELECT 2, 1, 'not served', format('whatsapp_pg.databases is %s.', current_setting('whatsapp_pg.databases', true)),
           'No worker serves this database: nothing leaves by itself.',
           format('ALTER SYSTEM SET whatsapp_pg.databases = ''*'' (or a list with %s in it), then SELECT pg_reload_conf().',
                  h.name)
    FROM here AS h WHERE NOT h.is_standby AND is_preloaded AND NOT h.is_served
    UNION ALL
    SELECT CASE WHEN w.state IN ('starting', 'not looked at yet') THEN 3 ELSE 1 END, 1, 'worker not running',
           concat_ws('. ', 'State: ' || coalesce(w.state, 'the launcher does not know this database'), nullif(w.note, '')) || '.',
           'Nothing leaves this database while its worker is away; what is queued waits.',
           CASE WHEN w.state IN ('starting', 'not looked at yet') THEN 'Wait some seconds and ask again.'
                ELSE 'It is started again by itself. If it stays away, the server''s log says why; see max_worker_processes.' END
    FROM here AS h LEFT JOIN worker AS w ON true
    WHERE NOT h.is_standby AND is_preloaded AND h.is_served AND (w.state IS NULL OR w.state <> 'serving' OR w.pid IS NULL)
    UNION ALL
    SELECT 1, 1, 'worker late', format('Process %s last looked after its work at %s.', w.pid, date_trunc('second', w.last_pass_at)),
           'It is stuck or starved: messages do not leave, or late.',
           format('See pg_stat_activity for what it waits for. SELECT pg_terminate_backend(%s) is safe: it records what is '
                  'known and comes back.', w.pid)
    FROM worker AS w CROSS JOIN here AS h
    WHERE NOT h.is_standby AND w.state = 'serving' AND w.last_pass_at < clock_timestamp() - interval '30 seconds'
    UNION ALL
    SELECT CASE WHEN w.note LIKE 'organizer %' THEN 3 ELSE 2 END, 2, 'worker holds back', w.note,
           'The worker lives and does not send, at least not for everybody.', 'Mend what it says; it goes on by itself.'
    FROM worker AS w CROSS JOIN here AS h
    WHERE w.state = 'serving' AND w.note <> '' AND w.note NOT LIKE 'Meta cannot be reached%' AND h.mode <> 'off'
    UNION ALL
    SELECT 2, 3, CASE WHEN v.is_newer THEN 'update due' ELSE 'restart due' END,
           format('The library is version %s, the catalog %s.', library, v.extversion),
           'The one works with the other as far as it can, without what is new.',
           CASE WHEN v.is_newer THEN 'ALTER EXTENSION whatsapp_pg UPDATE;'
                ELSE 'Restart the server, so that it loads the library that is installed.' END
    FROM (SELECT e.extversion, string_to_array(split_part(library, '-', 1), '.')::int[]
                               > string_to_array(split_part(e.extversion, '-', 1), '.')::int[] AS is_newer
          FROM pg_extension AS e WHERE e.extname = 'whatsapp_pg' AND e.extversion <> library) AS v
    UNION ALL
    SELECT CASE WHEN s.used >= s.size THEN 1 ELSE 2 END, 4, 'worker slots',
           format('%s of max_worker_processes = %s are in use.', s.used, s.size),
           'A worker that has to start finds no slot: the drainer of a database, wa_process_batch(), parallel queries, and '
           'those of other extensions.',
           'Raise max_worker_processes and restart the server.'
    FROM (SELECT count(*)::int AS used, current_setting('max_worker_processes')::int AS size
          FROM pg_stat_activity AS a
          -- All that is no background worker (PostgreSQL: pg_stat_activity).
          WHERE a.backend_type NOT IN ('client backend', 'autovacuum launcher', 'autovacuum worker', 'background writer',
                                       'checkpointer', 'walwriter', 'walsender', 'walreceiver', 'walsummarizer', 'startup',
                                       'archiver', 'logger', 'slotsync worker', 'io worker', 'standalone backend',
                                       'dead-end client backend')) AS s
    WHERE s.used >= s.size - 1
    UNION ALL
    -- ---------------------------------------------------------------------------------------- what stops sending
    SELECT 1, 10, CASE WHEN s.user_id IS NULL THEN 'key' ELSE 'secret' END,
           coalesce('Organizer ' || s.user_id || ': ', '') || s.problem,
           CASE WHEN s.user_id IS NULL THEN 'Tokens cannot be opened: nothing leaves.'
                ELSE 'This account cannot send, or cannot check Meta''s reports.' END,
           CASE WHEN s.user_id IS NULL
                    THEN 'Give the key back: wa_import_key(), or whatsapp_pg.key_file. If it is lost: wa_rotate_key(), then '
                         'wa_configure() with new tokens.'
                ELSE 'Import the key of the database it comes from with wa_import_key(), or run wa_configure() again.' END
    FROM secrets AS s
    UNION ALL
    SELECT 1, 11, 'Meta unreachable', u.detail, 'No connection to the Graph API; messages wait and nothing is lost.',
           format('Check name resolution, firewall and proxy from this server to %s.',
                  coalesce(current_setting('whatsapp_pg.graph_url', true), 'the Graph API'))
    FROM (SELECT w.note AS detail FROM worker AS w WHERE w.note LIKE 'Meta cannot be reached%'
          UNION ALL
          SELECT DISTINCT ON (h.error_code) h.error_message FROM heads AS h
          WHERE h.error_code = 'unreachable' AND h.updated_at > now() - interval '15 minutes'
          LIMIT 1) AS u
    UNION ALL
    SELECT 1, 12, 'token refused',
           format('Organizer %s, code %s, since %s: %s', h.user_id, h.code, date_trunc('second', h.held_at), h.reason),
           'Meta does not take the account''s access token: nothing of this organizer leaves.',
           format('Make a new token and store it: SELECT wa_configure(user_id => %L, …). That ends the hold.', h.user_id)
    FROM holds AS h WHERE h.is_token AND h.source = 'meta'
    UNION ALL
    SELECT CASE WHEN h.source = 'person' THEN 3 WHEN h.scope = 'account' THEN 1 ELSE 2 END, 13,
           CASE h.source WHEN 'person' THEN 'paused' ELSE 'held by Meta' END,
           format('Organizer %s, %s %s, since %s, %s%s: %s', h.user_id, h.scope, h.subject, date_trunc('second', h.held_at),
                  @extschema@.whatsapp_hold_end(h.scope, h.source, h.until), coalesce(', code ' || h.code, ''), h.reason),
           CASE h.source WHEN 'person' THEN coalesce(h.held_by, 'Somebody') || ' paused it: what it means stays queued.'
                         ELSE 'Meta refused, and until this is over what it concerns stays back.' END,
           'To end it by hand: ' || @extschema@.whatsapp_resume_call(h.user_id, h.scope, h.subject)
    FROM holds AS h WHERE NOT (h.is_token AND h.source = 'meta')
    UNION ALL
    SELECT 1, 14, 'copy', format('%s accounts belong to another database.', c.accounts),
           'This database is a copy of another: it queues and sends nothing for them.',
           'If it is the one that sends now: see that nothing queued has left from the original, then SELECT wa_adopt_copy().'
    FROM (SELECT count(*) AS accounts FROM copies) AS c WHERE c.accounts > 0
    UNION ALL
    SELECT 2, 15, 'mode off', 'whatsapp_pg.mode is off.', 'Everything is queued and nothing leaves.',
           format('To send: ALTER DATABASE %I RESET whatsapp_pg.mode (or ALTER SYSTEM, where it was set).', h.name)
    FROM here AS h WHERE h.mode = 'off'
    UNION ALL
    SELECT 3, 16, 'only_to',
           format('whatsapp_pg.only_to names %s numbers.', cardinality(regexp_split_to_array(trim(h.only_to), '[\s,"]+'))),
           'Messages to all other numbers stay queued.',
           format('To send to everybody: ALTER DATABASE %I RESET whatsapp_pg.only_to.', h.name)
    FROM here AS h WHERE h.only_to <> ''
    UNION ALL
    SELECT CASE WHEN c.user_id IS NULL THEN 2 ELSE 3 END, 17,
           CASE WHEN c.user_id IS NULL THEN 'no account' ELSE 'account not active' END,
           format('Organizer %s has messages queued and %s.', o.user_id,
                  CASE WHEN c.user_id IS NULL THEN 'no row in whatsapp_config' ELSE 'an account that is ' || c.status END),
           CASE WHEN c.user_id IS NULL THEN 'They fail when their time comes.' ELSE 'They wait.' END,
           format('SELECT wa_configure(user_id => %L, …), or SELECT wa_cancel(user_id => %L).', o.user_id, o.user_id)
    FROM organizers AS o LEFT JOIN @extschema@.whatsapp_config AS c ON c.user_id = o.user_id
    WHERE o.user_id IS NOT NULL AND (c.user_id IS NULL OR c.status <> 'active')
    UNION ALL
    -- -------------------------------------------------------------------------------- messages that are not served
    SELECT CASE WHEN l.next_free > now() - interval '1 minute' THEN 3 ELSE 2 END, 20, 'oldest due message',
           format('Organizer %s: message %s is due since %s (%s).', l.user_id, l.id, date_trunc('second', l.scheduled_for),
                  date_trunc('second', now() - l.scheduled_for)),
           CASE WHEN l.next_free > now() - interval '1 minute'
                    THEN 'More came in than the limits let out: others of this organizer leave, this one waits for its turn.'
                ELSE 'Nothing holds it and yet it has not left.' END,
           format('SELECT * FROM wa_rate_status(%L); SELECT * FROM wa_explain(%L);', l.user_id, l.id)
    FROM late AS l CROSS JOIN here AS h WHERE h.mode <> 'off' AND h.only_to = ''
    UNION ALL
    SELECT 2, 21, 'stuck leases', format('%s messages are being sent since longer than a call can take.', s.messages),
           'Their worker died or is stuck. Whether Meta has them is not known.',
           'The worker declares them unknown at its next look, within whatsapp_pg.poll_interval. If they stay: is it running?'
    FROM (SELECT count(*) AS messages FROM @extschema@.whatsapp_queue AS q
          WHERE q.status = 'sending' AND q.lease_until < clock_timestamp()) AS s WHERE s.messages > 0
    UNION ALL
    SELECT 2, 22, 'unknown outcomes',
           format('Organizer %s: %s messages, the oldest since %s. Policy: %s.', u.user_id, u.messages,
                  date_trunc('second', u.since), coalesce(c.on_unknown, 'none')),
           'Meta may have them or not, and has not reported in time.',
           CASE c.on_unknown
               WHEN 'resend' THEN 'They are sent again only while Meta''s reports are known to arrive for this number. '
               WHEN 'fail' THEN 'They fail at the worker''s next look. ' ELSE '' END
           || format('SELECT id, "to", since FROM whatsapp_messages WHERE state = ''unknown'' AND user_id = %L; to send one '
                     '(again, perhaps): SELECT wa_retry(id, force => true). See wa_set_policy().', u.user_id)
    FROM (SELECT q.user_id, count(*) AS messages, min(q.updated_at) AS since
          FROM @extschema@.whatsapp_queue AS q CROSS JOIN here AS h
          WHERE q.status = 'unknown' AND q.updated_at < now() - h.unknown_wait GROUP BY q.user_id) AS u
    LEFT JOIN @extschema@.whatsapp_config AS c ON c.user_id = u.user_id
    UNION ALL
    -- Sent more than a quarter of an hour ago, in the last day, and no word of anything so young.
    SELECT 2, 23, 'webhooks missing',
           format('Number %s of organizer %s sends, and %s.', c.phone_number_id, c.user_id,
                  coalesce('the last message Meta reported on was sent at ' || date_trunc('second', p.status_seen_for),
                           'Meta has never reported on a message')),
           'Nobody learns what was delivered, and unknown outcomes stay unknown.',
           format('Let the web server hand Meta''s webhooks to wa_webhook_receive(body, signature), and subscribe the app: '
                  'POST /%s/subscribed_apps, with the field messages.', c.business_account_id)
    FROM @extschema@.whatsapp_config AS c
    JOIN @extschema@.whatsapp_pacing AS p ON p.phone_number_id = c.phone_number_id
    WHERE c.status = 'active' AND p.next_free > now() - interval '1 day'
      AND (p.status_seen_for IS NULL OR p.status_seen_for < now() - interval '1 day')
      AND c.user_id NOT IN (SELECT s.user_id FROM stopped AS s)
      AND (p.next_free < now() - interval '15 minutes'
           OR EXISTS (SELECT FROM @extschema@.whatsapp_usage AS u
                      WHERE u.phone_number_id = c.phone_number_id
                        AND u.ends BETWEEN now() - interval '1 day' AND now() - interval '15 minutes'))
    UNION ALL
    -- --------------------------------------------------------------------------------------------- the database
    SELECT 2, 30, 'dead rows', format('%s has %s dead rows beside %s live ones; last autovacuum: %s.', t.relname, t.n_dead_tup,
                                      t.n_live_tup, coalesce(t.last_autovacuum::text, 'never')),
           'Claims and look-ups grow slower and the table larger.',
           format('End what keeps them (see "old snapshot", if it is listed), then VACUUM @extschema@.%I;', t.relname)
    FROM tables AS t
    UNION ALL
    SELECT CASE WHEN EXISTS (SELECT FROM tables) THEN 2 ELSE 3 END, 31, 'old snapshot',
           format('%s holds back VACUUM%s, %s transactions back.', z.who,
                  coalesce(' since ' || date_trunc('second', z.since), ''), z.age),
           'Dead rows of the queue cannot be removed while it lasts.', z.cure || ';'
    FROM horizons AS z
    WHERE z.since < now() - interval '1 hour' OR z.age > 1000000
       OR (EXISTS (SELECT FROM tables) AND z.since < now() - interval '1 second')
    UNION ALL
    SELECT 2, 32, 'host link broken', format('The table linked as %s does not exist any more.', o.name),
           'Its rows are not found: tasks fail, or usage is not mirrored.', 'SELECT * FROM wa_link_host();'
    FROM host AS o WHERE o.oid IS NOT NULL AND NOT EXISTS (SELECT FROM pg_class AS c WHERE c.oid = o.oid)
    UNION ALL
    SELECT 2, 33, 'host not linked', format('There is a table %s that is not linked.', c.oid::regclass),
           'Tasks cannot find the event''s attendees; after a restore links are always missing.', 'SELECT * FROM wa_link_host();'
    FROM pg_class AS c
    WHERE c.relname = 'ai_events' AND c.relkind IN ('r', 'p')
      AND c.relnamespace IN (SELECT n.oid FROM pg_namespace AS n WHERE n.nspname = 'public'
                             UNION SELECT '@extschema@'::regnamespace)
      AND NOT EXISTS (SELECT FROM host AS o WHERE o.name = 'ai_events' AND o.oid IS NOT NULL)
    UNION ALL
    SELECT 3, 34, 'ledger not summed up', format('whatsapp_ledger has %s lines that could be one sum.', l.lines),
           'wa_audit() grows slower; nothing else does.', 'The worker sums up old lines by itself: is it running?'
    FROM (SELECT count(*) AS lines FROM @extschema@.whatsapp_ledger AS l
          WHERE NOT l.is_sum AND l.at < now() - interval '1 minute') AS l WHERE l.lines > 100000
), numbered AS (
    SELECT f.*, row_number() OVER (PARTITION BY f.place, f.finding ORDER BY f.rank, f.detail) AS n,
           count(*) OVER (PARTITION BY f.place, f.finding) AS of
    FROM findings AS f
), answers AS (
    SELECT n.rank, n.place, n.n, n.finding,
           n.detail || CASE WHEN n.n = 20 AND n.of > 20 THEN format(' – and %s more like this', n.of - 20) ELSE '' END AS detail,
           n.meaning, n.what_to_do
    FROM numbered AS n WHERE n.n <= 20
    UNION ALL
    SELECT 4, 0, 0, 'all is well', 'Nothing was found.',
           'Worker, accounts, keys, limits, messages and tables are as they should be.', 'Nothing.'
    WHERE NOT EXISTS (SELECT FROM findings)
)
SELECT CASE a.rank WHEN 1 THEN 'critical' WHEN 2 THEN 'warning' WHEN 3 THEN 'notice' ELSE 'ok' END,
       a.finding, a.detail, a.meaning, a.what_to_do
FROM answers AS a ORDER BY a.rank, a.place, a.n
$$;
COMMENT ON FUNCTION wa_doctor_report (text, boolean) IS 'Internal: what wa_doctor() answers. Parameters: the library''s version, and whether it was preloaded.';

CREATE OR REPLACE FUNCTION wa_doctor () RETURNS TABLE (
    severity text,
    finding text,
    detail text,
    meaning text,
    what_to_do text
)
LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wa_doctor_wrapper';
COMMENT ON FUNCTION wa_doctor () IS
'What is wrong, the worst first: severity (critical, warning, notice, ok), the finding, its details, what it means, what to do. A single row ''ok'' when nothing is. Looks at worker, versions, worker slots, keys and secrets, Meta''s reachability, holds, copies, settings, accounts, the oldest due message of each organizer, stuck leases, unknown outcomes, webhooks, dead rows and what keeps them, the application''s tables, and the ledger; at most 20 rows of a kind. Needs an operator. Errors: 42501.';
