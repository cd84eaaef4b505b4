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
CREATE TABLE words (
    id   INTEGER PRIMARY KEY,
    word TEXT NOT NULL UNIQUE
) STRICT;
CREATE TABLE sendings (
    id               BLOB PRIMARY KEY,
    tenant           TEXT,
    class            INTEGER,
    accepted_ms      INTEGER,
    scheduled_ms     INTEGER,
    released_ms      INTEGER,
    paused_ms        INTEGER,
    paused_by        INTEGER,
    pause_reason     TEXT,
    cancelled_ms     INTEGER,
    completed_ms     INTEGER,
    abandoned_ms     INTEGER,
    expires_ms       INTEGER,
    client_reference TEXT,
    refused_recipients INTEGER NOT NULL DEFAULT 0,
    messages INTEGER NOT NULL DEFAULT 0, open INTEGER NOT NULL DEFAULT 0, delivered INTEGER NOT NULL DEFAULT 0, undelivered INTEGER NOT NULL DEFAULT 0, expired INTEGER NOT NULL DEFAULT 0, cancelled INTEGER NOT NULL DEFAULT 0, refused INTEGER NOT NULL DEFAULT 0, routed INTEGER NOT NULL DEFAULT 0, handed_over INTEGER NOT NULL DEFAULT 0, delivered_twice INTEGER NOT NULL DEFAULT 0, planned INTEGER NOT NULL DEFAULT 0, first_routed INTEGER NOT NULL DEFAULT 0, attempts INTEGER NOT NULL DEFAULT 0, failovers INTEGER NOT NULL DEFAULT 0, attempts_handed_over INTEGER NOT NULL DEFAULT 0, attempts_accepted INTEGER NOT NULL DEFAULT 0, attempts_unknown INTEGER NOT NULL DEFAULT 0, attempts_refused INTEGER NOT NULL DEFAULT 0, attempts_delivered INTEGER NOT NULL DEFAULT 0, attempts_undelivered INTEGER NOT NULL DEFAULT 0, attempts_expired INTEGER NOT NULL DEFAULT 0, cost_milliwon INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE TABLE contents (
    sending    BLOB PRIMARY KEY,
    from_phone TEXT,
    from_email TEXT,
    subject    TEXT,
    text       TEXT NOT NULL,
    custom     TEXT
) STRICT, WITHOUT ROWID;
CREATE TABLE lots (
    first       INTEGER PRIMARY KEY,
    sending     BLOB NOT NULL,
    number      INTEGER NOT NULL,
    messages    INTEGER NOT NULL,
    tenant      INTEGER NOT NULL,
    class       INTEGER NOT NULL,
    accepted_ms INTEGER NOT NULL,
    is_sealed   INTEGER NOT NULL,
    from_phone  INTEGER NOT NULL,
    from_email  INTEGER NOT NULL,
    UNIQUE (sending, number)
) STRICT;
CREATE TABLE messages (
    id                 INTEGER PRIMARY KEY,
    recipient          TEXT NOT NULL,
    email              TEXT,
    contact            BLOB,
    reference          TEXT,
    message_type       INTEGER NOT NULL,
    parts              INTEGER NOT NULL,
    status             INTEGER NOT NULL,
    relay              INTEGER NOT NULL,
    channel            INTEGER NOT NULL,
    attempts_made      INTEGER NOT NULL,
    first_submitted_ms INTEGER,
    final_ms           INTEGER,
    held_until_ms      INTEGER,
    reason             INTEGER NOT NULL,
    failure_class      INTEGER,
    cost_milliwon      INTEGER NOT NULL,
    attempts           BLOB NOT NULL
) STRICT;
CREATE TABLE search (
    block   INTEGER NOT NULL,
    hash    INTEGER NOT NULL,
    message INTEGER NOT NULL,
    PRIMARY KEY (block, hash, message)
) STRICT, WITHOUT ROWID;
CREATE TABLE facets (
    tenant     INTEGER NOT NULL,
    block      INTEGER NOT NULL,
    status     INTEGER NOT NULL,
    class      INTEGER NOT NULL,
    from_phone INTEGER NOT NULL,
    from_email INTEGER NOT NULL,
    channel    INTEGER NOT NULL,
    relay      INTEGER NOT NULL,
    reason     INTEGER NOT NULL,
    counts     BLOB NOT NULL,
    PRIMARY KEY (tenant, block, status, class, from_phone, from_email, channel, relay, reason)
) STRICT, WITHOUT ROWID;
CREATE TABLE facet_times (
    block    INTEGER PRIMARY KEY,
    first_ms INTEGER NOT NULL,
    last_ms  INTEGER NOT NULL
) STRICT;
CREATE TABLE statistics (
    tenant          INTEGER NOT NULL,
    hour            INTEGER NOT NULL,
    relay           INTEGER NOT NULL,
    channel         INTEGER NOT NULL,
    message_type    INTEGER NOT NULL,
    class           INTEGER NOT NULL,
    messages INTEGER NOT NULL DEFAULT 0, open INTEGER NOT NULL DEFAULT 0, delivered INTEGER NOT NULL DEFAULT 0, undelivered INTEGER NOT NULL DEFAULT 0, expired INTEGER NOT NULL DEFAULT 0, cancelled INTEGER NOT NULL DEFAULT 0, refused INTEGER NOT NULL DEFAULT 0, routed INTEGER NOT NULL DEFAULT 0, handed_over INTEGER NOT NULL DEFAULT 0, delivered_twice INTEGER NOT NULL DEFAULT 0, planned INTEGER NOT NULL DEFAULT 0, first_routed INTEGER NOT NULL DEFAULT 0, attempts INTEGER NOT NULL DEFAULT 0, failovers INTEGER NOT NULL DEFAULT 0, attempts_handed_over INTEGER NOT NULL DEFAULT 0, attempts_accepted INTEGER NOT NULL DEFAULT 0, attempts_unknown INTEGER NOT NULL DEFAULT 0, attempts_refused INTEGER NOT NULL DEFAULT 0, attempts_delivered INTEGER NOT NULL DEFAULT 0, attempts_undelivered INTEGER NOT NULL DEFAULT 0, attempts_expired INTEGER NOT NULL DEFAULT 0, cost_milliwon INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, hour, relay, channel, message_type, class)
) STRICT, WITHOUT ROWID;
CREATE TABLE totals (
    relay   INTEGER NOT NULL,
    channel INTEGER NOT NULL,
    class   INTEGER NOT NULL,
    messages INTEGER NOT NULL DEFAULT 0, open INTEGER NOT NULL DEFAULT 0, delivered INTEGER NOT NULL DEFAULT 0, undelivered INTEGER NOT NULL DEFAULT 0, expired INTEGER NOT NULL DEFAULT 0, cancelled INTEGER NOT NULL DEFAULT 0, refused INTEGER NOT NULL DEFAULT 0, routed INTEGER NOT NULL DEFAULT 0, handed_over INTEGER NOT NULL DEFAULT 0, delivered_twice INTEGER NOT NULL DEFAULT 0, planned INTEGER NOT NULL DEFAULT 0, first_routed INTEGER NOT NULL DEFAULT 0, attempts INTEGER NOT NULL DEFAULT 0, failovers INTEGER NOT NULL DEFAULT 0, attempts_handed_over INTEGER NOT NULL DEFAULT 0, attempts_accepted INTEGER NOT NULL DEFAULT 0, attempts_unknown INTEGER NOT NULL DEFAULT 0, attempts_refused INTEGER NOT NULL DEFAULT 0, attempts_delivered INTEGER NOT NULL DEFAULT 0, attempts_undelivered INTEGER NOT NULL DEFAULT 0, attempts_expired INTEGER NOT NULL DEFAULT 0, cost_milliwon INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (relay, channel, class)
) STRICT, WITHOUT ROWID;
CREATE TABLE statistic_failures (
    tenant       INTEGER NOT NULL,
    hour         INTEGER NOT NULL,
    relay        INTEGER NOT NULL,
    channel      INTEGER NOT NULL,
    message_type INTEGER NOT NULL,
    class        INTEGER NOT NULL,
    failure      INTEGER NOT NULL,
    count        INTEGER NOT NULL,
    PRIMARY KEY (tenant, hour, relay, channel, message_type, class, failure)
) STRICT, WITHOUT ROWID;
CREATE TABLE statistic_times (
    tenant       INTEGER NOT NULL,
    hour         INTEGER NOT NULL,
    relay        INTEGER NOT NULL,
    channel      INTEGER NOT NULL,
    message_type INTEGER NOT NULL,
    class        INTEGER NOT NULL,
    metric       INTEGER NOT NULL,
    bucket       INTEGER NOT NULL,
    count        INTEGER NOT NULL,
    PRIMARY KEY (tenant, hour, relay, channel, message_type, class, metric, bucket)
) STRICT, WITHOUT ROWID;
CREATE TABLE relay_minutes (
    channel     INTEGER NOT NULL,
    minute      INTEGER NOT NULL,
    relay       INTEGER NOT NULL,
    handed_over INTEGER NOT NULL,
    accepted    INTEGER NOT NULL,
    unknown     INTEGER NOT NULL,
    refused     INTEGER NOT NULL,
    undelivered INTEGER NOT NULL,
    delivered   INTEGER NOT NULL,
    expired     INTEGER NOT NULL,
    PRIMARY KEY (channel, minute, relay)
) STRICT, WITHOUT ROWID;
CREATE TABLE relay_minute_failures (
    channel     INTEGER NOT NULL,
    minute      INTEGER NOT NULL,
    relay       INTEGER NOT NULL,
    failure     INTEGER NOT NULL,
    refused     INTEGER NOT NULL,
    undelivered INTEGER NOT NULL,
    PRIMARY KEY (channel, minute, relay, failure)
) STRICT, WITHOUT ROWID;
CREATE TABLE relay_minute_times (
    channel INTEGER NOT NULL,
    minute  INTEGER NOT NULL,
    relay   INTEGER NOT NULL,
    metric  INTEGER NOT NULL,
    bucket  INTEGER NOT NULL,
    count   INTEGER NOT NULL,
    PRIMARY KEY (channel, minute, relay, metric, bucket)
) STRICT, WITHOUT ROWID;
CREATE INDEX sendings_by_tenant ON sendings (tenant, id) WHERE accepted_ms IS NOT NULL;
CREATE INDEX sendings_paused ON sendings (id) WHERE paused_ms IS NOT NULL;
CREATE INDEX sendings_scheduled ON sendings (id) WHERE scheduled_ms IS NOT NULL;
CREATE INDEX sendings_by_reference ON sendings (tenant, client_reference, id) WHERE client_reference IS NOT NULL;
