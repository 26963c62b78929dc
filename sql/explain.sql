-- wa_explain(): one message's life in plain words, and what its parts say: which holds it waits for, how they end, and
-- what Meta's codes mean.

CREATE OR REPLACE FUNCTION wa_error_rules () RETURNS TABLE (
    code integer,
    subcode integer,
    name text,
    reaction text,
    meaning text,
    advice text,
    retryable boolean,
    wait interval
)
LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wa_error_rules_wrapper';
COMMENT ON FUNCTION wa_error_rules () IS
'Meta''s error codes: what each means and what is done about it. The view whatsapp_errors shows it.';

CREATE OR REPLACE FUNCTION wa_held_copies () RETURNS uuid[]
LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wa_held_copies_wrapper';
COMMENT ON FUNCTION wa_held_copies () IS
'Those of the caller''s organizers whose account waits for wa_adopt_copy(), because this database is a copy. The view whatsapp_messages asks it.';

CREATE OR REPLACE FUNCTION wa_request_body (id uuid) RETURNS text
LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wa_request_body_wrapper';
COMMENT ON FUNCTION wa_request_body (uuid) IS
'Internal: the body of a message''s request (JSON), with the recipient''s number masked, from the row and the template as they are now; or why there can be none.';

-- The bodies of these are parsed here and now, so that no search_path can bend them, and the planner can put them into
-- the queries that use them.
CREATE OR REPLACE FUNCTION whatsapp_holds_on (message whatsapp_queue)
RETURNS TABLE (user_id uuid, scope text, subject text, source text, code text, reason text,
               held_at timestamp with time zone, until timestamp with time zone, held_by text)
LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SECURITY INVOKER
BEGIN ATOMIC
    -- A hold of Meta's does not end by the clock alone: then one message is tried.
    SELECT h.user_id, h.scope, h.subject, h.source, h.code, h.reason, h.held_at, h.until, h.held_by
    FROM whatsapp_holds AS h
    WHERE h.user_id = message.user_id
      AND h.scope = ANY ('{account,template,category,country}')
      AND (h.source = 'meta' OR h.until > pg_catalog.now())
      AND CASE h.scope
              WHEN 'account' THEN true
              -- A message that names no language waits for a hold of any, as admission has it.
              WHEN 'template' THEN h.subject = message.template_name
                  OR h.subject = message.template_name || '/' || message.language
                  OR (message.language IS NULL AND pg_catalog.split_part(h.subject, '/', 1) = message.template_name)
              WHEN 'category' THEN EXISTS (
                  SELECT FROM whatsapp_templates AS t
                  WHERE t.user_id = message.user_id AND t.template_name = message.template_name AND t.category = h.subject)
              ELSE message.recipient_phone LIKE '+' || pg_catalog.ltrim(h.subject, '+') || '%' END
    UNION ALL
    -- A number that organizers share is held for all of them.
    SELECT h.user_id, h.scope, h.subject, h.source, h.code, h.reason, h.held_at, h.until, h.held_by
    FROM whatsapp_config AS c JOIN whatsapp_holds AS h ON h.scope = 'number' AND h.subject = c.phone_number_id
    WHERE c.user_id = message.user_id AND (h.source = 'meta' OR h.until > pg_catalog.now())
    UNION ALL
    SELECT h.user_id, h.scope, h.subject, h.source, h.code, h.reason, h.held_at, h.until, h.held_by
    FROM (VALUES ('event', message.event_id), ('task', message.task_id), ('campaign', message.campaign_id),
                 ('message', message.id)) AS part (scope, id)
    JOIN whatsapp_holds AS h
      ON h.user_id = message.user_id AND h.scope = part.scope AND h.subject = part.id::text
    WHERE h.source = 'meta' OR h.until > pg_catalog.now()
    UNION ALL
    SELECT k.user_id, 'recipient', k.phone, CASE WHEN k.held_code IS NULL THEN 'person' ELSE 'meta' END, k.held_code,
           coalesce(k.held_reason, 'messages to this number wait'), k.updated_at, k.held_until, NULL
    FROM whatsapp_contacts AS k
    WHERE k.user_id = message.user_id AND k.phone = message.recipient_phone AND k.held_until > pg_catalog.now();
END;
COMMENT ON FUNCTION whatsapp_holds_on (whatsapp_queue) IS
'What holds a message back now: holds on its account, number, template, category, country, event, task, campaign, on itself and on its recipient.';

