-- The ledger: what entered whatsapp_queue, what left it, and what became of it, written beside the rows and never
-- through them, so that wa_audit() can hold one against the other. Lines are only ever added; the worker replaces old
-- ones by their sum. No dump contains it: rows that a restore loads enter the new database's own ledger.

CREATE TABLE whatsapp_ledger (
    user_id uuid NOT NULL,
    day date NOT NULL,
    state text NOT NULL CHECK (state IN ('open', 'unknown', 'sent', 'failed', 'cancelled')),
    change bigint NOT NULL,
    cause text NOT NULL CHECK (cause IN ('insert', 'delete', 'truncate', 'update', 'worker')),
    at timestamp with time zone NOT NULL DEFAULT pg_catalog.now(),
    is_sum boolean NOT NULL DEFAULT false,
    taken_from text CHECK (taken_from IN ('open', 'unknown', 'sent', 'failed', 'cancelled'))
);
CREATE UNIQUE INDEX whatsapp_ledger_sum ON whatsapp_ledger (user_id, day, state, cause, taken_from) NULLS NOT DISTINCT
    WHERE is_sum;
CREATE INDEX whatsapp_ledger_fresh ON whatsapp_ledger (at) WHERE NOT is_sum;
COMMENT ON TABLE whatsapp_ledger IS 'Per organizer, day of entry (UTC) and state: how many messages came into the state (positive) or left it (negative), and by what. open: queued or sending. taken_from: the state they left for it, so that the worker needs one line for both. is_sum: the sum of older lines.';

CREATE OR REPLACE FUNCTION whatsapp_ledger_state (status text) RETURNS text
LANGUAGE sql IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE SECURITY INVOKER
RETURN CASE WHEN status IN ('queued', 'sending') THEN 'open' ELSE status END;
COMMENT ON FUNCTION whatsapp_ledger_state (text) IS 'Internal: the state of the ledger that a row''s status belongs to.';

CREATE OR REPLACE FUNCTION whatsapp_ledger_insert () RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO @extschema@.whatsapp_ledger (user_id, day, state, change, cause)
    SELECT n.user_id, (n.created_at AT TIME ZONE 'UTC')::date, @extschema@.whatsapp_ledger_state(n.status), count(*), 'insert'
    FROM new_rows AS n GROUP BY 1, 2, 3;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION whatsapp_ledger_insert () IS 'Trigger: what enters the queue is written into the ledger.';

CREATE OR REPLACE FUNCTION whatsapp_ledger_update () RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO @extschema@.whatsapp_ledger (user_id, day, state, change, cause)
    SELECT c.user_id, (c.created_at AT TIME ZONE 'UTC')::date, @extschema@.whatsapp_ledger_state(c.status), sum(c.change), 'update'
    FROM (SELECT o.user_id, o.created_at, o.status, -1 AS change FROM old_rows AS o
          UNION ALL
          SELECT n.user_id, n.created_at, n.status, 1 FROM new_rows AS n) AS c
    GROUP BY 1, 2, 3 HAVING sum(c.change) <> 0;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION whatsapp_ledger_update () IS 'Trigger: what changes its state by anybody but the worker is written into the ledger.';

CREATE OR REPLACE FUNCTION whatsapp_ledger_delete () RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO @extschema@.whatsapp_ledger (user_id, day, state, change, cause)
    SELECT o.user_id, (o.created_at AT TIME ZONE 'UTC')::date, @extschema@.whatsapp_ledger_state(o.status), -count(*), 'delete'
    FROM old_rows AS o GROUP BY 1, 2, 3;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION whatsapp_ledger_delete () IS 'Trigger: what leaves the queue, also by a cascade, is written into the ledger.';

CREATE OR REPLACE FUNCTION whatsapp_ledger_truncate () RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO @extschema@.whatsapp_ledger (user_id, day, state, change, cause)
    SELECT q.user_id, (q.created_at AT TIME ZONE 'UTC')::date, @extschema@.whatsapp_ledger_state(q.status), -count(*), 'truncate'
    FROM @extschema@.whatsapp_queue AS q GROUP BY 1, 2, 3;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION whatsapp_ledger_truncate () IS 'Trigger: what a TRUNCATE removes is written into the ledger.';

CREATE TRIGGER whatsapp_ledger_insert AFTER INSERT ON whatsapp_queue
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION whatsapp_ledger_insert ();
CREATE TRIGGER whatsapp_ledger_update AFTER UPDATE ON whatsapp_queue
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION whatsapp_ledger_update ();
CREATE TRIGGER whatsapp_ledger_delete AFTER DELETE ON whatsapp_queue
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION whatsapp_ledger_delete ();
CREATE TRIGGER whatsapp_ledger_truncate BEFORE TRUNCATE ON whatsapp_queue
    FOR EACH STATEMENT EXECUTE FUNCTION whatsapp_ledger_truncate ();
