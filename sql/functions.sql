-- Functions, declared as SQL sees them. The code of each is in src/api/, under the name in its AS clause.

-- ---------------------------------------------------------------------------------------------------- accounts

CREATE OR REPLACE FUNCTION wa_configure (
    user_id uuid,
    phone_number_id text,
    business_account_id text,
    access_token text,
    webhook_verify_token text,
    app_secret text DEFAULT NULL,
    rate_limit_tier text DEFAULT 'tier_1000',
    messages_per_second integer DEFAULT 80,
    portfolio_id text DEFAULT NULL,
    default_language text DEFAULT NULL,
    status text DEFAULT 'active'
) RETURNS uuid
LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wa_configure_wrapper';
COMMENT ON FUNCTION wa_configure (uuid, text, text, text, text, text, text, integer, text, text, text) IS
'Creates or updates an organizer''s WhatsApp account; answers the id of the row. Secrets are encrypted on the way in; access_token and app_secret may be vault:<name> or file:<path>. Use bind parameters: a statement with a token in it may be logged. Parameters: user_id: organizer; phone_number_id, business_account_id, portfolio_id: Meta''s ids; webhook_verify_token: what Meta repeats when it verifies the webhook; rate_limit_tier: recipients in 24 hours (tier_250 … tier_100000, unlimited, or TIER_1K …); messages_per_second: throughput of the number, 1 to 1000; default_language: when a template has several; status: active or inactive. NULL for app_secret, portfolio_id, default_language keeps what is there. Errors: 22023, 22004, 42501.';

-- ----------------------------------------------------------------------------------------------------- enqueue

CREATE OR REPLACE FUNCTION wa_enqueue (
    user_id uuid,
    recipients text[],
    template_name text,
    variables jsonb DEFAULT '{}',
    event_id uuid DEFAULT NULL,
    scheduled_for timestamp with time zone DEFAULT pg_catalog.now(),
    priority integer DEFAULT 5,
    language text DEFAULT NULL,
    idempotency_key text DEFAULT NULL,
    expires_at timestamp with time zone DEFAULT NULL,
    on_bad text DEFAULT 'refuse'
) RETURNS SETOF whatsapp_queue
LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wa_enqueue_many_wrapper';
COMMENT ON FUNCTION wa_enqueue (uuid, text[], text, jsonb, uuid, timestamptz, integer, text, text, timestamptz, text) IS
'Queues one message to each number. It leaves when the transaction has committed. Parameters: user_id: organizer; recipients: phone numbers in E.164, duplicates collapse; template_name: an approved template; variables: values by name; event_id: the event it belongs to; scheduled_for: not before (the past means now); priority: 1 to 10, 10 first; language: of the template, NULL: the only approved one, else the organizer''s default; idempotency_key: a repeat of the call with the same key and arguments answers the rows of the first; expires_at: not sent after; on_bad: refuse (one bad recipient refuses the call) or record (bad ones become failed rows). Answers the rows of whatsapp_queue. Errors: 22023 bad argument, 22004 null, 42704 no such template or account, 55000 template not approved or account not active, 42501 not your organizer, 23505 key used for another call.';

CREATE OR REPLACE FUNCTION wa_enqueue (
    user_id uuid,
    recipient text,
    template_name text,
    variables jsonb DEFAULT '{}',
    event_id uuid DEFAULT NULL,
    scheduled_for timestamp with time zone DEFAULT pg_catalog.now(),
    priority integer DEFAULT 5,
    language text DEFAULT NULL,
    idempotency_key text DEFAULT NULL,
    expires_at timestamp with time zone DEFAULT NULL,
    on_bad text DEFAULT 'refuse'
) RETURNS SETOF whatsapp_queue
LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wa_enqueue_one_wrapper';
COMMENT ON FUNCTION wa_enqueue (uuid, text, text, jsonb, uuid, timestamptz, integer, text, text, timestamptz, text) IS
'Queues a message to one number. It leaves when the transaction has committed. Parameters: user_id: organizer; recipient: a phone number in E.164; template_name: an approved template; variables: values by name; event_id: the event it belongs to; scheduled_for: not before (the past means now); priority: 1 to 10, 10 first; language: of the template, NULL: the only approved one, else the organizer''s default; idempotency_key: a repeat of the call with the same key and arguments answers the rows of the first; expires_at: not sent after; on_bad: refuse (one bad recipient refuses the call) or record (bad ones become failed rows). Answers the rows of whatsapp_queue. Errors: 22023 bad argument, 22004 null, 42704 no such template or account, 55000 template not approved or account not active, 42501 not your organizer, 23505 key used for another call.';

