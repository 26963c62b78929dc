-- When a backlog will be done, and holding things back by hand.

CREATE OR REPLACE FUNCTION wa_eta (user_id uuid, n bigint DEFAULT 1) RETURNS TABLE (
    done_at timestamp with time zone,
    ahead bigint,
    limited_by text,
    reason text
)
LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wa_eta_wrapper';
COMMENT ON FUNCTION wa_eta (uuid, bigint) IS
'When n more messages of the organizer would have left, under the limits as they stand: the last one''s time (infinity: never, as things stand), how many stand before them, which limit decides (pace, minute, day, hold, account), and why if something is held. On the safe side: every message counts as a new recipient. Errors: 22004, 22023, 42501.';

CREATE OR REPLACE FUNCTION wa_pause (
    user_id uuid DEFAULT NULL,
    id uuid DEFAULT NULL,
    task_id uuid DEFAULT NULL,
    event_id uuid DEFAULT NULL,
    campaign_id uuid DEFAULT NULL,
    template_name text DEFAULT NULL,
    recipient text DEFAULT NULL,
    until timestamp with time zone DEFAULT 'infinity',
    reason text DEFAULT NULL
) RETURNS bigint
LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wa_pause_wrapper';
COMMENT ON FUNCTION wa_pause (uuid, uuid, uuid, uuid, uuid, text, text, timestamptz, text) IS
'Holds messages back without touching them: one message, or those of a task, event, campaign, template or recipient; with user_id alone everything of the organizer. They stay queued and leave after wa_resume() or when until has come. Parameters: user_id: organizer (may be left out where the message, task, event or campaign tells it); until: default until resumed; reason: shown to whoever asks. What is being sent at this moment still leaves. Answers how many holds were placed. Errors: 22023 nothing or too much named, 22004, 42704 nothing found, 42501 not your organizer.';

CREATE OR REPLACE FUNCTION wa_resume (
    user_id uuid DEFAULT NULL,
    id uuid DEFAULT NULL,
    task_id uuid DEFAULT NULL,
    event_id uuid DEFAULT NULL,
    campaign_id uuid DEFAULT NULL,
    template_name text DEFAULT NULL,
    recipient text DEFAULT NULL
) RETURNS bigint
LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wa_resume_wrapper';
COMMENT ON FUNCTION wa_resume (uuid, uuid, uuid, uuid, uuid, text, text) IS
'Ends holds, those of wa_pause() and those of Meta''s answers; with user_id alone those on the account, its number, categories and countries. For a recipient it also lifts the suppression of a number that could not be reached; what the person said about marketing stays. Parameters as wa_pause(). Answers how many holds ended. Errors: 22023, 22004, 42501.';

CREATE OR REPLACE FUNCTION wa_set_policy (
    user_id uuid,
    max_retries integer DEFAULT NULL,
    retry_delay interval DEFAULT NULL,
    on_unknown text DEFAULT NULL
) RETURNS void
LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wa_set_policy_wrapper';
COMMENT ON FUNCTION wa_set_policy (uuid, integer, interval, text) IS
'Sets an organizer''s policies for failures; what is NULL stays as it is. Parameters: max_retries: 0 to 20 retries after a passing fault; retry_delay: wait before the first one, 1 second to 6 hours, doubled for each further one; on_unknown: what becomes of a message of unknown outcome of which Meta says nothing for whatsapp_pg.unknown_wait: keep (a person decides), resend (only while webhooks are known to arrive), fail. Errors: 22023, 42704 no account, 42501.';
