-- Triggers on our own tables. They exist before the data when a dump is restored, so they look only at NEW, refuse
-- nothing that once was valid, and count nothing.

CREATE OR REPLACE FUNCTION whatsapp_wake () RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'whatsapp_wake_wrapper';
COMMENT ON FUNCTION whatsapp_wake () IS 'Trigger: the worker looks at the queue when the transaction has committed.';

CREATE OR REPLACE TRIGGER whatsapp_wake AFTER INSERT OR UPDATE ON whatsapp_queue
    FOR EACH STATEMENT EXECUTE FUNCTION whatsapp_wake ();

CREATE OR REPLACE FUNCTION whatsapp_accounts_changed () RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'whatsapp_accounts_changed_wrapper';
COMMENT ON FUNCTION whatsapp_accounts_changed () IS 'Trigger: the worker reads accounts and templates anew when the transaction has committed.';

CREATE OR REPLACE TRIGGER whatsapp_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON whatsapp_config
    FOR EACH STATEMENT EXECUTE FUNCTION whatsapp_accounts_changed ();
CREATE OR REPLACE TRIGGER whatsapp_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON whatsapp_templates
    FOR EACH STATEMENT EXECUTE FUNCTION whatsapp_accounts_changed ();

CREATE OR REPLACE TRIGGER whatsapp_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON whatsapp_holds
    FOR EACH STATEMENT EXECUTE FUNCTION whatsapp_accounts_changed ();

CREATE OR REPLACE FUNCTION whatsapp_config_protect () RETURNS trigger
LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'whatsapp_config_protect_wrapper';
COMMENT ON FUNCTION whatsapp_config_protect () IS 'Trigger: encrypts plain secrets and stamps a new account with this database.';

CREATE OR REPLACE FUNCTION whatsapp_config_defaults () RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    NEW.status := coalesce(NEW.status, 'active');
    NEW.rate_limit_tier := coalesce(NEW.rate_limit_tier, 'tier_1000');
    NEW.messages_per_second := coalesce(NEW.messages_per_second, 80);
    NEW.created_at := coalesce(NEW.created_at, now());
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION whatsapp_config_defaults () IS 'Trigger: a NULL means the default.';

CREATE OR REPLACE FUNCTION whatsapp_queue_defaults () RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    NEW.status := coalesce(NEW.status, 'queued');
    NEW.priority := coalesce(NEW.priority, 5);
    NEW.scheduled_for := coalesce(NEW.scheduled_for, now());
    NEW.template_variables := coalesce(NEW.template_variables, '{}');
    NEW.retry_count := coalesce(NEW.retry_count, 0);
    NEW.created_at := coalesce(NEW.created_at, now());
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION whatsapp_queue_defaults () IS 'Trigger: a NULL means the default.';

CREATE OR REPLACE FUNCTION whatsapp_templates_defaults () RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    NEW.language := coalesce(NEW.language, 'en');
    NEW.status := coalesce(NEW.status, 'pending');
    NEW.variables := coalesce(NEW.variables, '[]');
    NEW.created_at := coalesce(NEW.created_at, now());
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION whatsapp_templates_defaults () IS 'Trigger: a NULL means the default.';

CREATE OR REPLACE FUNCTION ai_tasks_defaults () RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    NEW.status := coalesce(NEW.status, 'pending');
    NEW.metadata := coalesce(NEW.metadata, '{}');
    NEW.created_at := coalesce(NEW.created_at, now());
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION ai_tasks_defaults () IS 'Trigger: a NULL means the default.';

-- The seed lets these be NULL; a row in no state would be lost. WHEN keeps the function away from ordinary rows.
CREATE OR REPLACE TRIGGER whatsapp_a_defaults BEFORE INSERT OR UPDATE ON whatsapp_config FOR EACH ROW
    WHEN (NEW.status IS NULL OR NEW.rate_limit_tier IS NULL OR NEW.messages_per_second IS NULL OR NEW.created_at IS NULL)
    EXECUTE FUNCTION whatsapp_config_defaults ();
CREATE OR REPLACE TRIGGER whatsapp_a_defaults BEFORE INSERT OR UPDATE ON whatsapp_templates FOR EACH ROW
    WHEN (NEW.language IS NULL OR NEW.status IS NULL OR NEW.variables IS NULL OR NEW.created_at IS NULL)
    EXECUTE FUNCTION whatsapp_templates_defaults ();
CREATE OR REPLACE TRIGGER whatsapp_a_defaults BEFORE INSERT OR UPDATE ON whatsapp_queue FOR EACH ROW
    WHEN (NEW.status IS NULL OR NEW.priority IS NULL OR NEW.scheduled_for IS NULL OR NEW.template_variables IS NULL
          OR NEW.retry_count IS NULL OR NEW.created_at IS NULL)
    EXECUTE FUNCTION whatsapp_queue_defaults ();
CREATE OR REPLACE TRIGGER whatsapp_a_defaults BEFORE INSERT OR UPDATE ON ai_tasks FOR EACH ROW
    WHEN (NEW.status IS NULL OR NEW.metadata IS NULL OR NEW.created_at IS NULL)
    EXECUTE FUNCTION ai_tasks_defaults ();

CREATE OR REPLACE TRIGGER whatsapp_protect BEFORE INSERT OR UPDATE ON whatsapp_config
    FOR EACH ROW EXECUTE FUNCTION whatsapp_config_protect ();

CREATE OR REPLACE FUNCTION whatsapp_task_owner () RETURNS trigger
LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'whatsapp_task_owner_wrapper';
COMMENT ON FUNCTION whatsapp_task_owner () IS 'Trigger: a task belongs to its event''s organizer.';

CREATE OR REPLACE FUNCTION whatsapp_task_fan_out () RETURNS trigger
LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'whatsapp_task_fan_out_wrapper';
COMMENT ON FUNCTION whatsapp_task_fan_out () IS 'Trigger: queues one message per attendee of the task''s event.';

CREATE OR REPLACE TRIGGER whatsapp_task_owner BEFORE INSERT OR UPDATE OF event_id ON ai_tasks
    FOR EACH ROW EXECUTE FUNCTION whatsapp_task_owner ();
-- A restored row has its executed_at and is not fanned out again.
CREATE OR REPLACE TRIGGER whatsapp_task_inserted AFTER INSERT ON ai_tasks FOR EACH ROW
    WHEN (NEW.status = 'executing' AND NEW.executed_at IS NULL)
    EXECUTE FUNCTION whatsapp_task_fan_out ();
CREATE OR REPLACE TRIGGER whatsapp_task_executing AFTER UPDATE OF status ON ai_tasks FOR EACH ROW
    WHEN (NEW.status = 'executing' AND OLD.status = 'pending')
    EXECUTE FUNCTION whatsapp_task_fan_out ();