CREATE OR REPLACE FUNCTION whatsapp_hold_end (scope text, source text, until timestamp with time zone) RETURNS text
LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SECURITY INVOKER
RETURN CASE WHEN until = 'infinity' THEN 'until wa_resume()'
            WHEN until <= pg_catalog.now() THEN 'until the next message passes'
            ELSE 'until ' || pg_catalog.to_char(until, 'YYYY-MM-DD HH24:MI:SS TZ')
                 || CASE WHEN source = 'meta' AND scope <> 'recipient' THEN ', then one message is tried' ELSE '' END END;
COMMENT ON FUNCTION whatsapp_hold_end (text, text, timestamptz) IS 'How a hold ends, in words.';

CREATE OR REPLACE FUNCTION whatsapp_resume_call (user_id uuid, scope text, subject text) RETURNS text
LANGUAGE sql IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE SECURITY INVOKER
RETURN CASE WHEN scope IN ('event', 'task', 'campaign')
                THEN pg_catalog.format('SELECT wa_resume(user_id => %L, %s_id => %L)', user_id, scope, subject)
            WHEN scope = 'message' THEN pg_catalog.format('SELECT wa_resume(user_id => %L, id => %L)', user_id, subject)
            WHEN scope = 'template' THEN pg_catalog.format('SELECT wa_resume(user_id => %L, template_name => %L)',
                                                           user_id, pg_catalog.split_part(subject, '/', 1))
            ELSE pg_catalog.format('SELECT wa_resume(user_id => %L)', user_id) END;
COMMENT ON FUNCTION whatsapp_resume_call (uuid, text, text) IS 'The statement that ends a hold.';

CREATE OR REPLACE FUNCTION whatsapp_masked (phone text) RETURNS text
LANGUAGE sql IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE SECURITY INVOKER
RETURN CASE WHEN pg_catalog.length(phone) < 8 THEN pg_catalog.repeat('*', pg_catalog.length(phone))
            ELSE pg_catalog.left(phone, 4) || pg_catalog.repeat('*', pg_catalog.length(phone) - 6)
                 || pg_catalog.right(phone, 2) END;
COMMENT ON FUNCTION whatsapp_masked (text) IS 'A phone number with the digits in the middle hidden.';

