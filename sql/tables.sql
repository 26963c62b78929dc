-- The five tables of the seed under their own names, with the columns the extension adds, and the index each access
-- path needs. Added columns always have a default and are never removed: an old dump must load into a new version.

-- ---------------------------------------------------------------------------------------------- whatsapp_config

CREATE TABLE whatsapp_config (
    id uuid PRIMARY KEY DEFAULT pg_catalog.gen_random_uuid(),
    user_id uuid NOT NULL,
    phone_number_id text NOT NULL,
    business_account_id text NOT NULL,
    access_token_encrypted text NOT NULL,
    webhook_verify_token text NOT NULL,
    status text NOT NULL DEFAULT 'active',
    rate_limit_tier text NOT NULL DEFAULT 'tier_1000',
    created_at timestamp with time zone NOT NULL DEFAULT pg_catalog.now(),
    -- added to the seed
    app_secret_encrypted text,
    messages_per_second integer NOT NULL DEFAULT 80 CHECK (messages_per_second BETWEEN 1 AND 1000),
    portfolio_id text,
    default_language text,
    sender_installation uuid,
    sender_database oid,
    updated_at timestamp with time zone NOT NULL DEFAULT pg_catalog.now(),
    max_retries integer CHECK (max_retries BETWEEN 0 AND 20),
    retry_delay interval CHECK (retry_delay BETWEEN '1 second' AND '6 hours'),
    on_unknown text NOT NULL DEFAULT 'keep' CHECK (on_unknown IN ('keep', 'resend', 'fail')),
    UNIQUE (user_id)
);
CREATE INDEX whatsapp_config_phone_number ON whatsapp_config (phone_number_id);

