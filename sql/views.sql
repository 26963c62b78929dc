-- Views for people. security_invoker: row security of the tables applies to whoever asks.

CREATE OR REPLACE VIEW whatsapp_messages WITH (security_invoker = true) AS
SELECT q.id,
       q.user_id,
       q.recipient_phone AS "to",
       q.template_name AS template,
       q.language,
       CASE WHEN q.status = 'queued' AND q.scheduled_for > pg_catalog.now() AND q.retry_count > 0 THEN 'retrying'
            WHEN q.status = 'queued' AND q.scheduled_for > pg_catalog.now() THEN 'scheduled'
            ELSE q.status END AS state,
       q.updated_at AS since,
       q.error_code,
       q.error_message AS error,
       CASE q.status
           WHEN 'queued' THEN CASE
               WHEN q.scheduled_for > pg_catalog.now()
                   THEN 'leaves at ' || pg_catalog.to_char(q.scheduled_for, 'YYYY-MM-DD HH24:MI:SS TZ')
               WHEN pg_catalog.current_setting('whatsapp_pg.mode', true) = 'off'
                   THEN 'held: whatsapp_pg.mode is off'
               WHEN pg_catalog.current_setting('whatsapp_pg.only_to', true) <> ''
                    AND q.recipient_phone <> ALL (pg_catalog.regexp_split_to_array(
                        pg_catalog.current_setting('whatsapp_pg.only_to', true), '[\s,"]+'))
                   THEN 'held: whatsapp_pg.only_to does not name this number'
               WHEN c.user_id IS NULL THEN 'held: the organizer has no account'
               WHEN c.status <> 'active' THEN 'held: the account is not active'
               WHEN q.user_id = ANY ((SELECT @extschema@.wa_held_copies())::uuid[])
                   THEN 'held: this database is a copy, see wa_adopt_copy()'
               WHEN k.suppressed_at IS NOT NULL THEN 'fails: the number cannot be reached'
               -- Asked only for rows that are shown, and only for those that wait.
               ELSE coalesce((SELECT CASE h.scope WHEN 'country' THEN 'fails' ELSE 'held ' || @extschema@.whatsapp_hold_end(h.scope, h.source, h.until) END || ': ' || h.reason
                              FROM @extschema@.whatsapp_holds_on(q) AS h ORDER BY h.until DESC, h.scope LIMIT 1),
                             CASE WHEN k.marketing_held_until > pg_catalog.now() AND EXISTS (
                                      SELECT FROM whatsapp_templates AS t
                                      WHERE t.user_id = q.user_id AND t.template_name = q.template_name
                                        AND t.language = coalesce(q.language, t.language) AND t.category = 'MARKETING')
                                  THEN 'held: no marketing to this person'
                                       || CASE k.marketing_held_until WHEN 'infinity' THEN ', it fails' ELSE
                                          ' ' || @extschema@.whatsapp_hold_end('recipient', 'meta', k.marketing_held_until) END END,
                             'leaves as soon as the limits allow') END
           WHEN 'sending' THEN 'a worker is sending it'
           WHEN 'sent' THEN 'accepted by Meta'
           WHEN 'failed' THEN 'will not be tried again by itself'
           WHEN 'unknown' THEN CASE
               WHEN q.updated_at + coalesce(pg_catalog.current_setting('whatsapp_pg.unknown_wait', true), '5min')::interval
                    > pg_catalog.now()
                   THEN 'Meta may have it: its status may still come'
               ELSE 'Meta may have it: find out before it is sent again' END
           ELSE NULL END AS next_step,
       q.scheduled_for,
       q.sent_at,
       q.created_at,
       q.event_id,
       q.task_id,
       q.campaign_id,
       q.attempts,
       q.expires_at
FROM whatsapp_queue AS q
LEFT JOIN whatsapp_config AS c ON c.user_id = q.user_id
LEFT JOIN whatsapp_contacts AS k ON k.user_id = q.user_id AND k.phone = q.recipient_phone;
COMMENT ON VIEW whatsapp_messages IS 'One row per message in plain words: to whom, which template, its state and since when, the error, and what happens next.';
COMMENT ON COLUMN whatsapp_messages.id IS 'Message id (whatsapp_queue.id).';
COMMENT ON COLUMN whatsapp_messages.user_id IS 'The organizer.';
COMMENT ON COLUMN whatsapp_messages."to" IS 'Recipient.';
COMMENT ON COLUMN whatsapp_messages.template IS 'Template.';
COMMENT ON COLUMN whatsapp_messages.language IS 'Its language.';
COMMENT ON COLUMN whatsapp_messages.state IS 'scheduled, queued, retrying, sending, sent, failed, unknown, cancelled.';
COMMENT ON COLUMN whatsapp_messages.since IS 'When its state last changed.';
COMMENT ON COLUMN whatsapp_messages.error_code IS 'Meta''s error code, or one of ours (words).';
COMMENT ON COLUMN whatsapp_messages.error IS 'The error: what it means and what to do.';
COMMENT ON COLUMN whatsapp_messages.next_step IS 'What happens next, or what holds it back and until when; wa_explain() says more.';
COMMENT ON COLUMN whatsapp_messages.scheduled_for IS 'Not before this time.';
COMMENT ON COLUMN whatsapp_messages.sent_at IS 'When Meta accepted it.';
COMMENT ON COLUMN whatsapp_messages.created_at IS 'When it entered.';
COMMENT ON COLUMN whatsapp_messages.event_id IS 'The event, if any.';
COMMENT ON COLUMN whatsapp_messages.task_id IS 'The task, if any.';
COMMENT ON COLUMN whatsapp_messages.campaign_id IS 'The campaign, if any.';
COMMENT ON COLUMN whatsapp_messages.attempts IS 'Attempts so far; NULL for messages older than 0.2.0.';
COMMENT ON COLUMN whatsapp_messages.expires_at IS 'Not sent after this time.';

