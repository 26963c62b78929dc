-- Nothing of ours may be created beside a table that is already there: the seed document told people to make these
-- tables by hand, and their rows must not be touched by an install script.
DO $$
DECLARE
    taken text;
BEGIN
    SELECT pg_catalog.string_agg(c.relname, ', ' ORDER BY c.relname) INTO taken
    FROM pg_catalog.pg_class AS c
    WHERE c.relnamespace = '@extschema@'::pg_catalog.regnamespace
      AND c.relname IN ('whatsapp_config', 'whatsapp_templates', 'whatsapp_queue', 'whatsapp_queue_seq_seq',
                        'whatsapp_delivery_logs', 'whatsapp_analytics', 'whatsapp_messages', 'ai_tasks',
                        'whatsapp_installation', 'whatsapp_keys', 'whatsapp_roles', 'whatsapp_idempotency',
                        'whatsapp_pacing', 'whatsapp_budget', 'whatsapp_recipients', 'whatsapp_usage', 'whatsapp_host',
                        'whatsapp_runs', 'whatsapp_clock', 'whatsapp_contacts', 'whatsapp_holds', 'whatsapp_ledger',
                        'whatsapp_errors', 'wa_worker_status');
    IF taken IS NOT NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'duplicate_table',
            MESSAGE = 'schema "' || trim(BOTH '"' FROM '@extschema@') || '" already has: ' || taken,
            DETAIL = 'whatsapp_pg creates tables of these names and does not take over tables it did not make.',
            HINT = 'Install into another schema (CREATE EXTENSION whatsapp_pg SCHEMA wa), or rename the old tables first '
                   'and copy their rows afterwards: see docs/moving-from-hand-made-tables.md.';
    END IF;
END
$$;
