-- Who may do what. Nobody gets anything by installing: a database's default privileges may grant everything to
-- everybody, so what they let in is swept out first. The DBA then names roles.

-- Runs at the end of install and upgrade scripts.
CREATE OR REPLACE FUNCTION wa_sweep_privileges () RETURNS void
LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    each record;
BEGIN
    FOR each IN
        SELECT DISTINCT format('REVOKE ALL ON %s %s FROM %s CASCADE',
                               CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, c.oid::regclass,
                               CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END) AS command
        FROM pg_depend AS d
        JOIN pg_class AS c ON d.classid = 'pg_class'::regclass AND d.objid = c.oid
        CROSS JOIN LATERAL aclexplode(c.relacl) AS a
        WHERE d.deptype = 'e' AND d.refclassid = 'pg_extension'::regclass
          AND d.refobjid = (SELECT e.oid FROM pg_extension AS e WHERE e.extname = 'whatsapp_pg')
          AND c.relkind IN ('r', 'v', 'S') AND a.grantee <> c.relowner
        UNION ALL
        SELECT DISTINCT format('REVOKE ALL ON FUNCTION %s FROM %s CASCADE', p.oid::regprocedure,
                               CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END)
        FROM pg_depend AS d
        JOIN pg_proc AS p ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid
        CROSS JOIN LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a
        WHERE d.deptype = 'e' AND d.refclassid = 'pg_extension'::regclass
          AND d.refobjid = (SELECT e.oid FROM pg_extension AS e WHERE e.extname = 'whatsapp_pg')
          AND a.grantee <> p.proowner
    LOOP
        EXECUTE each.command;
    END LOOP;
END
$$;
COMMENT ON FUNCTION wa_sweep_privileges () IS 'Internal: revokes every privilege on the extension''s objects from everybody but their owner. Run by install and upgrade scripts.';

-- Row security: an organizer sees his own rows. The functions run once per query, not once per row.
ALTER TABLE whatsapp_config ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS whatsapp_own ON whatsapp_config;
CREATE POLICY whatsapp_own ON whatsapp_config
    USING ((SELECT @extschema@.wa_is_operator()) OR user_id = ANY ((SELECT @extschema@.wa_my_organizers())::uuid[]));
ALTER TABLE whatsapp_templates ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS whatsapp_own ON whatsapp_templates;
CREATE POLICY whatsapp_own ON whatsapp_templates
    USING ((SELECT @extschema@.wa_is_operator()) OR user_id = ANY ((SELECT @extschema@.wa_my_organizers())::uuid[]));
ALTER TABLE whatsapp_queue ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS whatsapp_own ON whatsapp_queue;
CREATE POLICY whatsapp_own ON whatsapp_queue
    USING ((SELECT @extschema@.wa_is_operator()) OR user_id = ANY ((SELECT @extschema@.wa_my_organizers())::uuid[]));
ALTER TABLE whatsapp_delivery_logs ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS whatsapp_own ON whatsapp_delivery_logs;
CREATE POLICY whatsapp_own ON whatsapp_delivery_logs
    USING ((SELECT @extschema@.wa_is_operator()) OR user_id = ANY ((SELECT @extschema@.wa_my_organizers())::uuid[]));
ALTER TABLE ai_tasks ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS whatsapp_own ON ai_tasks;
CREATE POLICY whatsapp_own ON ai_tasks
    USING ((SELECT @extschema@.wa_is_operator()) OR user_id = ANY ((SELECT @extschema@.wa_my_organizers())::uuid[]));
ALTER TABLE whatsapp_contacts ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS whatsapp_own ON whatsapp_contacts;
CREATE POLICY whatsapp_own ON whatsapp_contacts
    USING ((SELECT @extschema@.wa_is_operator()) OR user_id = ANY ((SELECT @extschema@.wa_my_organizers())::uuid[]));
ALTER TABLE whatsapp_holds ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS whatsapp_own ON whatsapp_holds;
CREATE POLICY whatsapp_own ON whatsapp_holds
    USING ((SELECT @extschema@.wa_is_operator()) OR user_id = ANY ((SELECT @extschema@.wa_my_organizers())::uuid[]));
-- Internal tables: no policy lets anybody in but the owner, whatever is granted by accident.
ALTER TABLE whatsapp_installation ENABLE ROW LEVEL SECURITY;
ALTER TABLE whatsapp_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE whatsapp_roles ENABLE ROW LEVEL SECURITY;
ALTER TABLE whatsapp_idempotency ENABLE ROW LEVEL SECURITY;
ALTER TABLE whatsapp_pacing ENABLE ROW LEVEL SECURITY;
ALTER TABLE whatsapp_budget ENABLE ROW LEVEL SECURITY;
ALTER TABLE whatsapp_recipients ENABLE ROW LEVEL SECURITY;
ALTER TABLE whatsapp_usage ENABLE ROW LEVEL SECURITY;
ALTER TABLE whatsapp_host ENABLE ROW LEVEL SECURITY;
ALTER TABLE whatsapp_ledger ENABLE ROW LEVEL SECURITY;
ALTER TABLE whatsapp_clock ENABLE ROW LEVEL SECURITY;