CREATE OR REPLACE VIEW whatsapp_errors WITH (security_invoker = true) AS
SELECT r.code, r.subcode, r.name, r.reaction, r.meaning, r.advice, r.retryable, r.wait
FROM @extschema@.wa_error_rules() AS r;
COMMENT ON VIEW whatsapp_errors IS 'Meta''s error codes: what each means, and what is done about it.';
COMMENT ON COLUMN whatsapp_errors.code IS 'Meta''s code; of a family that is treated alike, the first.';
COMMENT ON COLUMN whatsapp_errors.subcode IS 'The rule is for this subcode only; NULL: for all others.';
COMMENT ON COLUMN whatsapp_errors.name IS 'A short name.';
COMMENT ON COLUMN whatsapp_errors.reaction IS 'What is done: retry, slow_number, slow_account, hold_pair, fail, suppress_recipient, suppress_marketing, hold_marketing, block_country, hold_template, hold_number, hold_account_token, hold_account_policy, hold_account_billing, hold_category.';
COMMENT ON COLUMN whatsapp_errors.meaning IS 'What happened.';
COMMENT ON COLUMN whatsapp_errors.advice IS 'What a person can do.';
COMMENT ON COLUMN whatsapp_errors.retryable IS 'Whether the same message, unchanged, may pass later.';
COMMENT ON COLUMN whatsapp_errors.wait IS 'The shortest wait before it is tried again, or how long a hold lasts; NULL: the usual back-off, or until the cause is mended.';

-- The seed's columns. Days are days of the outcome (UTC), and the wait is counted from when a message could leave.
CREATE OR REPLACE VIEW whatsapp_analytics WITH (security_invoker = true) AS
SELECT (coalesce(q.sent_at, q.updated_at) AT TIME ZONE 'UTC')::date AS date,
       q.user_id,
       pg_catalog.count(*) AS total_sent,
       pg_catalog.count(*) FILTER (WHERE q.status = 'sent') AS successful,
       pg_catalog.count(*) FILTER (WHERE q.status = 'failed') AS failed,
       pg_catalog.avg(extract(epoch FROM q.sent_at - greatest(q.created_at, q.scheduled_for)))
           FILTER (WHERE q.status = 'sent') AS avg_queue_time_seconds
FROM whatsapp_queue AS q
WHERE q.status IN ('sent', 'failed')
GROUP BY 1, 2;
COMMENT ON VIEW whatsapp_analytics IS 'Outcomes per day (UTC) and organizer.';
COMMENT ON COLUMN whatsapp_analytics.date IS 'Day of the outcome, UTC.';
COMMENT ON COLUMN whatsapp_analytics.user_id IS 'The organizer.';
COMMENT ON COLUMN whatsapp_analytics.total_sent IS 'Messages with an outcome.';
COMMENT ON COLUMN whatsapp_analytics.successful IS 'Accepted by Meta.';
COMMENT ON COLUMN whatsapp_analytics.failed IS 'Failed for good.';
COMMENT ON COLUMN whatsapp_analytics.avg_queue_time_seconds IS 'Average seconds from when a message could leave until Meta accepted it.';

CREATE OR REPLACE VIEW wa_worker_status WITH (security_invoker = true) AS
SELECT d.datname AS database, s.pid, s.state, s.started_at, s.last_pass_at, s.claimed, s.sent, s.failed, s.rescheduled,
       s.unknown, s.in_flight, s.note
FROM wa_worker_states () AS s
JOIN pg_catalog.pg_database AS d ON d.oid = s.database_id;
COMMENT ON VIEW wa_worker_status IS 'One row per database the launcher knows: is its drainer alive, what has it done since it started, and why it does not send.';
COMMENT ON COLUMN wa_worker_status.database IS 'Database.';
COMMENT ON COLUMN wa_worker_status.pid IS 'Process id of its drainer.';
COMMENT ON COLUMN wa_worker_status.state IS 'serving, starting, down (started again by itself), no extension, not looked at yet.';
COMMENT ON COLUMN wa_worker_status.started_at IS 'When the drainer started.';
COMMENT ON COLUMN wa_worker_status.last_pass_at IS 'When it last looked after its work; at most seconds ago while it lives.';
COMMENT ON COLUMN wa_worker_status.claimed IS 'Messages claimed since it started.';
COMMENT ON COLUMN wa_worker_status.sent IS 'Accepted by Meta.';
COMMENT ON COLUMN wa_worker_status.failed IS 'Failed for good.';
COMMENT ON COLUMN wa_worker_status.rescheduled IS 'Put back for later.';
COMMENT ON COLUMN wa_worker_status.unknown IS 'Of unknown outcome.';
COMMENT ON COLUMN wa_worker_status.in_flight IS 'Messages it holds now.';
COMMENT ON COLUMN wa_worker_status.note IS 'Why it does not send, or what else an operator should know.';