CREATE OR REPLACE FUNCTION wa_enqueue (
    user_id uuid,
    messages jsonb,
    template_name text,
    variables jsonb DEFAULT '{}',
    event_id uuid DEFAULT NULL,
    scheduled_for timestamp with time zone DEFAULT pg_catalog.now(),
    priority integer DEFAULT 5,
    language text DEFAULT NULL,
    idempotency_key text DEFAULT NULL,
    expires_at timestamp with time zone DEFAULT NULL,
    on_bad text DEFAULT 'refuse'
) RETURNS SETOF whatsapp_queue
LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wa_enqueue_messages_wrapper';
COMMENT ON FUNCTION wa_enqueue (uuid, jsonb, text, jsonb, uuid, timestamptz, integer, text, text, timestamptz, text) IS
'Queues a message to each number with variables of its own. It leaves when the transaction has committed. Parameters: user_id: organizer; messages: a list of {"to": number, "variables": {…}}; its variables go over the common ones; template_name: an approved template; variables: values by name; event_id: the event it belongs to; scheduled_for: not before (the past means now); priority: 1 to 10, 10 first; language: of the template, NULL: the only approved one, else the organizer''s default; idempotency_key: a repeat of the call with the same key and arguments answers the rows of the first; expires_at: not sent after; on_bad: refuse (one bad recipient refuses the call) or record (bad ones become failed rows). Answers the rows of whatsapp_queue. Errors: 22023 bad argument, 22004 null, 42704 no such template or account, 55000 template not approved or account not active, 42501 not your organizer, 23505 key used for another call.';

CREATE OR REPLACE FUNCTION wa_send (
    template_name text,
    recipients text[],
    variables jsonb DEFAULT '{}',
    event_id uuid DEFAULT NULL,
    scheduled_for timestamp with time zone DEFAULT pg_catalog.now(),
    priority integer DEFAULT 5,
    language text DEFAULT NULL,
    idempotency_key text DEFAULT NULL,
    expires_at timestamp with time zone DEFAULT NULL,
    on_bad text DEFAULT 'refuse'
) RETURNS jsonb
LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wa_send_wrapper';
COMMENT ON FUNCTION wa_send (text, text[], jsonb, uuid, timestamptz, integer, text, text, timestamptz, text) IS
'wa_enqueue for callers whose token says who they are: the organizer is request.jwt.claims ->> ''sub'', or the one the role is mapped to. Answers {"queued": n, "messages": [rows]}. Parameters and errors as wa_enqueue.';

CREATE OR REPLACE FUNCTION wa_cancel (
    id uuid DEFAULT NULL,
    task_id uuid DEFAULT NULL,
    event_id uuid DEFAULT NULL,
    campaign_id uuid DEFAULT NULL,
    user_id uuid DEFAULT NULL
) RETURNS bigint
LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wa_cancel_wrapper';
COMMENT ON FUNCTION wa_cancel (uuid, uuid, uuid, uuid, uuid) IS
'Cancels messages that are still queued: one, or all of a task, event, campaign or organizer (several arguments narrow it down). What is being sent is left to its outcome. Answers how many were cancelled. Errors: 22023 nothing named, 42501 not your organizer.';

-- ------------------------------------------------------------------------------------------------------ limits

CREATE OR REPLACE FUNCTION wa_rate_ok (user_id uuid) RETURNS boolean
LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wa_rate_ok_wrapper';
COMMENT ON FUNCTION wa_rate_ok (uuid) IS
'Whether the organizer may send a message now under all limits; false without an active account (wa_rate_status says why). Errors: 22004, 42501.';

