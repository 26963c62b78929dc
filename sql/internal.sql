-- Tables that belong to the extension alone. No role is granted anything on them.

CREATE TABLE whatsapp_installation (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    id uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid(),
    installed_at timestamp with time zone NOT NULL DEFAULT pg_catalog.now()
);
COMMENT ON TABLE whatsapp_installation IS 'Who this installation is. Never dumped: CREATE EXTENSION during a restore makes a new one, and that is how a copy is told from the original. pg_upgrade and promotion keep it.';

CREATE TABLE whatsapp_keys (
    key_id text PRIMARY KEY,
    key_text text NOT NULL,
    created_at timestamp with time zone NOT NULL DEFAULT pg_catalog.now(),
    seals boolean NOT NULL DEFAULT true
);
CREATE UNIQUE INDEX whatsapp_keys_sealing ON whatsapp_keys (seals) WHERE seals;
COMMENT ON TABLE whatsapp_keys IS 'Keys that encrypt tokens and app secrets. Never dumped; only the owner can read it. It reaches standbys through WAL and survives pg_upgrade.';

CREATE TABLE whatsapp_roles (
    role_name name NOT NULL,
    kind text NOT NULL CHECK (kind IN ('operator', 'organizer', 'webhook')),
    user_id uuid,
    UNIQUE NULLS NOT DISTINCT (role_name, kind, user_id)
);
COMMENT ON TABLE whatsapp_roles IS 'Roles the DBA named with wa_grant_operator, wa_grant_organizer, wa_grant_webhook. An organizer role with a user_id logs in directly; without one it acts for request.jwt.claims ->> ''sub''.';

CREATE TABLE whatsapp_idempotency (
    user_id uuid NOT NULL,
    idempotency_key text NOT NULL,
    request_hash text NOT NULL,
    created_at timestamp with time zone NOT NULL DEFAULT pg_catalog.now(),
    PRIMARY KEY (user_id, idempotency_key)
);
COMMENT ON TABLE whatsapp_idempotency IS 'One row per idempotency key: a key covers a call that makes many rows.';

CREATE TABLE whatsapp_pacing (
    phone_number_id text PRIMARY KEY,
    next_free timestamp with time zone NOT NULL DEFAULT '-infinity'
);
ALTER TABLE whatsapp_pacing SET (fillfactor = 50);
COMMENT ON TABLE whatsapp_pacing IS 'Messages per second: the first moment not yet given away for each number. Claims reserve slices of it.';

CREATE TABLE whatsapp_budget (
    portfolio text PRIMARY KEY,
    recipients integer NOT NULL DEFAULT 0
);
ALTER TABLE whatsapp_budget SET (fillfactor = 50);
COMMENT ON TABLE whatsapp_budget IS 'How many rows whatsapp_recipients has per portfolio; whoever changes them holds this row''s lock.';

CREATE TABLE whatsapp_recipients (
    portfolio text NOT NULL,
    recipient_phone text NOT NULL,
    last_sent timestamp with time zone NOT NULL,
    PRIMARY KEY (portfolio, recipient_phone)
);
CREATE INDEX whatsapp_recipients_expiry ON whatsapp_recipients (portfolio, last_sent);
COMMENT ON TABLE whatsapp_recipients IS 'Unique recipients of the rolling 24 hours per portfolio, with the time of the last message.';

CREATE TABLE whatsapp_usage (
    portfolio text NOT NULL,
    user_id uuid NOT NULL,
    starts timestamp with time zone NOT NULL,
    ends timestamp with time zone NOT NULL,
    messages integer NOT NULL,
    mirrored boolean NOT NULL DEFAULT false
);
CREATE INDEX whatsapp_usage_recent ON whatsapp_usage (portfolio, ends);
CREATE INDEX whatsapp_usage_mirror ON whatsapp_usage (ends) WHERE NOT mirrored;
COMMENT ON TABLE whatsapp_usage IS 'Slices of sending time given to claims: what counts against the tier''s figure per minute. mirrored: counted in the application''s rate_limits.';

CREATE TABLE whatsapp_host (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    profiles oid,
    ai_events oid,
    orders oid,
    attendees oid,
    rate_limits oid,
    audience oid,
    linked_at timestamp with time zone NOT NULL DEFAULT pg_catalog.now()
);
COMMENT ON TABLE whatsapp_host IS 'The host application''s tables (pg_class oids) that wa_link_host() found. Never dumped: oids mean nothing elsewhere.';

CREATE SEQUENCE whatsapp_runs AS integer CYCLE;
COMMENT ON SEQUENCE whatsapp_runs IS 'Numbers the runs of workers; the number is the upper part of a lease, and a running worker holds an advisory lock on it.';
