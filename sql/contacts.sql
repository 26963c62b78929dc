-- What is known of recipients, and what is held back.

CREATE TABLE whatsapp_contacts (
    user_id uuid NOT NULL,
    phone text NOT NULL,
    window_until timestamp with time zone,
    held_until timestamp with time zone,
    held_code text,
    held_reason text,
    marketing_held_until timestamp with time zone,
    marketing_held_code text,
    suppressed_at timestamp with time zone,
    suppressed_code text,
    pair_failures integer NOT NULL DEFAULT 0,
    pair_failed_at timestamp with time zone,
    undeliverable integer NOT NULL DEFAULT 0,
    undeliverable_at timestamp with time zone,
    created_at timestamp with time zone NOT NULL DEFAULT pg_catalog.now(),
    updated_at timestamp with time zone NOT NULL DEFAULT pg_catalog.now(),
    PRIMARY KEY (user_id, phone)
);
COMMENT ON TABLE whatsapp_contacts IS 'What is known of a recipient, per organizer: the service window, and why nothing is sent for now or at all.';
COMMENT ON COLUMN whatsapp_contacts.user_id IS 'The organizer.';
COMMENT ON COLUMN whatsapp_contacts.phone IS 'The recipient''s number in E.164.';
COMMENT ON COLUMN whatsapp_contacts.window_until IS 'The 24-hour service window is open until then; messages in it do not count against the tier.';
COMMENT ON COLUMN whatsapp_contacts.held_until IS 'Messages wait until then (Meta''s pair limit, or wa_pause).';
COMMENT ON COLUMN whatsapp_contacts.held_code IS 'Meta''s code for it; NULL when a person did it.';
COMMENT ON COLUMN whatsapp_contacts.held_reason IS 'Why, in words.';
COMMENT ON COLUMN whatsapp_contacts.marketing_held_until IS 'Marketing templates wait until then; infinity: they fail, the person wants none.';
COMMENT ON COLUMN whatsapp_contacts.marketing_held_code IS 'Meta''s code for it.';
COMMENT ON COLUMN whatsapp_contacts.suppressed_at IS 'Since when messages to this number fail at once, because it cannot be reached.';
COMMENT ON COLUMN whatsapp_contacts.suppressed_code IS 'Meta''s code for it.';
COMMENT ON COLUMN whatsapp_contacts.pair_failures IS 'Refusals 131056 in a row: the next wait is 4 to this power, in seconds.';
COMMENT ON COLUMN whatsapp_contacts.pair_failed_at IS 'When the last of them came.';
COMMENT ON COLUMN whatsapp_contacts.undeliverable IS 'Failures 131026 in a row, one a day counted.';
COMMENT ON COLUMN whatsapp_contacts.undeliverable_at IS 'When the last of them came.';
COMMENT ON COLUMN whatsapp_contacts.created_at IS 'When the row was made.';
COMMENT ON COLUMN whatsapp_contacts.updated_at IS 'When the row was last written.';

CREATE TABLE whatsapp_holds (
    user_id uuid NOT NULL,
    scope text NOT NULL CHECK (scope IN ('account', 'number', 'template', 'category', 'country', 'event', 'task',
                                         'campaign', 'message')),
    subject text NOT NULL,
    source text NOT NULL CHECK (source IN ('meta', 'person')),
    code text,
    reason text NOT NULL,
    held_at timestamp with time zone NOT NULL DEFAULT pg_catalog.now(),
    until timestamp with time zone NOT NULL,
    strikes integer NOT NULL DEFAULT 1,
    held_by text,
    PRIMARY KEY (user_id, scope, subject, source)
);
-- Two organizers may share a number: what holds it for one holds it for both.
CREATE INDEX whatsapp_holds_number ON whatsapp_holds (subject) WHERE scope = 'number';
COMMENT ON TABLE whatsapp_holds IS 'What is held back, one row whatever the backlog: by Meta''s answers or by wa_pause(). The messages stay queued.';
COMMENT ON COLUMN whatsapp_holds.user_id IS 'The organizer.';
COMMENT ON COLUMN whatsapp_holds.scope IS 'What kind of thing is held: account, number, template, category, country, event, task, campaign, message.';
COMMENT ON COLUMN whatsapp_holds.subject IS 'Which one: organizer, phone_number_id, template name (a hold of one language: name/language), category, country calling code, or id.';
COMMENT ON COLUMN whatsapp_holds.source IS 'meta: an answer or webhook of Meta''s; person: wa_pause().';
COMMENT ON COLUMN whatsapp_holds.code IS 'Meta''s error code.';
COMMENT ON COLUMN whatsapp_holds.reason IS 'Why, what it means, and what to do.';
COMMENT ON COLUMN whatsapp_holds.held_at IS 'Since when.';
COMMENT ON COLUMN whatsapp_holds.until IS 'person: it ends then. meta: one message is tried then; if it passes, the hold is over. infinity: until wa_resume().';
COMMENT ON COLUMN whatsapp_holds.strikes IS 'How often in a row Meta refused.';
COMMENT ON COLUMN whatsapp_holds.held_by IS 'The role that called wa_pause().';
