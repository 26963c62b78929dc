-- The tables that the founding document of this project told people to make by hand, before there was an extension.
-- The extension keeps their names, columns, types, defaults and checks; a test compares the two, and another sees
-- what CREATE EXTENSION says to somebody who has these.

CREATE TABLE whatsapp_config (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL,
    phone_number_id text NOT NULL,
    business_account_id text NOT NULL,
    access_token_encrypted text NOT NULL,
    webhook_verify_token text NOT NULL,
    status text DEFAULT 'active',
    rate_limit_tier text DEFAULT 'tier_1000',
    created_at timestamp with time zone DEFAULT now(),
    UNIQUE (user_id)
);

CREATE TABLE whatsapp_templates (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL,
    template_name text NOT NULL,
    language text DEFAULT 'en',
    category text NOT NULL CHECK (category IN ('MARKETING', 'UTILITY', 'AUTHENTICATION')),
    status text DEFAULT 'pending' CHECK (status IN ('pending', 'approved', 'rejected')),
    template_body text NOT NULL,
    variables jsonb DEFAULT '[]',
    meta_template_id text,
    created_at timestamp with time zone DEFAULT now(),
    UNIQUE (user_id, template_name, language)
);

CREATE TABLE whatsapp_queue (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL,
    event_id uuid,
    recipient_phone text NOT NULL,
    template_name text NOT NULL,
    template_variables jsonb DEFAULT '{}',
    priority integer DEFAULT 5 CHECK (priority >= 1 AND priority <= 10),
    scheduled_for timestamp with time zone DEFAULT now(),
    status text DEFAULT 'queued' CHECK (status IN ('queued', 'sending', 'sent', 'failed')),
    retry_count integer DEFAULT 0,
    error_message text,
    sent_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT now()
);

CREATE TABLE ai_tasks (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    event_id uuid NOT NULL,
    task_type text NOT NULL CHECK (task_type IN ('send_reminder', 'send_update', 'check_in_prep')),
    status text DEFAULT 'pending',
    scheduled_for timestamp with time zone NOT NULL,
    template_name text NOT NULL,
    recipient_filter jsonb,
    metadata jsonb DEFAULT '{}',
    created_at timestamp with time zone DEFAULT now()
);

CREATE TABLE whatsapp_delivery_logs (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    queue_id uuid REFERENCES whatsapp_queue (id) ON DELETE CASCADE,
    status text NOT NULL,
    timestamp timestamp with time zone DEFAULT now(),
    meta_message_id text,
    error_code text,
    error_message text
);

CREATE VIEW whatsapp_analytics AS
SELECT date(sent_at) AS date,
       user_id,
       count(*) AS total_sent,
       count(*) FILTER (WHERE status = 'sent') AS successful,
       count(*) FILTER (WHERE status = 'failed') AS failed,
       avg(extract(epoch FROM (sent_at - created_at))) AS avg_queue_time_seconds
FROM whatsapp_queue
WHERE sent_at IS NOT NULL
GROUP BY date(sent_at), user_id;