CREATE OR REPLACE FUNCTION wa_explain_report (id uuid) RETURNS TABLE (at timestamp with time zone, what text, details text)
LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $$
WITH message AS (
    SELECT q AS whole, q.*, c.on_unknown, k.suppressed_at, k.suppressed_code, k.marketing_held_until, k.marketing_held_code, k.updated_at AS contact_changed,
           EXISTS (SELECT FROM @extschema@.whatsapp_templates AS t
                   WHERE t.user_id = q.user_id AND t.template_name = q.template_name AND t.category = 'MARKETING'
                     AND t.language = coalesce(q.language, t.language)) AS is_marketing,
           coalesce(current_setting('whatsapp_pg.unknown_wait', true), '5min')::interval AS unknown_wait,
           CASE WHEN q.status <> 'queued' THEN NULL
                WHEN current_setting('whatsapp_pg.mode', true) = 'off'
                    THEN format('whatsapp_pg.mode is off: ALTER DATABASE %I RESET whatsapp_pg.mode', current_database())
                WHEN current_setting('whatsapp_pg.only_to', true) <> '' AND q.recipient_phone <> ALL (
                         regexp_split_to_array(current_setting('whatsapp_pg.only_to', true), '[\s,"]+'))
                    THEN 'whatsapp_pg.only_to does not name this number'
                WHEN c.user_id IS NULL THEN 'the organizer has no account: run wa_configure()'
                WHEN c.status <> 'active'
                    THEN format('the account is %s: run wa_configure() with status => ''active''', c.status)
                WHEN q.user_id = ANY (@extschema@.wa_held_copies())
                    THEN 'this database is a copy: SELECT wa_adopt_copy() if it is the one that sends now'
                END AS obstacle
    FROM @extschema@.whatsapp_queue AS q
    LEFT JOIN @extschema@.whatsapp_config AS c ON c.user_id = q.user_id
    LEFT JOIN @extschema@.whatsapp_contacts AS k ON k.user_id = q.user_id AND k.phone = q.recipient_phone
    WHERE q.id = $1
), rules AS (
    SELECT DISTINCT ON (r.code) r.code::text AS code, r.name, r.meaning, r.advice
    FROM @extschema@.wa_error_rules() AS r ORDER BY r.code, r.subcode NULLS FIRST
), log AS (
    SELECT l.*, r.name, r.meaning, r.advice FROM @extschema@.whatsapp_delivery_logs AS l
    LEFT JOIN rules AS r ON r.code = l.error_code
    WHERE l.queue_id = $1
), holds AS (
    SELECT h.* FROM message AS m CROSS JOIN LATERAL @extschema@.whatsapp_holds_on(m.whole) AS h WHERE m.status = 'queued'
), lines (place, at, what, details) AS (
    SELECT 1, m.created_at, 'queued',
           concat_ws(', ',
                     'by ' || coalesce(m.enqueued_by, 'a role that was not recorded (the row is older than 0.2.0)'),
                     'to ' || @extschema@.whatsapp_masked(m.recipient_phone),
                     format('template %s (%s)', m.template_name, coalesce('language ' || m.language, 'no language named')),
                     format('priority %s', m.priority),
                     -- A retry moves it.
                     'not before ' || to_char(CASE WHEN m.attempts = 0 AND m.scheduled_for > m.created_at THEN m.scheduled_for END,
                                              'YYYY-MM-DD HH24:MI:SS TZ'),
                     'expires at ' || to_char(m.expires_at, 'YYYY-MM-DD HH24:MI:SS TZ'),
                     'event ' || m.event_id, 'task ' || m.task_id, 'campaign ' || m.campaign_id,
                     'idempotency key ' || m.idempotency_key)
    FROM message AS m
    UNION ALL
    SELECT 2, m.created_at, 'the request',
           CASE WHEN m.attempts > 0 THEN 'as the row and the template are now: ' ELSE 'as it will be sent: ' END
           || @extschema@.wa_request_body(m.id)
    FROM message AS m
    UNION ALL
    SELECT 3, l."timestamp",
           CASE l.source
               WHEN 'webhook' THEN 'Meta reports: ' || l.status
               WHEN 'person' THEN 'a person: ' || l.status
               ELSE coalesce(format('attempt %s: ', l.attempt), 'the worker: ')
                    || CASE WHEN l.error_code = 'resent' THEN 'queued again'
                            WHEN l.status = 'sent' THEN 'accepted by Meta'
                            WHEN l.status = 'retried' THEN 'refused for now, it is tried again'
                            WHEN l.status = 'returned' THEN 'it never left and went back to the queue'
                            WHEN l.status = 'unknown' THEN 'no answer, Meta may have it'
                            ELSE l.status END END,
           concat_ws('; ', 'HTTP ' || l.http_status, 'code ' || l.error_code || coalesce(' (' || l.name || ')', ''),
                     rtrim(l.error_message, '.'),
                     CASE WHEN strpos(coalesce(l.error_message, ''), l.meaning) = 0 THEN rtrim(l.meaning || ' ' || l.advice, '.') END,
                     'Meta''s details: ' || CASE WHEN strpos(coalesce(l.error_message, ''), l.details) = 0 THEN l.details END,
                     'message id ' || l.meta_message_id, 'fbtrace_id ' || l.fbtrace_id, l.latency_ms || ' ms')
    FROM log AS l
    UNION ALL
    -- What has left no line in the log: refused at once, cancelled, or written by somebody else.
    SELECT 4, m.updated_at,
           CASE m.status WHEN 'sent' THEN 'marked as sent by somebody else' WHEN 'unknown' THEN 'outcome unknown'
                         ELSE m.status END,
           concat_ws('; ', 'code ' || m.error_code || coalesce(' (' || r.name || ')', ''), m.error_message)
    FROM message AS m LEFT JOIN rules AS r ON r.code = m.error_code
    WHERE m.status IN ('failed', 'cancelled', 'sent', 'unknown')
      AND NOT EXISTS (SELECT FROM log AS l
                      WHERE l.status = m.status OR (m.status = 'sent' AND l.status IN ('delivered', 'read', 'played')))
    UNION ALL
    SELECT 5, h.held_at, format('held: %s %s', h.scope, CASE WHEN h.scope = 'recipient' THEN @extschema@.whatsapp_masked(h.subject)
                                                             ELSE h.subject END),
           concat_ws('; ', @extschema@.whatsapp_hold_end(h.scope, h.source, h.until),
                     CASE h.source WHEN 'person' THEN 'by ' || coalesce(h.held_by, 'a person')
                                   ELSE 'by Meta' || coalesce(', code ' || h.code, '') END, h.reason)
    FROM holds AS h
    UNION ALL
    SELECT 5, m.suppressed_at, 'held: the number cannot be reached',
           'messages to it fail; code ' || coalesce(m.suppressed_code, 'unknown')
    FROM message AS m WHERE m.status = 'queued' AND m.suppressed_at IS NOT NULL
    UNION ALL
    SELECT 5, m.contact_changed, 'held: marketing to this person',
           CASE WHEN m.marketing_held_until = 'infinity' THEN 'the person wants none: such messages fail'
                ELSE @extschema@.whatsapp_hold_end('recipient', 'meta', m.marketing_held_until) END
           || coalesce('; code ' || m.marketing_held_code, '')
    FROM message AS m WHERE m.status = 'queued' AND m.is_marketing AND m.marketing_held_until > now()
    UNION ALL
    SELECT 6, now(),
           'now: ' || CASE WHEN m.status <> 'queued' THEN m.status
                           WHEN m.scheduled_for > now() AND m.retry_count > 0 THEN 'waits for its next try'
                           WHEN m.scheduled_for > now() THEN 'scheduled'
                           WHEN m.obstacle IS NOT NULL OR EXISTS (SELECT FROM holds) THEN 'held' ELSE 'queued' END,
           CASE m.status
               WHEN 'queued' THEN concat_ws('; ',
                   CASE WHEN m.scheduled_for > now()
                            THEN format('try %s at %s', m.retry_count + 1, to_char(m.scheduled_for, 'YYYY-MM-DD HH24:MI:SS TZ')) END,
                   m.obstacle,
                   'to end the hold: ' || (
                       SELECT string_agg(DISTINCT CASE h.scope
                           WHEN 'recipient' THEN format('SELECT wa_resume(user_id => q.user_id, recipient => q.recipient_phone) '
                                                        'FROM whatsapp_queue AS q WHERE q.id = %L', m.id)
                           ELSE @extschema@.whatsapp_resume_call(h.user_id, h.scope, h.subject) END, '; ')
                       FROM holds AS h),
                   CASE WHEN m.suppressed_at IS NOT NULL THEN 'it fails when its turn comes'
                        WHEN m.scheduled_for <= now() AND m.obstacle IS NULL AND NOT EXISTS (SELECT FROM holds)
                            THEN format('leaves as soon as the limits allow: SELECT * FROM wa_rate_status(%L)', m.user_id) END,
                   CASE WHEN m.scheduled_for > now() AND m.retry_count > 0
                            THEN format('to try it now: SELECT wa_retry(%L)', m.id) END,
                   format('to stop it: SELECT wa_cancel(id => %L)', m.id))
               WHEN 'sending' THEN 'a worker is sending it' || coalesce(
                   ', by ' || to_char(m.lease_until, 'YYYY-MM-DD HH24:MI:SS TZ') || ' at the latest its outcome is known or unknown', '')
               WHEN 'sent' THEN 'Meta has it' || CASE
                   WHEN EXISTS (SELECT FROM log AS l WHERE l.source = 'webhook' AND l.status = 'failed')
                       THEN ', but reports that it was not delivered: see above'
                   WHEN EXISTS (SELECT FROM log AS l WHERE l.status IN ('read', 'played')) THEN ', and it was read'
                   WHEN EXISTS (SELECT FROM log AS l WHERE l.status = 'delivered') THEN ', and it was delivered'
                   ELSE '; no report of its delivery yet' END || ': nothing to do'
               WHEN 'failed' THEN format('it is not tried again by itself; once the cause is mended: SELECT wa_retry(%L), or with other '
                                         'variables: SELECT wa_retry(%L, ''{…}'')', m.id, m.id)
               WHEN 'unknown' THEN CASE
                   WHEN m.updated_at + m.unknown_wait > now()
                       THEN 'Meta may have it: its report is awaited until ' || to_char(m.updated_at + m.unknown_wait, 'YYYY-MM-DD HH24:MI:SS TZ') || ', then '
                            || CASE m.on_unknown WHEN 'resend' THEN 'it is sent again if Meta''s reports are known to arrive'
                                                 WHEN 'fail' THEN 'it fails' ELSE 'a person decides' END
                   ELSE 'Meta may have it, and a person must decide' END
                   || format('; to send it (again, perhaps): SELECT wa_retry(%L, force => true)', m.id)
               ELSE format('nothing happens to it any more; to queue it again: SELECT wa_retry(%L)', m.id) END
    FROM message AS m
)
SELECT l.at, l.what, l.details FROM lines AS l
ORDER BY CASE WHEN l.place < 3 THEN 1 WHEN l.place > 5 THEN 3 ELSE 2 END, l.at, l.place, l.what
$$;
COMMENT ON FUNCTION wa_explain_report (uuid) IS 'Internal: what wa_explain() answers.';

CREATE OR REPLACE FUNCTION wa_explain (id uuid) RETURNS TABLE (at timestamp with time zone, what text, details text)
LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wa_explain_wrapper';
COMMENT ON FUNCTION wa_explain (uuid) IS
'A message''s life in plain words, one row an event: queued by whom and what, the request (the recipient masked, no token), each attempt with Meta''s answer, what it means and what to do, Meta''s reports, what holds it back and until when, and last, how it stands and what can be run. Parameter: id: the message. For its organizer and operators. Errors: 22004, 42501, 42704 no such message.';
