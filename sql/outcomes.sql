-- Deciding about single messages, waiting for them, and hearing from Meta what became of them.

CREATE OR REPLACE FUNCTION wa_retry (id uuid, variables jsonb DEFAULT NULL, force boolean DEFAULT false)
RETURNS SETOF whatsapp_queue
LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wa_retry_wrapper';
COMMENT ON FUNCTION wa_retry (uuid, jsonb, boolean) IS
'Queues a message again that failed, was cancelled or waits for a retry; it leaves when the transaction has committed. Parameters: id: message; variables: values that replace or complete its own, checked against the template; force: needed for a message of unknown outcome, which Meta may have delivered already. An expiry that has passed is lifted. Answers the row. Errors: 42704 no such message, 55000 it was accepted, is being sent, or is unknown and force is false, 22023 variables do not fit, 42501.';

CREATE OR REPLACE FUNCTION wa_wait (id uuid, timeout interval DEFAULT '30 seconds') RETURNS text
LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wa_wait_wrapper';
COMMENT ON FUNCTION wa_wait (uuid, interval) IS
'Waits until a message is sent, failed or cancelled, and answers its status; after the timeout the status it has then. The calling statement keeps its snapshot meanwhile, so wait seconds, not hours. Errors: 42704 no such message, 55000 it was queued in this very transaction, or the transaction is REPEATABLE READ or SERIALIZABLE and would never see a change, 22023 negative timeout, 42501.';

CREATE OR REPLACE FUNCTION wa_webhook_receive (body bytea, signature text) RETURNS integer
LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wa_webhook_receive_wrapper';
COMMENT ON FUNCTION wa_webhook_receive (bytea, text) IS
'Takes what Meta posts to the webhook address: the raw bytes of the body and the header X-Hub-Signature-256. Answers the HTTP status to answer Meta with, once the transaction has committed: 200, or 401 when no account''s app secret made the signature; then nothing is stored. Statuses are written to whatsapp_delivery_logs, resolve messages of unknown outcome, and turn asynchronous failures into failed messages with the reason. Repetitions change nothing. Errors: 22004.';
