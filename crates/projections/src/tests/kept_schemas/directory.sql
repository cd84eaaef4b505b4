-- As the program made this file at first.
CREATE TABLE checkpoint (
    id       INTEGER PRIMARY KEY CHECK (id = 1),
    position INTEGER NOT NULL
) STRICT;
CREATE TABLE parked (
    position INTEGER PRIMARY KEY,
    stream   TEXT NOT NULL,
    version  INTEGER NOT NULL,
    kind     TEXT NOT NULL,
    time_ms  INTEGER NOT NULL,
    cause    TEXT NOT NULL,
    reason   TEXT NOT NULL
) STRICT;
CREATE INDEX parked_by_stream ON parked (stream);
CREATE TABLE in_force (
    stream   TEXT NOT NULL,
    subject  TEXT NOT NULL,
    version  INTEGER NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (stream, subject)
) STRICT, WITHOUT ROWID;
CREATE INDEX in_force_by_position ON in_force (position);
