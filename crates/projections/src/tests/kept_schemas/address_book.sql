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
CREATE TABLE contacts (
    tenant     TEXT NOT NULL,
    id         BLOB NOT NULL,
    number     INTEGER NOT NULL,
    name       TEXT NOT NULL,
    phone      TEXT,
    email      TEXT,
    tags       TEXT NOT NULL,
    fields     TEXT NOT NULL,
    search     TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    PRIMARY KEY (tenant, id)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX contacts_by_phone ON contacts (tenant, phone) WHERE phone IS NOT NULL;
CREATE UNIQUE INDEX contacts_by_email ON contacts (tenant, email) WHERE email IS NOT NULL;
CREATE TABLE contact_counts (
    tenant   TEXT PRIMARY KEY,
    contacts INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TRIGGER contact_added AFTER INSERT ON contacts BEGIN
    INSERT INTO contact_counts (tenant, contacts) VALUES (new.tenant, 1)
        ON CONFLICT DO UPDATE SET contacts = contacts + 1;
END;
CREATE TRIGGER contact_removed AFTER DELETE ON contacts BEGIN
    UPDATE contact_counts SET contacts = contacts - 1 WHERE tenant = old.tenant;
END;
CREATE TABLE contact_numbers (
    id   INTEGER PRIMARY KEY CHECK (id = 1),
    next INTEGER NOT NULL
) STRICT;
CREATE TABLE heirs (
    tenant TEXT NOT NULL,
    id     BLOB NOT NULL,
    heir   BLOB NOT NULL,
    PRIMARY KEY (tenant, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX heirs_by_heir ON heirs (tenant, heir);
CREATE TABLE tags (
    tenant  TEXT NOT NULL,
    tag     TEXT NOT NULL,
    contact BLOB NOT NULL,
    PRIMARY KEY (tenant, tag, contact)
) STRICT, WITHOUT ROWID;
CREATE TABLE groups (
    id         BLOB PRIMARY KEY,
    tenant     TEXT NOT NULL,
    name       TEXT NOT NULL,
    members    INTEGER NOT NULL,
    created_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE members (
    group_id BLOB NOT NULL,
    contact  BLOB NOT NULL,
    PRIMARY KEY (group_id, contact)
) STRICT, WITHOUT ROWID;
CREATE INDEX members_by_contact ON members (contact, group_id);
CREATE TABLE senders (
    tenant   TEXT NOT NULL,
    address  TEXT NOT NULL,
    identity TEXT NOT NULL,
    PRIMARY KEY (tenant, address)
) STRICT, WITHOUT ROWID;
CREATE TABLE opt_outs (
    tenant         TEXT NOT NULL,
    identity       TEXT NOT NULL,
    brand_identity TEXT NOT NULL,
    address        TEXT NOT NULL,
    brand          TEXT,
    source         TEXT NOT NULL,
    since_ms       INTEGER NOT NULL,
    refused_ms     INTEGER NOT NULL,
    PRIMARY KEY (tenant, identity, brand_identity)
) STRICT, WITHOUT ROWID;
CREATE TABLE people (
    tenant  TEXT NOT NULL,
    address TEXT NOT NULL,
    contact BLOB NOT NULL,
    PRIMARY KEY (tenant, address, contact)
) STRICT, WITHOUT ROWID;
CREATE INDEX people_by_contact ON people (tenant, contact, address);
CREATE TABLE bonds (
    tenant  TEXT NOT NULL,
    address TEXT NOT NULL,
    other   TEXT NOT NULL,
    is_told INTEGER NOT NULL,
    PRIMARY KEY (tenant, address, other)
) STRICT, WITHOUT ROWID;
CREATE INDEX bonds_by_other ON bonds (tenant, other);
CREATE TABLE templates (
    tenant     TEXT NOT NULL,
    id         BLOB NOT NULL,
    name       TEXT NOT NULL,
    subject    TEXT,
    text       TEXT NOT NULL,
    updated_ms INTEGER NOT NULL,
    PRIMARY KEY (tenant, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE tenants (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL,
    created_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX groups_by_tenant ON groups (tenant, id);
CREATE INDEX bonds_untold ON bonds (tenant, address, other) WHERE is_told = 0;
