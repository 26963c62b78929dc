-- From 0.1.0: what its tables lack. The files after this one in the upgrade script bring the new tables, and every
-- function, view, trigger and policy as it is now (scripts/upgrade-scripts.sh).

ALTER TABLE whatsapp_config
    ADD COLUMN max_retries integer CHECK (max_retries BETWEEN 0 AND 20),
    ADD COLUMN retry_delay interval CHECK (retry_delay BETWEEN '1 second' AND '6 hours'),
    ADD COLUMN on_unknown text NOT NULL DEFAULT 'keep' CHECK (on_unknown IN ('keep', 'resend', 'fail'));

-- Rows that are there keep NULL: nobody counted their attempts, and nobody noted who made them.
ALTER TABLE whatsapp_queue ADD COLUMN attempts integer, ADD COLUMN enqueued_by text;
ALTER TABLE whatsapp_queue ALTER COLUMN attempts SET DEFAULT 0, ALTER COLUMN enqueued_by SET DEFAULT SESSION_USER;
CREATE INDEX whatsapp_queue_expiry ON whatsapp_queue (expires_at) WHERE status = 'queued' AND expires_at IS NOT NULL;
CREATE INDEX whatsapp_queue_unknown ON whatsapp_queue (user_id, updated_at) WHERE status = 'unknown';

ALTER TABLE whatsapp_delivery_logs DROP CONSTRAINT whatsapp_delivery_logs_source_check;
ALTER TABLE whatsapp_delivery_logs ADD CONSTRAINT whatsapp_delivery_logs_source_check
    CHECK (source IN ('send', 'webhook', 'worker', 'person'));

ALTER TABLE whatsapp_pacing
    ADD COLUMN throttled_per_second integer,
    ADD COLUMN throttled_at timestamp with time zone,
    ADD COLUMN status_seen_for timestamp with time zone;

ALTER TABLE whatsapp_budget ADD COLUMN last_slice bigint NOT NULL DEFAULT 0;

-- Slices get numbers, and say to whom. What whatsapp_recipients has counts on until its day is over.
ALTER TABLE whatsapp_usage
    ADD COLUMN slice bigint,
    ADD COLUMN phone_number_id text NOT NULL DEFAULT '',
    ADD COLUMN recipients bigint[] NOT NULL DEFAULT '{}';
UPDATE whatsapp_usage AS u SET slice = n.slice
FROM (SELECT o.ctid AS place, pg_catalog.row_number() OVER (PARTITION BY o.portfolio ORDER BY o.ends) AS slice
      FROM whatsapp_usage AS o) AS n
WHERE u.ctid = n.place;
ALTER TABLE whatsapp_usage ALTER COLUMN slice SET NOT NULL, ADD PRIMARY KEY (portfolio, slice);
INSERT INTO whatsapp_budget (portfolio, last_slice)
SELECT u.portfolio, pg_catalog.max(u.slice) FROM whatsapp_usage AS u GROUP BY u.portfolio
ON CONFLICT (portfolio) DO UPDATE SET last_slice = excluded.last_slice;
DROP INDEX whatsapp_usage_recent;
CREATE INDEX whatsapp_usage_ends ON whatsapp_usage (ends);

CREATE TABLE whatsapp_clock (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    boot_id text NOT NULL,
    offset_us bigint NOT NULL
);
COMMENT ON TABLE whatsapp_clock IS 'How far the wall clock was ahead of the machine''s own when a worker last looked, so that setting the clock is noticed, and the times that limits look at are moved with it.';

COMMENT ON TABLE whatsapp_pacing IS 'One row per number. next_free: the first moment not yet given away, claims reserve slices of it. throttled_…: the rate after Meta''s last 130429, and when. status_seen_for: Meta has reported on a message sent at this moment, so webhooks arrive.';
COMMENT ON TABLE whatsapp_budget IS 'One row per portfolio: the number of its last slice in whatsapp_usage. Whoever adds slices holds this row''s lock. recipients: not used since 0.2.0, kept so that older dumps load.';
COMMENT ON TABLE whatsapp_recipients IS 'Recipients of the last 24 hours as versions before 0.2.0 counted them, with the time of the last message.';
COMMENT ON TABLE whatsapp_usage IS 'Slices of sending time given to claims, evenly spread from starts to ends, and to whom: the digits of the numbers in the order of their slots, negative for those in an open service window. What the limits look at follows from it: recipients in 24 hours, messages per minute, one recipient''s rate. Kept for 25 hours. mirrored: counted in the application''s rate_limits.';
COMMENT ON COLUMN whatsapp_config.max_retries IS 'Retries after a passing fault; NULL: whatsapp_pg.max_retries.';
COMMENT ON COLUMN whatsapp_config.retry_delay IS 'Wait before the first retry, doubled for each further one; NULL: whatsapp_pg.retry_delay.';
COMMENT ON COLUMN whatsapp_config.on_unknown IS 'What becomes of a message of unknown outcome of which Meta says nothing for whatsapp_pg.unknown_wait: keep (a person decides), resend (only while webhooks are known to arrive), fail.';
COMMENT ON COLUMN whatsapp_queue.attempts IS 'Attempts recorded in whatsapp_delivery_logs; NULL in rows older than 0.2.0.';
COMMENT ON COLUMN whatsapp_queue.enqueued_by IS 'The role that logged in to enqueue it; NULL in rows older than 0.2.0.';
COMMENT ON COLUMN whatsapp_delivery_logs.source IS 'send: the answer to our request; webhook: Meta''s report; worker: the worker''s own finding; person: somebody called a function.';
