-- What a run carries of the trace that asked for it (W3C traceparent). Beside the payload: written once, and read by
-- the same look.
ALTER TABLE payloads ADD COLUMN trace TEXT;
