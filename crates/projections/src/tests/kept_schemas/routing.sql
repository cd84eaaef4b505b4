-- As the program made this file at c61d613.
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
CREATE TABLE relays (
    id             TEXT PRIMARY KEY,
    profile        TEXT NOT NULL,
    defined_ms     INTEGER NOT NULL,
    suspended      TEXT,
    breaker        TEXT NOT NULL,
    breaker_reason TEXT,
    breaker_ms     INTEGER,
    breaker_until_ms INTEGER,
    unattended     TEXT
) STRICT, WITHOUT ROWID;
CREATE TABLE policies (
    tenant     TEXT NOT NULL,
    channel    TEXT NOT NULL,
    version    INTEGER NOT NULL,
    objective  TEXT NOT NULL,
    failover   TEXT NOT NULL,
    defined_ms INTEGER NOT NULL,
    actor      TEXT NOT NULL,
    PRIMARY KEY (tenant, channel, version)
) STRICT, WITHOUT ROWID;
CREATE TABLE advice (
    tenant     TEXT NOT NULL,
    channel    TEXT NOT NULL,
    version    INTEGER NOT NULL,
    advice     INTEGER NOT NULL,
    weights    TEXT NOT NULL,
    relay_order TEXT NOT NULL,
    reasons    TEXT NOT NULL,
    advised_ms INTEGER NOT NULL,
    PRIMARY KEY (tenant, channel, advice)
) STRICT, WITHOUT ROWID;
CREATE TABLE splits (
    key        TEXT PRIMARY KEY,
    channel    TEXT NOT NULL,
    version    INTEGER NOT NULL,
    objective  TEXT NOT NULL,
    messages   INTEGER NOT NULL,
    carry      TEXT NOT NULL,
    left_out   TEXT NOT NULL,
    updated_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE split_relays (
    key    TEXT NOT NULL,
    relay  TEXT NOT NULL,
    weight INTEGER NOT NULL,
    routed INTEGER NOT NULL,
    PRIMARY KEY (key, relay)
) STRICT, WITHOUT ROWID;