CREATE OR REPLACE FUNCTION wa_rate_status (user_id uuid) RETURNS TABLE (
    limit_name text,
    allowed bigint,
    used bigint,
    remaining bigint,
    next_admission timestamp with time zone,
    reason text
)
LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wa_rate_status_wrapper';
COMMENT ON FUNCTION wa_rate_status (uuid) IS
'One row per limit: what it allows (NULL: no limit), what is used and left, when the next message may leave, and the reason if not now. Errors: 22004, 42501.';

-- ------------------------------------------------------------------------------------------------------ worker

CREATE OR REPLACE FUNCTION wa_process_batch (batch_size integer DEFAULT 100) RETURNS TABLE (
    processed integer,
    sent integer,
    failed integer,
    rescheduled integer,
    unknown integer
)
LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wa_process_batch_wrapper';
COMMENT ON FUNCTION wa_process_batch (integer) IS
'Makes one pass over the queue in a background worker and waits for it: claims up to batch_size due messages of all organizers, sends and records them. For pg_cron or by hand; works without shared_preload_libraries and beside the drainer. processed is the sum of the rest. Rows of the caller''s own open transaction are not sent. Errors: 22023, 25006 read-only or standby, 42501, 53400 no worker slot, 55000.';

CREATE OR REPLACE FUNCTION wa_worker_states () RETURNS TABLE (
    database_id oid,
    pid integer,
    state text,
    started_at timestamp with time zone,
    last_pass_at timestamp with time zone,
    claimed bigint,
    sent bigint,
    failed bigint,
    rescheduled bigint,
    unknown bigint,
    in_flight integer,
    note text
)
LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wa_worker_states_wrapper';
COMMENT ON FUNCTION wa_worker_states () IS
'What the launcher knows of each database; the view wa_worker_status shows it by name. Empty without shared_preload_libraries. Errors: 42501.';

CREATE OR REPLACE FUNCTION wa_adopt_copy () RETURNS bigint
LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wa_adopt_copy_wrapper';
COMMENT ON FUNCTION wa_adopt_copy () IS
'Says that this database is the one that sends now: a restored or cloned database holds until then. Answers how many accounts were adopted. Errors: 42501.';

CREATE OR REPLACE FUNCTION wa_announce () RETURNS void
LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wa_announce_wrapper';
COMMENT ON FUNCTION wa_announce () IS
'Internal: tells the launcher at commit that this database has the extension.';

-- -------------------------------------------------------------------------------------------------------- keys

CREATE OR REPLACE FUNCTION wa_export_key () RETURNS text
LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wa_export_key_wrapper';
COMMENT ON FUNCTION wa_export_key () IS
'The key that encrypts this database''s secrets, for another database''s wa_import_key(). Whoever has it and a dump can open the tokens. Errors: 42501, 55000 no key.';

CREATE OR REPLACE FUNCTION wa_import_key (key text) RETURNS text
LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wa_import_key_wrapper';
COMMENT ON FUNCTION wa_import_key (text) IS
'Adds a key that another database exported, so that its secrets can be opened here; answers the key''s id. Errors: 22023 not a key, 42501.';

CREATE OR REPLACE FUNCTION wa_rotate_key () RETURNS text
LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wa_rotate_key_wrapper';
COMMENT ON FUNCTION wa_rotate_key () IS
'Makes a new key (with whatsapp_pg.key_file: takes its first one) and encrypts every secret with it; answers the key''s id. Errors: 42501, 55000 a secret that cannot be opened.';

-- ------------------------------------------------------------------------------------------------------- roles

CREATE OR REPLACE FUNCTION wa_name_role (role text, kind text, user_id uuid) RETURNS void
LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wa_name_role_wrapper';
COMMENT ON FUNCTION wa_name_role (text, text, uuid) IS
'Internal: remembers what a role was named for; wa_grant_operator and wa_grant_organizer call it.';

CREATE OR REPLACE FUNCTION wa_is_operator () RETURNS boolean
LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wa_is_operator_wrapper';
COMMENT ON FUNCTION wa_is_operator () IS
'Whether the current role may act for every organizer. Row security asks it.';

CREATE OR REPLACE FUNCTION wa_my_organizers () RETURNS uuid[]
LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wa_my_organizers_wrapper';
COMMENT ON FUNCTION wa_my_organizers () IS
'The organizers the current role acts for. Row security asks it.';