COMMENT ON TABLE whatsapp_config IS 'One WhatsApp Business account per organizer. Secrets are encrypted on the way in; write it with wa_configure().';
COMMENT ON COLUMN whatsapp_config.id IS 'Row id.';
COMMENT ON COLUMN whatsapp_config.user_id IS 'The organizer (profiles.id of the host application when linked).';
COMMENT ON COLUMN whatsapp_config.phone_number_id IS 'Meta''s id of the sending number: part of the URL messages are posted to.';
COMMENT ON COLUMN whatsapp_config.business_account_id IS 'Meta''s id of the WhatsApp Business Account (WABA) that owns number and templates.';
COMMENT ON COLUMN whatsapp_config.access_token_encrypted IS 'Access token, encrypted (wa1:…), or a reference vault:<name> or file:<path>. A plain token written here is encrypted by trigger.';
COMMENT ON COLUMN whatsapp_config.webhook_verify_token IS 'The token Meta repeats when it verifies the webhook address.';
COMMENT ON COLUMN whatsapp_config.status IS '''active'' sends; anything else holds the organizer''s queue.';
COMMENT ON COLUMN whatsapp_config.rate_limit_tier IS 'Meta''s messaging limit: unique recipients in a rolling 24 hours. tier_250, tier_1000, tier_2000, tier_10000, tier_100000, unlimited, or Meta''s own names (TIER_1K).';
COMMENT ON COLUMN whatsapp_config.created_at IS 'When the row was made.';
COMMENT ON COLUMN whatsapp_config.app_secret_encrypted IS 'Secret of the Meta app, encrypted like the token; signs webhooks.';
COMMENT ON COLUMN whatsapp_config.messages_per_second IS 'Throughput of the number: 80 by default, 20 for coexistence numbers, 1000 after Meta''s upgrade.';
COMMENT ON COLUMN whatsapp_config.portfolio_id IS 'Meta''s id of the business portfolio. The 24 h limit is counted per portfolio; without an id per business account.';
COMMENT ON COLUMN whatsapp_config.default_language IS 'Language used when a template is approved in several and the caller names none.';
COMMENT ON COLUMN whatsapp_config.sender_installation IS 'The installation that may send for this account. A restored copy is another installation and holds until wa_adopt_copy().';
COMMENT ON COLUMN whatsapp_config.sender_database IS 'The database (oid) that may send for this account. A clone is another database and holds until wa_adopt_copy().';
COMMENT ON COLUMN whatsapp_config.updated_at IS 'When the row was last written.';
COMMENT ON COLUMN whatsapp_config.max_retries IS 'Retries after a passing fault; NULL: whatsapp_pg.max_retries.';
COMMENT ON COLUMN whatsapp_config.retry_delay IS 'Wait before the first retry, doubled for each further one; NULL: whatsapp_pg.retry_delay.';
COMMENT ON COLUMN whatsapp_config.on_unknown IS 'What becomes of a message of unknown outcome of which Meta says nothing for whatsapp_pg.unknown_wait: keep (a person decides), resend (only while webhooks are known to arrive), fail.';

-- ------------------------------------------------------------------------------------------- whatsapp_templates

CREATE TABLE whatsapp_templates (
    id uuid PRIMARY KEY DEFAULT pg_catalog.gen_random_uuid(),
    user_id uuid NOT NULL,
    template_name text NOT NULL,
    language text NOT NULL DEFAULT 'en',
    category text NOT NULL CHECK (category IN ('MARKETING', 'UTILITY', 'AUTHENTICATION')),
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'approved', 'rejected')),
    template_body text NOT NULL,
    variables jsonb NOT NULL DEFAULT '[]' CHECK (pg_catalog.jsonb_typeof(variables) = 'array'),
    meta_template_id text,
    created_at timestamp with time zone NOT NULL DEFAULT pg_catalog.now(),
    -- added to the seed
    parameter_format text NOT NULL DEFAULT 'POSITIONAL' CHECK (parameter_format IN ('POSITIONAL', 'NAMED')),
    UNIQUE (user_id, template_name, language)
);

COMMENT ON TABLE whatsapp_templates IS 'Message templates per organizer, name and language. A row with status ''approved'' is enough to send.';
COMMENT ON COLUMN whatsapp_templates.id IS 'Row id.';
COMMENT ON COLUMN whatsapp_templates.user_id IS 'The organizer.';
COMMENT ON COLUMN whatsapp_templates.template_name IS 'Name at Meta: lower-case letters, digits, underscores.';
COMMENT ON COLUMN whatsapp_templates.language IS 'Meta''s language code. en and en_US are two different templates.';
COMMENT ON COLUMN whatsapp_templates.category IS 'Meta''s category; decides the price and some limits.';
COMMENT ON COLUMN whatsapp_templates.status IS 'Only approved templates are sent.';
COMMENT ON COLUMN whatsapp_templates.template_body IS 'Body text with {{1}}, {{2}}, … or {{name}} when parameter_format is NAMED.';
COMMENT ON COLUMN whatsapp_templates.variables IS 'Names of the variables, in the order of {{1}}, {{2}}, …: a JSON list of texts.';
COMMENT ON COLUMN whatsapp_templates.meta_template_id IS 'Meta''s id of the template.';
COMMENT ON COLUMN whatsapp_templates.created_at IS 'When the row was made.';
COMMENT ON COLUMN whatsapp_templates.parameter_format IS 'POSITIONAL ({{1}}) or NAMED ({{first_name}}), as the template was created at Meta.';

-- ----------------------------------------------------------------------------------------------- whatsapp_queue

CREATE TABLE whatsapp_queue (
    id uuid PRIMARY KEY DEFAULT pg_catalog.gen_random_uuid(),
    user_id uuid NOT NULL,
    event_id uuid,
    recipient_phone text NOT NULL,
    template_name text NOT NULL,
    template_variables jsonb NOT NULL DEFAULT '{}',
    priority integer NOT NULL DEFAULT 5 CHECK (priority >= 1 AND priority <= 10),
    scheduled_for timestamp with time zone NOT NULL DEFAULT pg_catalog.now(),
    status text NOT NULL DEFAULT 'queued'
        CHECK (status IN ('queued', 'sending', 'sent', 'failed', 'unknown', 'cancelled')),
    retry_count integer NOT NULL DEFAULT 0,
    error_message text,
    sent_at timestamp with time zone,
    created_at timestamp with time zone NOT NULL DEFAULT pg_catalog.now(),
    -- added to the seed
    seq bigint GENERATED BY DEFAULT AS IDENTITY,
    language text,
    meta_message_id text,
    error_code text,
    task_id uuid,
    campaign_id uuid,
    idempotency_key text,
    expires_at timestamp with time zone,
    lease bigint,
    lease_until timestamp with time zone,
    updated_at timestamp with time zone NOT NULL DEFAULT pg_catalog.now(),
    attempts integer DEFAULT 0,
    enqueued_by text DEFAULT SESSION_USER
);
-- Every state change writes a new row version, so pages keep room for it.
ALTER TABLE whatsapp_queue SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02,
                                autovacuum_analyze_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);

-- The claim: one organizer, one priority, oldest first. seq breaks the ties of bulk inserts.
CREATE INDEX whatsapp_queue_claim ON whatsapp_queue (user_id, priority, scheduled_for, seq) WHERE status = 'queued';
-- Messages whose time is over while they wait.
CREATE INDEX whatsapp_queue_expiry ON whatsapp_queue (expires_at) WHERE status = 'queued' AND expires_at IS NOT NULL;
-- What waits for a word of Meta's.
CREATE INDEX whatsapp_queue_unknown ON whatsapp_queue (user_id, updated_at) WHERE status = 'unknown';
-- The rescue: what a dead worker left behind.
CREATE INDEX whatsapp_queue_leased ON whatsapp_queue (lease) WHERE status = 'sending';
-- Rows that somebody else marked as sent count against the tier, as the seed does it.
CREATE INDEX whatsapp_queue_sent_elsewhere ON whatsapp_queue (user_id, sent_at) WHERE status = 'sent' AND lease IS NULL;
-- ON DELETE CASCADE from the host's events, and wa_cancel(event_id => …).
CREATE INDEX whatsapp_queue_event ON whatsapp_queue (event_id) WHERE event_id IS NOT NULL;
-- A number gets one message per task, whoever fans it out and how often.
CREATE UNIQUE INDEX whatsapp_queue_task ON whatsapp_queue (task_id, recipient_phone) WHERE task_id IS NOT NULL;
CREATE INDEX whatsapp_queue_idempotency ON whatsapp_queue (user_id, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX whatsapp_queue_campaign ON whatsapp_queue (campaign_id) WHERE campaign_id IS NOT NULL;

COMMENT ON SEQUENCE whatsapp_queue_seq_seq IS 'Order of entry into whatsapp_queue.';
COMMENT ON TABLE whatsapp_queue IS 'One row per message, from enqueue to its outcome. Rows leave on commit; write them with wa_enqueue() or INSERT.';
COMMENT ON COLUMN whatsapp_queue.id IS 'Message id; travels to Meta and back as biz_opaque_callback_data.';
COMMENT ON COLUMN whatsapp_queue.user_id IS 'The organizer who sends.';
COMMENT ON COLUMN whatsapp_queue.event_id IS 'The event it belongs to, if any.';
COMMENT ON COLUMN whatsapp_queue.recipient_phone IS 'Recipient in E.164 (+ and 7 to 15 digits).';
COMMENT ON COLUMN whatsapp_queue.template_name IS 'Template to send.';
COMMENT ON COLUMN whatsapp_queue.template_variables IS 'Values by variable name: a JSON object.';
COMMENT ON COLUMN whatsapp_queue.priority IS '1 to 10; 10 leaves first.';
COMMENT ON COLUMN whatsapp_queue.scheduled_for IS 'Not before this time. A retry moves it.';
COMMENT ON COLUMN whatsapp_queue.status IS 'queued, sending, sent (accepted by Meta), failed, unknown (may have been accepted, no answer recorded), cancelled.';
COMMENT ON COLUMN whatsapp_queue.retry_count IS 'Retries so far: 0 on the first attempt.';
COMMENT ON COLUMN whatsapp_queue.error_message IS 'Why it failed, is delayed or is unknown, in words.';
COMMENT ON COLUMN whatsapp_queue.sent_at IS 'When Meta accepted it.';
COMMENT ON COLUMN whatsapp_queue.created_at IS 'When it entered.';
COMMENT ON COLUMN whatsapp_queue.seq IS 'Order of entry; breaks ties of scheduled_for.';
COMMENT ON COLUMN whatsapp_queue.language IS 'Language of the template; NULL: the only approved one, else the organizer''s default.';
COMMENT ON COLUMN whatsapp_queue.meta_message_id IS 'Meta''s message id (wamid…).';
COMMENT ON COLUMN whatsapp_queue.error_code IS 'Meta''s error code, or one of ours (words).';
COMMENT ON COLUMN whatsapp_queue.task_id IS 'The ai_tasks row that made it, if any.';
COMMENT ON COLUMN whatsapp_queue.campaign_id IS 'The campaign that made it, if any.';
COMMENT ON COLUMN whatsapp_queue.idempotency_key IS 'The caller''s key of the call that made it.';
COMMENT ON COLUMN whatsapp_queue.expires_at IS 'Not sent after this time: it fails as expired.';
COMMENT ON COLUMN whatsapp_queue.lease IS 'Fencing token of the last claim. Only the worker that holds it may record an outcome.';
COMMENT ON COLUMN whatsapp_queue.lease_until IS 'The claim is void after this time, even if its worker seems alive.';
COMMENT ON COLUMN whatsapp_queue.updated_at IS 'When its state last changed.';
COMMENT ON COLUMN whatsapp_queue.attempts IS 'Attempts recorded in whatsapp_delivery_logs; NULL in rows older than 0.2.0.';
COMMENT ON COLUMN whatsapp_queue.enqueued_by IS 'The role that logged in to enqueue it; NULL in rows older than 0.2.0.';

-- --------------------------------------------------------------------------------------- whatsapp_delivery_logs

CREATE TABLE whatsapp_delivery_logs (
    id uuid PRIMARY KEY DEFAULT pg_catalog.gen_random_uuid(),
    queue_id uuid REFERENCES whatsapp_queue (id) ON DELETE CASCADE,
    status text NOT NULL,
    "timestamp" timestamp with time zone NOT NULL DEFAULT pg_catalog.now(),
    meta_message_id text,
    error_code text,
    error_message text,
    -- added to the seed
    user_id uuid,
    source text NOT NULL DEFAULT 'webhook' CHECK (source IN ('send', 'webhook', 'worker', 'person')),
    attempt integer,
    http_status integer,
    details text,
    fbtrace_id text,
    latency_ms integer
);
CREATE INDEX whatsapp_delivery_logs_queue ON whatsapp_delivery_logs (queue_id);
CREATE INDEX whatsapp_delivery_logs_timestamp ON whatsapp_delivery_logs USING brin ("timestamp");

COMMENT ON TABLE whatsapp_delivery_logs IS 'What happened to each message, append-only: every attempt to send and every status Meta reported.';
COMMENT ON COLUMN whatsapp_delivery_logs.id IS 'Row id.';
COMMENT ON COLUMN whatsapp_delivery_logs.queue_id IS 'The message.';
COMMENT ON COLUMN whatsapp_delivery_logs.status IS 'sent, delivered, read, failed, retried (will be tried again), returned (never left), unknown.';
COMMENT ON COLUMN whatsapp_delivery_logs."timestamp" IS 'When it happened.';
COMMENT ON COLUMN whatsapp_delivery_logs.meta_message_id IS 'Meta''s message id (wamid…).';
COMMENT ON COLUMN whatsapp_delivery_logs.error_code IS 'Meta''s error code, or one of ours (words).';
COMMENT ON COLUMN whatsapp_delivery_logs.error_message IS 'The error in words.';
COMMENT ON COLUMN whatsapp_delivery_logs.user_id IS 'The organizer.';
COMMENT ON COLUMN whatsapp_delivery_logs.source IS 'send: the answer to our request; webhook: Meta''s report; worker: the worker''s own finding; person: somebody called a function.';
COMMENT ON COLUMN whatsapp_delivery_logs.attempt IS 'Which attempt it was, from 1.';
COMMENT ON COLUMN whatsapp_delivery_logs.http_status IS 'HTTP status of Meta''s answer.';
COMMENT ON COLUMN whatsapp_delivery_logs.details IS 'error_data.details of Meta''s answer.';
COMMENT ON COLUMN whatsapp_delivery_logs.fbtrace_id IS 'Meta''s trace id: quote it to Meta''s support.';
COMMENT ON COLUMN whatsapp_delivery_logs.latency_ms IS 'Milliseconds from request to answer.';

-- ----------------------------------------------------------------------------------------------------- ai_tasks

CREATE TABLE ai_tasks (
    id uuid PRIMARY KEY DEFAULT pg_catalog.gen_random_uuid(),
    event_id uuid NOT NULL,
    task_type text NOT NULL CHECK (task_type IN ('send_reminder', 'send_update', 'check_in_prep')),
    status text NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'executing', 'completed', 'failed', 'cancelled')),
    scheduled_for timestamp with time zone NOT NULL,
    template_name text NOT NULL,
    recipient_filter jsonb,
    metadata jsonb NOT NULL DEFAULT '{}',
    created_at timestamp with time zone NOT NULL DEFAULT pg_catalog.now(),
    -- added to the seed
    user_id uuid,
    error_message text,
    queued_count integer NOT NULL DEFAULT 0,
    refused_count integer NOT NULL DEFAULT 0,
    no_phone_count integer NOT NULL DEFAULT 0,
    duplicate_count integer NOT NULL DEFAULT 0,
    executed_at timestamp with time zone
);
CREATE INDEX ai_tasks_event ON ai_tasks (event_id);
CREATE INDEX ai_tasks_due ON ai_tasks (scheduled_for) WHERE status = 'pending';

COMMENT ON TABLE ai_tasks IS 'Planned messages to an event''s attendees. Setting status to ''executing'' queues one message per attendee.';
COMMENT ON COLUMN ai_tasks.id IS 'Row id.';
COMMENT ON COLUMN ai_tasks.event_id IS 'The event whose attendees are written to.';
COMMENT ON COLUMN ai_tasks.task_type IS 'send_reminder, send_update or check_in_prep.';
COMMENT ON COLUMN ai_tasks.status IS 'pending, executing (its messages are queued), completed, failed, cancelled.';
COMMENT ON COLUMN ai_tasks.scheduled_for IS 'When it is due.';
COMMENT ON COLUMN ai_tasks.template_name IS 'Template to send.';
COMMENT ON COLUMN ai_tasks.recipient_filter IS 'Who: {"ticket_type": "VIP"}; a scalar means equal, a list any of, an object contains. NULL or {} is everybody.';
COMMENT ON COLUMN ai_tasks.metadata IS 'Further variables, the same for all recipients; "language" chooses the template''s language.';
COMMENT ON COLUMN ai_tasks.created_at IS 'When the row was made.';
COMMENT ON COLUMN ai_tasks.user_id IS 'The organizer; filled from the event.';
COMMENT ON COLUMN ai_tasks.error_message IS 'Why it failed.';
COMMENT ON COLUMN ai_tasks.queued_count IS 'Messages it queued.';
COMMENT ON COLUMN ai_tasks.refused_count IS 'Attendees it refused; each is a failed row in the queue with the reason.';
COMMENT ON COLUMN ai_tasks.no_phone_count IS 'Attendees without a phone number.';
COMMENT ON COLUMN ai_tasks.duplicate_count IS 'Attendees whose number had its message already.';
COMMENT ON COLUMN ai_tasks.executed_at IS 'When its messages were queued.';
