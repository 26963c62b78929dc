-- The example host application: an event platform with organizers, events, ticket orders and attendees. Its tables
-- belong to the application; whatsapp_pg reads them when they are there. Plain tables, no schema named: they land
-- where search_path says.

CREATE TABLE profiles (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    full_name text NOT NULL,
    email text NOT NULL UNIQUE,
    created_at timestamp with time zone NOT NULL DEFAULT now()
);

CREATE TABLE ai_events (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organizer_id uuid NOT NULL REFERENCES profiles (id) ON DELETE CASCADE,
    name text NOT NULL,
    status text NOT NULL DEFAULT 'draft' CHECK (status IN ('draft', 'published', 'cancelled', 'completed')),
    start_date timestamp with time zone NOT NULL,
    end_date timestamp with time zone,
    timezone text NOT NULL DEFAULT 'UTC',
    location text,
    qr_code_url text,
    created_at timestamp with time zone NOT NULL DEFAULT now()
);

CREATE TABLE orders (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    event_id uuid NOT NULL REFERENCES ai_events (id) ON DELETE CASCADE,
    buyer_email text NOT NULL,
    status text NOT NULL DEFAULT 'paid' CHECK (status IN ('pending', 'paid', 'refunded')),
    created_at timestamp with time zone NOT NULL DEFAULT now()
);
CREATE INDEX orders_event ON orders (event_id);

-- What the ticket form asked for lies in attendee_info, as the form sent it: phones are what people typed.
CREATE TABLE attendees (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    order_id uuid NOT NULL REFERENCES orders (id) ON DELETE CASCADE,
    attendee_info jsonb NOT NULL,
    ticket_type text NOT NULL DEFAULT 'standard',
    qr_code_url text,
    checked_in_at timestamp with time zone,
    created_at timestamp with time zone NOT NULL DEFAULT now()
);
CREATE INDEX attendees_order ON attendees (order_id);

CREATE TABLE rate_limits (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES profiles (id) ON DELETE CASCADE,
    service text NOT NULL,
    endpoint text NOT NULL,
    count integer NOT NULL DEFAULT 1,
    window_start timestamp with time zone NOT NULL DEFAULT now()
);
CREATE INDEX rate_limits_window ON rate_limits (user_id, service, endpoint, window_start);
