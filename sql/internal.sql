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
    next_free timestamp with time zone NOT NULL DEFAULT '-infinity',
    throttled_per_second integer,
    throttled_at timestamp with time zone,
    status_seen_for timestamp with time zone
);
ALTER TABLE whatsapp_pacing SET (fillfactor = 50);
COMMENT ON TABLE whatsapp_pacing IS 'One row per number. next_free: the first moment not yet given away, claims reserve slices of it. throttled_…: the rate after Meta''s last 130429, and when. status_seen_for: Meta has reported on a message sent at this moment, so webhooks arrive.';

CREATE TABLE whatsapp_budget (
    portfolio text PRIMARY KEY,
    recipients integer NOT NULL DEFAULT 0,
    last_slice bigint NOT NULL DEFAULT 0
);
ALTER TABLE whatsapp_budget SET (fillfactor = 50);
COMMENT ON TABLE whatsapp_budget IS 'One row per portfolio: the number of its last slice in whatsapp_usage. Whoever adds slices holds this row''s lock. recipients: not used since 0.2.0, kept so that older dumps load.';

-- Nothing is written here since 0.2.0; what an upgrade or an older dump left counts until its day is over.
CREATE TABLE whatsapp_recipients (
    portfolio text NOT NULL,
    recipient_phone text NOT NULL,
    last_sent timestamp with time zone NOT NULL,
    PRIMARY KEY (portfolio, recipient_phone)
);
CREATE INDEX whatsapp_recipients_expiry ON whatsapp_recipients (portfolio, last_sent);
COMMENT ON TABLE whatsapp_recipients IS 'Recipients of the last 24 hours as versions before 0.2.0 counted them, with the time of the last message.';

CREATE TABLE whatsapp_usage (
    portfolio text NOT NULL,
    user_id uuid NOT NULL,
    starts timestamp with time zone NOT NULL,
    ends timestamp with time zone NOT NULL,
    messages integer NOT NULL,
    mirrored boolean NOT NULL DEFAULT false,
    slice bigint NOT NULL,
    phone_number_id text NOT NULL DEFAULT '',
    recipients bigint[] NOT NULL DEFAULT '{}',
    PRIMARY KEY (portfolio, slice)
);
CREATE INDEX whatsapp_usage_ends ON whatsapp_usage (ends);
CREATE INDEX whatsapp_usage_mirror ON whatsapp_usage (ends) WHERE NOT mirrored;
COMMENT ON TABLE whatsapp_usage IS 'Slices of sending time given to claims, evenly spread from starts to ends, and to whom: the digits of the numbers in the order of their slots, negative for those in an open service window. What the limits look at follows from it: recipients in 24 hours, messages per minute, one recipient''s rate. Kept for 25 hours. mirrored: counted in the application''s rate_limits.';

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

CREATE TABLE whatsapp_clock (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    boot_id text NOT NULL,
    offset_us bigint NOT NULL
);
COMMENT ON TABLE whatsapp_clock IS 'How far the wall clock was ahead of the machine''s own when a worker last looked, so that setting the clock is noticed, and the times that limits look at are moved with it.';

CREATE SEQUENCE whatsapp_runs AS integer CYCLE;
COMMENT ON SEQUENCE whatsapp_runs IS 'Numbers the runs of workers; the number is the upper part of a lease, and a running worker holds an advisory lock on it.';
