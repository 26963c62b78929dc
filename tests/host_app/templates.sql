-- The three templates of the example organizer, as if Meta had approved them. Meta refuses a body that begins or ends
-- with a variable, so two of them close with a sentence.

INSERT INTO whatsapp_templates (user_id, template_name, language, category, status, template_body, variables) VALUES
    ('0a000000-0000-4000-8000-000000000001', 'event_reminder_24h', 'en', 'UTILITY', 'approved',
     'Hi {{1}}! Your event ''{{2}}'' starts tomorrow at {{3}}. See you there! 🎉',
     '["attendee_name", "event_name", "event_time"]'),
    ('0a000000-0000-4000-8000-000000000001', 'check_in_instructions', 'en', 'UTILITY', 'approved',
     'Welcome to {{1}}! Show this QR code at check-in: {{2}} We look forward to seeing you.',
     '["event_name", "qr_code_url"]'),
    ('0a000000-0000-4000-8000-000000000001', 'event_update', 'en', 'UTILITY', 'approved',
     'Update for {{1}}: {{2}} We will keep you posted.',
     '["event_name", "update_message"]');
