-- wa_audit(): the ledger of what entered, left and changed, held against the rows themselves. One statement, so one
-- snapshot: a message that moves meanwhile is seen in both or in neither. Compiling it takes longer than the quick form.

CREATE OR REPLACE FUNCTION wa_audit_report (full boolean)
RETURNS TABLE (check_name text, user_id uuid, day date, expected bigint, found bigint, ok boolean, meaning text)
LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
WITH texts (place, check_name, is_right, is_wrong) AS (VALUES
    (1, 'ledger', 'What entered less what was removed is what the states add up to.',
     'The ledger contradicts itself: a line of it was added, changed or removed by hand.'),
    (2, 'balance', 'No state gave away more messages than it had.',
     'More messages left this state than had come into it: a line of the ledger is missing, or was added by hand.'),
    (3, 'open', 'Every message that waits or is being sent is in the ledger.',
     'Messages that wait or are being sent: their number is not the ledger''s. Rows were written, changed or removed with triggers disabled, or the ledger was.'),
    (4, 'unknown', 'Every message of unknown outcome is in the ledger.',
     'Messages of unknown outcome: their number is not the ledger''s. Rows were written, changed or removed with triggers disabled, or the ledger was.'),
    (5, 'rows', 'There are as many messages as entered less those that were removed.',
     'Messages in all: their number is not what entered less what was removed. wa_audit(full => true) says whose and of which day.'),
    (6, 'days', 'Every organizer''s messages of every day are in the state the ledger says.',
     'Messages that entered on this day and are in this state: their number is not the ledger''s. Rows were written, changed or removed with triggers disabled, or the ledger was.'),
    (7, 'attempts', 'Every message has as many attempts as its log.',
     'Messages whose log does not have one line for each attempt: lines were removed or added.'),
    (8, 'acceptance', 'Every message the worker sent has Meta''s acceptance in its log.',
     'Messages said to be sent without Meta''s acceptance in their log: the line was removed, or the status was changed by hand.'),
    (9, 'accepted once', 'No message was accepted twice without having been sent again on purpose.',
     'Messages that Meta accepted more often than they were meant to be sent: sent twice, or a line of their log was doubled.'),
    (10, 'outcome', 'Every failed or unknown message has its reason in the log.',
     'Messages that failed or are of unknown outcome and have no log at all: the lines were removed, or the status was changed by hand.')
), books AS MATERIALIZED (
    SELECT l.user_id, l.day, m.state, sum(m.change)::bigint AS messages,
           sum(m.change) FILTER (WHERE l.cause IN ('insert', 'delete', 'truncate'))::bigint AS entered
    FROM @extschema@.whatsapp_ledger AS l
    CROSS JOIN LATERAL (VALUES (l.state, l.change), (l.taken_from, -l.change)) AS m (state, change)
    WHERE m.state IS NOT NULL GROUP BY l.user_id, l.day, m.state
), open_rows AS (
    -- Through the partial indexes: the cost is that of what is open, whatever else the table holds.
    SELECT r.user_id, sum(r.messages)::bigint AS messages
    FROM (SELECT q.user_id, count(*) AS messages FROM @extschema@.whatsapp_queue AS q
          WHERE q.status = 'queued' GROUP BY q.user_id
          UNION ALL
          SELECT q.user_id, count(*) FROM @extschema@.whatsapp_queue AS q
          WHERE q.status = 'sending' GROUP BY q.user_id) AS r
    GROUP BY r.user_id
), unknown_rows AS (
    SELECT q.user_id, count(*) AS messages FROM @extschema@.whatsapp_queue AS q
    WHERE q.status = 'unknown' GROUP BY q.user_id
), by_log AS (
    SELECT l.queue_id, count(*) AS lines,
           count(*) FILTER (WHERE l.source IN ('send', 'worker') AND l.attempt IS NOT NULL) AS attempts,
           -- Each acceptance has a line, and an id of Meta's that it shares with Meta's reports. Who sends again what may
           -- have arrived, by wa_retry() or by policy, leaves a line of his own.
           greatest(count(*) FILTER (WHERE l.source = 'send' AND l.status = 'sent'),
                    CASE WHEN min(l.meta_message_id) FILTER (WHERE l.status IN ('sent', 'delivered', 'read', 'played'))
                            < max(l.meta_message_id) FILTER (WHERE l.status IN ('sent', 'delivered', 'read', 'played'))
                         THEN 2 ELSE 0 END) AS accepted,
           count(*) FILTER (WHERE l.source = 'person' AND l.status = 'queued'
                               OR l.source = 'worker' AND l.error_code = 'resent') AS wanted_again,
           bool_or(l.status IN ('sent', 'delivered', 'read', 'played')) AS has_arrived
    FROM @extschema@.whatsapp_delivery_logs AS l WHERE l.queue_id IS NOT NULL GROUP BY l.queue_id
), judged AS (
    -- Rows without a lease never were the worker's; rows without attempts are older than 0.2.0.
    SELECT q.id, q.user_id, (q.created_at AT TIME ZONE 'UTC')::date AS day,
           @extschema@.whatsapp_ledger_state(q.status) AS state,
           q.attempts = coalesce(b.attempts, 0) AS attempts_match,
           CASE WHEN q.status = 'sent' AND q.lease IS NOT NULL THEN coalesce(b.has_arrived, false) END AS is_accepted,
           CASE WHEN b.accepted > 0 THEN b.accepted <= 1 + b.wanted_again END AS is_accepted_once,
           CASE WHEN q.status IN ('failed', 'unknown') AND q.lease IS NOT NULL THEN b.lines IS NOT NULL END AS is_told
    FROM @extschema@.whatsapp_queue AS q LEFT JOIN by_log AS b ON b.queue_id = q.id
    WHERE "full"
), counted AS MATERIALIZED (
    SELECT j.user_id, j.day, j.state, count(*) AS messages,
           count(j.attempts_match) AS attempts, count(*) FILTER (WHERE j.attempts_match) AS attempts_right,
           min(j.id::text) FILTER (WHERE NOT j.attempts_match) AS attempts_wrong,
           count(j.is_accepted) AS sent, count(*) FILTER (WHERE j.is_accepted) AS sent_right,
           min(j.id::text) FILTER (WHERE NOT j.is_accepted) AS sent_wrong,
           count(j.is_accepted_once) AS accepted, count(*) FILTER (WHERE j.is_accepted_once) AS accepted_right,
           min(j.id::text) FILTER (WHERE NOT j.is_accepted_once) AS accepted_wrong,
           count(j.is_told) AS told, count(*) FILTER (WHERE j.is_told) AS told_right,
           min(j.id::text) FILTER (WHERE NOT j.is_told) AS told_wrong
    FROM judged AS j GROUP BY j.user_id, j.day, j.state
), findings (check_name, user_id, day, state, expected, found, example) AS (
    SELECT 'ledger', NULL::uuid, NULL::date, NULL, coalesce(sum(b.entered), 0)::bigint,
           coalesce(sum(b.messages), 0)::bigint, NULL
    FROM books AS b
    UNION ALL
    SELECT 'balance', b.user_id, b.day, b.state, greatest(b.messages, 0), b.messages, NULL FROM books AS b
    UNION ALL
    SELECT 'open', coalesce(e.user_id, r.user_id), NULL, 'open', coalesce(e.messages, 0), coalesce(r.messages, 0), NULL
    FROM (SELECT b.user_id, sum(b.messages)::bigint AS messages FROM books AS b
          WHERE b.state = 'open' GROUP BY b.user_id) AS e
    FULL JOIN open_rows AS r ON r.user_id = e.user_id
    UNION ALL
    SELECT 'unknown', coalesce(e.user_id, r.user_id), NULL, 'unknown', coalesce(e.messages, 0), coalesce(r.messages, 0), NULL
    FROM (SELECT b.user_id, sum(b.messages)::bigint AS messages FROM books AS b
          WHERE b.state = 'unknown' GROUP BY b.user_id) AS e
    FULL JOIN unknown_rows AS r ON r.user_id = e.user_id
    UNION ALL
    SELECT 'rows', NULL, NULL, NULL, (SELECT coalesce(sum(b.messages), 0)::bigint FROM books AS b),
           (SELECT count(*) FROM @extschema@.whatsapp_queue), NULL
    UNION ALL
    SELECT 'days', coalesce(b.user_id, c.user_id), coalesce(b.day, c.day), coalesce(b.state, c.state),
           coalesce(b.messages, 0), coalesce(c.messages, 0), NULL
    FROM books AS b FULL JOIN counted AS c ON c.user_id = b.user_id AND c.day = b.day AND c.state = b.state
    WHERE "full"
    UNION ALL
    SELECT v.check_name, c.user_id, c.day, c.state, v.expected, v.found, v.example
    FROM counted AS c
    CROSS JOIN LATERAL (VALUES ('attempts', c.attempts, c.attempts_right, c.attempts_wrong),
                               ('acceptance', c.sent, c.sent_right, c.sent_wrong),
                               ('accepted once', c.accepted, c.accepted_right, c.accepted_wrong),
                               ('outcome', c.told, c.told_right, c.told_wrong))
         AS v (check_name, expected, found, example)
), wrong AS (
    SELECT f.*, row_number() OVER groups AS place, count(*) OVER (PARTITION BY f.check_name) AS of
    FROM findings AS f WHERE f.expected <> f.found
    WINDOW groups AS (PARTITION BY f.check_name ORDER BY abs(f.expected - f.found) DESC, f.user_id, f.day, f.state)
), answers AS (
    SELECT t.place, w.place AS line, t.check_name, w.user_id, w.day, w.expected, w.found, false AS ok,
           t.is_wrong || coalesce(' State: ' || w.state || '.', '') || coalesce(' For example ' || w.example || '.', '')
           || CASE WHEN w.place = 20 AND w.of > 20 THEN format(' And %s more like this.', w.of - 20) ELSE '' END AS meaning
    FROM wrong AS w JOIN texts AS t ON t.check_name = w.check_name
    WHERE w.place <= 20
    UNION ALL
    SELECT t.place, 0, t.check_name, NULL, NULL, coalesce(s.expected, 0), coalesce(s.found, 0), true, t.is_right
    FROM texts AS t
    LEFT JOIN (SELECT f.check_name, sum(f.expected)::bigint AS expected, sum(f.found)::bigint AS found
               FROM findings AS f GROUP BY f.check_name) AS s ON s.check_name = t.check_name
    WHERE (t.place <= 5 OR "full") AND NOT EXISTS (SELECT FROM wrong AS w WHERE w.check_name = t.check_name)
)
SELECT a.check_name, a.user_id, a.day, a.expected, a.found, a.ok, a.meaning
FROM answers AS a ORDER BY a.ok, a.place, a.line
$$;
COMMENT ON FUNCTION wa_audit_report (boolean) IS 'Internal: what wa_audit() answers.';

CREATE OR REPLACE FUNCTION wa_audit (full boolean DEFAULT false) RETURNS TABLE (
    check_name text,
    user_id uuid,
    day date,
    expected bigint,
    found bigint,
    ok boolean,
    meaning text
)
LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wa_audit_wrapper';
COMMENT ON FUNCTION wa_audit (boolean) IS
'Does everything add up? Holds the ledger of what entered, was removed and changed its state against the rows. One row per check when all is well; otherwise the groups that are off, the largest first, at most 20 of a check. Parameter: full: false counts through indexes (about a second for ten million messages); true counts every organizer, day (of entry, UTC) and state anew and every message''s attempts against its log, reading both tables. Checks: ledger, balance, open, unknown, rows; full adds days, attempts, acceptance, accepted once, outcome. expected and found count messages. Needs an operator. Errors: 22004, 42501.';
