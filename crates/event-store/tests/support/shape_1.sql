CREATE TABLE streams (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;
CREATE TABLE words (
    id   INTEGER PRIMARY KEY,
    word TEXT NOT NULL UNIQUE
) STRICT;
CREATE TABLE events (
    position       INTEGER PRIMARY KEY,
    stream         INTEGER NOT NULL REFERENCES streams (id),
    version        INTEGER NOT NULL,
    id             BLOB NOT NULL,
    kind           INTEGER NOT NULL REFERENCES words (id),
    schema_version INTEGER NOT NULL,
    time           INTEGER NOT NULL,
    tenant         INTEGER REFERENCES words (id),
    actor          INTEGER NOT NULL REFERENCES words (id),
    correlation    BLOB NOT NULL,
    causation      BLOB,
    data           BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX events_by_stream ON events (stream, version);
CREATE UNIQUE INDEX events_by_id ON events (id);
CREATE INDEX events_by_correlation ON events (correlation);
CREATE VIEW log AS
SELECT e.position, s.name AS stream, e.version, k.word AS kind, e.schema_version,
       strftime('%Y-%m-%dT%H:%M:%fZ', e.time / 1000.0, 'unixepoch') AS time,
       t.word AS tenant, a.word AS actor, lower(hex(e.id)) AS id, lower(hex(e.correlation)) AS correlation,
       lower(hex(e.causation)) AS causation, CAST(e.data AS TEXT) AS data
FROM events e JOIN streams s ON s.id = e.stream JOIN words k ON k.id = e.kind JOIN words a ON a.id = e.actor
LEFT JOIN words t ON t.id = e.tenant;
