-- One organizer, one event in thirty days, 44 attendees on 15 orders: 12 VIP and 32 standard.
--
-- Of the 44, three have no phone, five have one that cannot be called (letters, no country code, a country code that
-- begins with 0, too short, too long), and two are the same person on two orders with the number typed differently.
-- That leaves 35 numbers to write to, 10 of them VIP.

INSERT INTO profiles (id, full_name, email) VALUES
    ('0a000000-0000-4000-8000-000000000001', 'Valentina Rojas', 'valentina@techsummit.example');

-- Ten in the morning in Bogotá, whatever the time zone of the session that loads this.
INSERT INTO ai_events (id, organizer_id, name, status, start_date, end_date, timezone, location) VALUES (
    '0e000000-0000-4000-8000-000000000001', '0a000000-0000-4000-8000-000000000001', 'Tech Summit', 'published',
    (date_trunc('day', now() AT TIME ZONE 'America/Bogota') + interval '30 days 10 hours') AT TIME ZONE 'America/Bogota',
    (date_trunc('day', now() AT TIME ZONE 'America/Bogota') + interval '30 days 18 hours') AT TIME ZONE 'America/Bogota',
    'America/Bogota', 'Ágora, Bogotá');

INSERT INTO orders (id, event_id, buyer_email)
SELECT format('0c000000-0000-4000-8000-%s', lpad(n::text, 12, '0'))::uuid,
       '0e000000-0000-4000-8000-000000000001',
       format('buyer%s@mail.example', n)
FROM generate_series(1, 15) AS n;

INSERT INTO attendees (order_id, attendee_info, ticket_type, qr_code_url)
SELECT format('0c000000-0000-4000-8000-%s', lpad(a.order_number::text, 12, '0'))::uuid,
       jsonb_strip_nulls(jsonb_build_object('name', a.name, 'phone', a.phone, 'company', a.company)),
       a.ticket_type,
       format('https://tickets.example/qr/%s', a.number)
FROM (VALUES
    ( 1,  1, 'VIP',      'Camila Torres',      '+57 321 123 4567',      'Andina Labs'),
    ( 2,  1, 'VIP',      'Andrés Gómez',       '+573001112233',         'Andina Labs'),
    ( 3,  1, 'VIP',      'John Doe',           '+1 201-555-0123',       NULL),
    ( 4,  2, 'VIP',      'María Hernández',    '+52 222 123 4567',      'Puebla Fintech'),
    ( 5,  2, 'VIP',      'João Almeida',       '+55 11 96123-4567',     'Sampa Cloud'),
    ( 6,  2, 'VIP',      'Lucía Fernández',    '+54 9 11 2345-6789',    NULL),
    ( 7,  3, 'VIP',      'Émilie Laurent',     '+33 6 12 34 56 78',     'Seine Data'),
    ( 8,  3, 'VIP',      'Jonas Weber',        '+49 1512 3456789',      'Spree Systems'),
    ( 9,  3, 'VIP',      'Giulia Conti',       '+39 312 345 6789',      NULL),
    (10,  4, 'VIP',      'Noor van Dijk',      '+31612345678',          NULL),
    (11,  4, 'VIP',      'Camila Torres',      '+57 (321) 123-4567',    'Andina Labs'),
    (12,  4, 'VIP',      'Pedro Silva',        NULL,                    'Lisbon Makers'),
    (13,  5, 'standard', 'Sofía Martínez',     '+573112223344',         NULL),
    (14,  5, 'standard', 'Mateo Castro',       '+57 312 223 3445',      NULL),
    (15,  5, 'standard', 'Isabella Vargas',    '+573132233446',         NULL),
    (16,  6, 'standard', 'Diego Salazar',      '+51 912 345 678',       NULL),
    (17,  6, 'standard', 'Carmen Ruiz',        '+34 612 34 56 78',      'Barna Design'),
    (18,  6, 'standard', 'Rui Costa',          '+351 912 345 678',      NULL),
    (19,  7, 'standard', 'Oliver Smith',       '+44 7400 123456',       NULL),
    (20,  7, 'standard', 'Aoife Murphy',       '+353 85 012 3456',      NULL),
    (21,  7, 'standard', 'Lotte Peeters',      '+32 450 00 12 34',      NULL),
    (22,  8, 'standard', 'Anna Keller',        '+41 78 123 45 67',      NULL),
    (23,  8, 'standard', 'Erik Lindqvist',     '+46 70 123 45 67',      NULL),
    (24,  8, 'standard', 'Ingrid Hansen',      '+47 40 61 23 45',       NULL),
    (25,  9, 'standard', 'Katarzyna Nowak',    '+48 512 345 678',       NULL),
    (26,  9, 'standard', 'Jan Novák',          '+420 601 123 456',      NULL),
    (27,  9, 'standard', 'Eleni Papadaki',     '+30 691 234 5678',      NULL),
    (28, 10, 'standard', 'Mehmet Yılmaz',      '+90 501 234 56 78',     NULL),
    (29, 10, 'standard', 'Noa Levi',           '+972 50-234-5678',      NULL),
    (30, 10, 'standard', 'Fatima Al Mansoori', '+971 50 123 4567',      NULL),
    (31, 11, 'standard', 'Thabo Nkosi',        '+27 71 123 4567',       NULL),
    (32, 11, 'standard', 'Chioma Okafor',      '+234 802 123 4567',     NULL),
    (33, 11, 'standard', 'Wanjiru Kamau',      '+254 712 123456',       NULL),
    (34, 12, 'standard', 'Priya Sharma',       '+91 81234 56789',       'Pune Analytics'),
    (35, 12, 'standard', 'Mei Ling Tan',       '+65 8123 4567',         NULL),
    (36, 12, 'standard', 'Haruka Sato',        '+81 90-1234-5678',      NULL),
    (37, 13, 'standard', 'Jack Wilson',        '+61 412 345 678',       NULL),
    (38, 13, 'standard', 'Tomás Herrera',      '0321 765 4321',         NULL),
    (39, 13, 'standard', 'Sam Taylor',         '+0987654321',           NULL),
    (40, 14, 'standard', 'Paula Jiménez',      'call me by e-mail',     NULL),
    (41, 14, 'standard', 'Luis Ortega',        '+57 32',                NULL),
    (42, 14, 'standard', 'Nina Petrova',       '+57 321 123 4567 8901 2', NULL),
    (43, 15, 'standard', 'Hugo Morales',       NULL,                    NULL),
    (44, 15, 'standard', 'Elena Ríos',         '',                      NULL)
) AS a (number, order_number, ticket_type, name, phone, company);
