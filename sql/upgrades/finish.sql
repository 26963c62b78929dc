-- The end of every upgrade script: what a dump must contain in addition, the privileges of the roles the DBA named, and
-- the rows that are there as the first line of the ledger.

SELECT pg_catalog.pg_extension_config_dump('whatsapp_usage', '');
SELECT pg_catalog.pg_extension_config_dump('whatsapp_contacts', '');
SELECT pg_catalog.pg_extension_config_dump('whatsapp_holds', '');

INSERT INTO whatsapp_ledger (user_id, day, state, change, cause)
SELECT q.user_id, (q.created_at AT TIME ZONE 'UTC')::date, whatsapp_ledger_state(q.status), pg_catalog.count(*), 'insert'
FROM whatsapp_queue AS q
WHERE NOT EXISTS (SELECT FROM whatsapp_ledger)
GROUP BY 1, 2, 3;

SELECT wa_sweep_privileges();
SELECT CASE r.kind WHEN 'operator' THEN wa_grant_operator(r.role_name::text::pg_catalog.regrole)
                   WHEN 'organizer' THEN wa_grant_organizer(r.role_name::text::pg_catalog.regrole, r.user_id)
                   WHEN 'webhook' THEN wa_grant_webhook(r.role_name::text::pg_catalog.regrole) END
FROM whatsapp_roles AS r
WHERE EXISTS (SELECT FROM pg_catalog.pg_roles AS p WHERE p.rolname = r.role_name);

SELECT wa_announce();
