-- Which tables the read models are in. Each read model has a schema of its own for each generation: `kite_<model>_<generation>`.
-- A rebuild makes the next generation beside the one that is shown, and then changes the number here.

CREATE TABLE kite_read_models.models (
    name       text COLLATE "C" PRIMARY KEY,
    -- The one that is shown.
    generation bigint NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE kite_read_models.generations (
    model          text COLLATE "C" NOT NULL,
    generation     bigint NOT NULL,
    -- Of its tables.
    schema_version bigint NOT NULL,
    made_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (model, generation)
);

-- The log that they are made from, once they have begun to.
CREATE TABLE kite_read_models.log (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    log_id   uuid
);
INSERT INTO kite_read_models.log (log_id) VALUES (NULL);

-- Who may use what later generations consist of.
CREATE TABLE kite_read_models.instances (role text PRIMARY KEY);

-- The views for people.
CREATE SCHEMA kite;
