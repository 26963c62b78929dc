-- Last: what a dump must contain, no privileges for anybody, who this installation is, a key, and the announcement.

SELECT pg_catalog.pg_extension_config_dump('whatsapp_config', '');
SELECT pg_catalog.pg_extension_config_dump('whatsapp_templates', '');
SELECT pg_catalog.pg_extension_config_dump('whatsapp_queue', '');
SELECT pg_catalog.pg_extension_config_dump('whatsapp_queue_seq_seq', '');
SELECT pg_catalog.pg_extension_config_dump('whatsapp_delivery_logs', '');
SELECT pg_catalog.pg_extension_config_dump('ai_tasks', '');
SELECT pg_catalog.pg_extension_config_dump('whatsapp_roles', '');
SELECT pg_catalog.pg_extension_config_dump('whatsapp_idempotency', '');
-- The limits of the last 24 hours hold in a restored database too.
SELECT pg_catalog.pg_extension_config_dump('whatsapp_budget', '');
SELECT pg_catalog.pg_extension_config_dump('whatsapp_recipients', '');
SELECT pg_catalog.pg_extension_config_dump('whatsapp_usage', '');
-- Nobody who opted out, and nothing that is held, is written to because of a restore.
SELECT pg_catalog.pg_extension_config_dump('whatsapp_contacts', '');
SELECT pg_catalog.pg_extension_config_dump('whatsapp_holds', '');

SELECT wa_sweep_privileges();

INSERT INTO whatsapp_installation DEFAULT VALUES;
SELECT wa_rotate_key();

-- What exists of the application's tables is linked; without them nothing is missed.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
               WHERE c.relname = 'ai_events' AND c.relkind IN ('r', 'p') AND n.nspname IN ('public', '@extschema@')) THEN
        PERFORM @extschema@.wa_link_host();
    END IF;
END
$$;

SELECT wa_announce();
