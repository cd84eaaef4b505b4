-- The log. Positions are given out by `append`, under the row lock of `head`, so they have no gaps and become visible in their
-- order. Nothing else writes: whoever appends may call the function and read, and that is all.

CREATE TABLE kite_log.head (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    -- The position of the newest event.
    position bigint NOT NULL,
    -- Which log this is, so that nobody goes on with another one.
    log_id   uuid NOT NULL DEFAULT gen_random_uuid()
) WITH (fillfactor = 10);
INSERT INTO kite_log.head (position) VALUES (0);

CREATE TABLE kite_log.streams (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name    text COLLATE "C" NOT NULL UNIQUE,
    -- How many events it holds.
    version bigint NOT NULL
) WITH (fillfactor = 80);

CREATE TABLE kite_log.events (
    position       bigint PRIMARY KEY,
    stream         bigint NOT NULL,
    version        bigint NOT NULL,
    id             uuid NOT NULL,
    kind           text COLLATE "C" NOT NULL,
    schema_version integer NOT NULL,
    -- Milliseconds since 1970.
    time           bigint NOT NULL,
    tenant         text COLLATE "C",
    actor          text COLLATE "C" NOT NULL,
    correlation    uuid NOT NULL,
    causation      uuid,
    -- JSON text.
    data           bytea NOT NULL,
    -- The trace's id, the span's id, the flags.
    trace          bytea CHECK (octet_length(trace) = 25),
    UNIQUE (stream, version),
    UNIQUE (stream, id)
);
CREATE INDEX events_by_correlation ON kite_log.events (correlation, position);

-- For people.
CREATE VIEW kite_log.log AS
SELECT events.position, streams.name AS stream, events.version, events.id, events.kind, events.schema_version,
       to_timestamp(events.time / 1000.0) AS time, events.tenant, events.actor, events.correlation, events.causation,
       convert_from(events.data, 'UTF8') AS data,
       '00-' || encode(substr(events.trace, 1, 16), 'hex') || '-' || encode(substr(events.trace, 17, 8), 'hex') || '-'
             || encode(substr(events.trace, 25), 'hex') AS traceparent
FROM kite_log.events JOIN kite_log.streams ON streams.id = events.stream;
