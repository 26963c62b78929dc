-- The host application's tables: found, remembered by oid, and tied to ours by foreign keys. They stay the
-- application's; nothing here is dumped, so a restored database is linked again with one call.

CREATE OR REPLACE FUNCTION wa_link_host (host_schema text DEFAULT NULL)
RETURNS TABLE (object text, linked boolean, note text)
LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wanted CONSTANT jsonb := '{
        "profiles": ["id"],
        "ai_events": ["id", "organizer_id", "name", "start_date"],
        "orders": ["id", "event_id"],
        "attendees": ["order_id", "attendee_info"],
        "rate_limits": ["user_id", "service", "endpoint", "count", "window_start"]}';
    found jsonb := '{}';
    each record;
    relation oid;
    missing text;
    tie record;
BEGIN
    FOR each IN SELECT w.key AS name, w.value AS columns FROM jsonb_each(wanted) AS w LOOP
        SELECT c.oid INTO relation
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.relname = each.name AND c.relkind IN ('r', 'p')
          AND CASE WHEN host_schema IS NOT NULL THEN n.nspname = host_schema
                   ELSE n.nspname NOT LIKE 'pg\_%' AND n.nspname <> 'information_schema' END
        ORDER BY n.oid = '@extschema@'::regnamespace DESC, n.nspname = 'public' DESC, n.nspname
        LIMIT 1;
        object := each.name;
        IF relation IS NULL THEN
            linked := false;
            note := 'there is no such table' || coalesce(' in schema ' || quote_ident(host_schema), '');
            RETURN NEXT;
            CONTINUE;
        END IF;
        SELECT string_agg(k.name, ', ') INTO missing
        FROM jsonb_array_elements_text(each.columns) AS k (name)
        WHERE NOT EXISTS (SELECT FROM pg_attribute AS a
                          WHERE a.attrelid = relation AND a.attname = k.name AND NOT a.attisdropped);
        object := relation::regclass::text;
        linked := missing IS NULL;
        note := 'it has no column ' || missing;
        IF linked THEN
            found := found || jsonb_build_object(each.name, relation::bigint);
        END IF;
        RETURN NEXT;
    END LOOP;

    DELETE FROM @extschema@.whatsapp_host;
    INSERT INTO @extschema@.whatsapp_host (profiles, ai_events, orders, attendees, rate_limits)
    VALUES ((found ->> 'profiles')::oid, (found ->> 'ai_events')::oid, (found ->> 'orders')::oid,
            (found ->> 'attendees')::oid, (found ->> 'rate_limits')::oid);

    -- The seed's foreign keys. What is already there and does not fit is said, not deleted.
    FOR tie IN
        SELECT t.ours, t.our_column, t.theirs, (found ->> t.theirs)::oid AS relation,
               t.ours || '_' || t.our_column || '_fkey' AS name
        FROM (VALUES ('whatsapp_config', 'user_id', 'profiles'), ('whatsapp_templates', 'user_id', 'profiles'),
                     ('whatsapp_queue', 'user_id', 'profiles'), ('whatsapp_queue', 'event_id', 'ai_events'),
                     ('ai_tasks', 'event_id', 'ai_events')) AS t (ours, our_column, theirs)
        WHERE found ? t.theirs
    LOOP
        object := tie.ours || '.' || tie.our_column || ' → ' || tie.relation::regclass;
        linked := true;
        note := 'foreign key, ON DELETE CASCADE';
        IF EXISTS (SELECT FROM pg_constraint AS c
                   WHERE c.conrelid = ('@extschema@.' || tie.ours)::regclass AND c.conname = tie.name
                     AND c.confrelid = tie.relation) THEN
            note := note || ', already there';
        ELSE
            BEGIN
                EXECUTE format('ALTER TABLE @extschema@.%I DROP CONSTRAINT IF EXISTS %I', tie.ours, tie.name);
                EXECUTE format('ALTER TABLE @extschema@.%I ADD CONSTRAINT %I FOREIGN KEY (%I) REFERENCES %s (id) ON DELETE CASCADE',
                               tie.ours, tie.name, tie.our_column, tie.relation::regclass);
            EXCEPTION WHEN foreign_key_violation OR invalid_foreign_key OR datatype_mismatch OR insufficient_privilege
                      OR undefined_column THEN
                linked := false;
                note := SQLERRM;
            END;
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;
COMMENT ON FUNCTION wa_link_host (text) IS
'Binds the extension to the application''s tables profiles, ai_events, orders, attendees, rate_limits: remembers where they are and adds the foreign keys. Repeatable; run it after the tables were made or restored. Parameter: host_schema: where they are; NULL: the extension''s schema, then public, then any other. Answers what was linked, and what not and why. For the owner of the extension.';
