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
CREATE TABLE open_sendings (
    id            BLOB PRIMARY KEY,
    tenant        TEXT NOT NULL,
    class         INTEGER NOT NULL,
    accepted_ms   INTEGER NOT NULL,
    scheduled_ms  INTEGER,
    expires_ms    INTEGER NOT NULL,
    released      INTEGER NOT NULL,
    paused        INTEGER NOT NULL,
    cancelled     INTEGER NOT NULL,
    lots          INTEGER NOT NULL,
    lots_routed   INTEGER NOT NULL,
    open_messages INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE open_lots (
    sending      BLOB NOT NULL,
    number       INTEGER NOT NULL,
    version      INTEGER NOT NULL,
    tenant       TEXT NOT NULL,
    class        INTEGER NOT NULL,
    open         INTEGER NOT NULL,
    has_unrouted INTEGER NOT NULL,
    has_pending  INTEGER NOT NULL,
    next_due_ms  INTEGER,
    next_end_ms  INTEGER NOT NULL,
    PRIMARY KEY (sending, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE loads (
    tenant   TEXT NOT NULL,
    kind     INTEGER NOT NULL,
    messages INTEGER NOT NULL,
    PRIMARY KEY (tenant, kind)
) STRICT, WITHOUT ROWID;
CREATE INDEX open_lots_by_due ON open_lots (next_due_ms) WHERE next_due_ms IS NOT NULL;
CREATE TABLE unsealed_lots (
    sending     BLOB NOT NULL,
    number      INTEGER NOT NULL,
    version     INTEGER NOT NULL,
    tenant      TEXT NOT NULL,
    class       INTEGER NOT NULL,
    messages    INTEGER NOT NULL,
    accepted_ms INTEGER NOT NULL,
    PRIMARY KEY (sending, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE parked_receipts (
    relay     TEXT NOT NULL,
    reference TEXT NOT NULL,
    status    TEXT NOT NULL,
    code      TEXT NOT NULL,
    relay_reference TEXT,
    at_ms     INTEGER NOT NULL,
    parked_ms INTEGER NOT NULL,
    PRIMARY KEY (relay, reference, status)
) STRICT, WITHOUT ROWID;
CREATE TABLE not_understood (
    relay     TEXT NOT NULL,
    position  INTEGER NOT NULL,
    kept_ms   INTEGER NOT NULL,
    how       TEXT NOT NULL,
    reason    TEXT NOT NULL,
    place     INTEGER,
    field     TEXT,
    raw       TEXT NOT NULL,
    raw_bytes INTEGER NOT NULL,
    PRIMARY KEY (relay, position)
) STRICT, WITHOUT ROWID;
CREATE TABLE not_understood_counts (
    relay     TEXT PRIMARY KEY,
    kept      INTEGER NOT NULL,
    newest_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE unclassified_codes (
    relay     TEXT NOT NULL,
    code      TEXT NOT NULL,
    times     INTEGER NOT NULL,
    newest_ms INTEGER NOT NULL,
    PRIMARY KEY (relay, code)
) STRICT, WITHOUT ROWID;
CREATE INDEX open_sendings_by_class ON open_sendings (class, id);
CREATE INDEX open_sendings_finished ON open_sendings (id) WHERE open_messages = 0;
CREATE INDEX open_sendings_cancelled ON open_sendings (id) WHERE cancelled = 1;
CREATE INDEX open_sendings_by_schedule ON open_sendings (scheduled_ms)
             WHERE scheduled_ms IS NOT NULL AND released = 0;
CREATE INDEX open_lots_pending ON open_lots (sending, number) WHERE has_pending = 1;
CREATE INDEX parked_receipts_by_time ON parked_receipts (relay, parked_ms);
