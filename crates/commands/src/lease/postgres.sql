-- Who does what, of several processes. Times are the server's, so that nobody's clock matters.

CREATE TABLE kite_leases.leases (
    name    text COLLATE "C" PRIMARY KEY,
    -- The name of one life of a process; none: it was given back.
    holder  text COLLATE "C",
    -- Grows whenever it is taken.
    epoch   bigint NOT NULL,
    ends_at timestamptz NOT NULL
) WITH (fillfactor = 50);