CREATE OR REPLACE FUNCTION wa_grant_operator (role regrole) RETURNS void
LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF role IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'role must not be null';
    END IF;
    PERFORM @extschema@.wa_name_role((SELECT r.rolname::text FROM pg_roles AS r WHERE r.oid = role), 'operator', NULL);
    EXECUTE format('GRANT USAGE ON SCHEMA @extschema@ TO %s', role);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON @extschema@.whatsapp_templates, @extschema@.whatsapp_queue, '
                   '@extschema@.whatsapp_delivery_logs, @extschema@.ai_tasks TO %s', role);
    EXECUTE format('GRANT SELECT (id, user_id, phone_number_id, business_account_id, status, rate_limit_tier, created_at, '
                   'messages_per_second, portfolio_id, default_language, sender_installation, sender_database, updated_at), '
                   'UPDATE (status, rate_limit_tier, messages_per_second, portfolio_id, default_language), DELETE '
                   'ON @extschema@.whatsapp_config TO %s', role);
    EXECUTE format('GRANT SELECT ON @extschema@.whatsapp_messages, @extschema@.whatsapp_analytics, '
                   '@extschema@.wa_worker_status, @extschema@.whatsapp_errors, @extschema@.whatsapp_contacts, '
                   '@extschema@.whatsapp_holds TO %s', role);
    EXECUTE format('GRANT EXECUTE ON FUNCTION @extschema@.wa_process_batch(integer), @extschema@.wa_worker_states(), '
                   '@extschema@.wa_adopt_copy(), @extschema@.wa_audit(boolean), @extschema@.wa_doctor() TO %s', role);
    PERFORM @extschema@.wa_grant_calls(role);
END
$$;
COMMENT ON FUNCTION wa_grant_operator (regrole) IS 'Lets a role run the product for all organizers: see and change queue, templates and tasks, configure accounts, process batches, see the worker. It cannot read tokens or keys. For the owner of the extension.';

CREATE OR REPLACE FUNCTION wa_grant_organizer (role regrole, user_id uuid DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF role IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'role must not be null';
    END IF;
    PERFORM @extschema@.wa_name_role((SELECT r.rolname::text FROM pg_roles AS r WHERE r.oid = role), 'organizer', user_id);
    EXECUTE format('GRANT USAGE ON SCHEMA @extschema@ TO %s', role);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON @extschema@.whatsapp_templates TO %s', role);
    EXECUTE format('GRANT SELECT ON @extschema@.whatsapp_queue, @extschema@.whatsapp_delivery_logs, @extschema@.whatsapp_messages, '
                   '@extschema@.whatsapp_analytics, @extschema@.whatsapp_errors, @extschema@.whatsapp_contacts, '
                   '@extschema@.whatsapp_holds, @extschema@.ai_tasks TO %s', role);
    EXECUTE format('GRANT INSERT (user_id, event_id, recipient_phone, template_name, template_variables, priority, '
                   'scheduled_for, language, expires_at) ON @extschema@.whatsapp_queue TO %s', role);
    EXECUTE format('GRANT INSERT (id, event_id, task_type, status, scheduled_for, template_name, recipient_filter, metadata), '
                   'UPDATE (event_id, task_type, status, scheduled_for, template_name, recipient_filter, metadata), DELETE '
                   'ON @extschema@.ai_tasks TO %s', role);
    EXECUTE format('GRANT SELECT (id, user_id, phone_number_id, business_account_id, status, rate_limit_tier, created_at, '
                   'messages_per_second, portfolio_id, default_language, updated_at) ON @extschema@.whatsapp_config TO %s', role);
    PERFORM @extschema@.wa_grant_calls(role);
END
$$;
COMMENT ON FUNCTION wa_grant_organizer (regrole, uuid) IS 'Lets a role act for organizers: its rows only. Parameters: role; user_id: the organizer of a role that logs in directly, or NULL for an API role that acts for request.jwt.claims ->> ''sub'' (PostgREST). For the owner of the extension.';

CREATE OR REPLACE FUNCTION wa_grant_webhook (role regrole) RETURNS void
LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF role IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'role must not be null';
    END IF;
    PERFORM @extschema@.wa_name_role((SELECT r.rolname::text FROM pg_roles AS r WHERE r.oid = role), 'webhook', NULL);
    EXECUTE format('GRANT USAGE ON SCHEMA @extschema@ TO %s', role);
    EXECUTE format('GRANT EXECUTE ON FUNCTION @extschema@.wa_webhook_receive(bytea, text) TO %s', role);
END
$$;
COMMENT ON FUNCTION wa_grant_webhook (regrole) IS 'Lets a role hand over Meta''s webhooks, and nothing else: the signature says whether they are believed. For the owner of the extension.';

CREATE OR REPLACE FUNCTION wa_grant_calls (role regrole) RETURNS void
LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    each regprocedure;
BEGIN
    FOR each IN
        SELECT p.oid FROM pg_proc AS p
        WHERE p.pronamespace = '@extschema@'::regnamespace
          AND p.proname IN ('wa_configure', 'wa_enqueue', 'wa_send', 'wa_cancel', 'wa_rate_ok', 'wa_rate_status',
                            'wa_eta', 'wa_pause', 'wa_resume', 'wa_set_policy', 'wa_retry', 'wa_wait', 'wa_explain',
                            'wa_error_rules', 'wa_held_copies', 'whatsapp_holds_on', 'whatsapp_hold_end', 'wa_is_operator', 'wa_my_organizers')
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %s', each, role);
    END LOOP;
END
$$;
COMMENT ON FUNCTION wa_grant_calls (regrole) IS 'Internal: the functions that operators and organizers share.';
