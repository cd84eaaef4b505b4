-- What appends and looks up. Each migration brings about what this program knows; their names and arguments stay.

-- One append as far as its stream is concerned: 0 it may be written, and the stream is moved on; 1 it only asked; 2 the
-- stream is not where it was expected. Called under the lock of `head`.
CREATE OR REPLACE FUNCTION kite_log.place(
    p_name text, p_expected bigint, p_events integer, OUT outcome smallint, OUT stream_id bigint, OUT before bigint
) LANGUAGE plpgsql AS $$
BEGIN
    SELECT streams.id, streams.version INTO stream_id, before FROM kite_log.streams WHERE streams.name = p_name;
    before := coalesce(before, 0);
    IF p_expected IS NOT NULL AND p_expected <> before THEN
        outcome := 2;
    ELSIF p_events = 0 THEN
        outcome := 1;
    ELSE
        outcome := 0;
        IF stream_id IS NULL THEN
            INSERT INTO kite_log.streams (name, version) VALUES (p_name, p_events) RETURNING streams.id INTO stream_id;
        ELSE
            UPDATE kite_log.streams SET version = before + p_events WHERE streams.id = stream_id;
        END IF;
    END IF;
END
$$;

-- Appends. Those of one group (adjacent) belong together as its mode says: 0 independent, 1 guarded, 2 atomic. Answers one row
-- for each, in order: outcome (as `place`, 3: not tried), the version of the stream, the position of its last event.
--
-- An id that stands in its stream already fails the whole call with a unique violation.
CREATE OR REPLACE FUNCTION kite_log.append(
    p_group integer[], p_mode smallint[], p_stream text[], p_expected bigint[], p_events integer[], p_time bigint[],
    p_tenant text[], p_actor text[], p_correlation uuid[], p_causation uuid[],
    p_trace bytea[], e_append integer[], e_number integer[], e_id uuid[], e_kind text[], e_schema_version integer[], e_data bytea[]
) RETURNS TABLE (outcome smallint, version bigint, last_position bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    appends integer := cardinality(p_stream);
    head_before bigint;
    head_now bigint;
    head_of_group bigint;
    first integer := 1;
    beyond integer;
    here integer;
    placed record;
    outcomes smallint[] := array_fill(3::smallint, ARRAY[appends]);
    streams_of bigint[] := array_fill(NULL::bigint, ARRAY[appends]);
    versions bigint[] := array_fill(0::bigint, ARRAY[appends]);
    -- The position before its first event; none: nothing of it is written.
    positions bigint[] := array_fill(NULL::bigint, ARRAY[appends]);
    kinds text;
BEGIN
    SELECT head.position INTO STRICT head_before FROM kite_log.head FOR UPDATE;
    head_now := head_before;
    WHILE first <= appends LOOP
        beyond := first + 1;
        WHILE beyond <= appends AND p_group[beyond] = p_group[first] LOOP
            beyond := beyond + 1;
        END LOOP;
        here := first;
        IF p_mode[first] = 2 THEN
            head_of_group := head_now;
            WHILE here < beyond LOOP
                placed := kite_log.place(p_stream[here], p_expected[here], p_events[here]);
                outcomes[here] := placed.outcome;
                versions[here] := placed.before;
                EXIT WHEN placed.outcome = 2;
                IF placed.outcome = 0 THEN
                    streams_of[here] := placed.stream_id;
                    positions[here] := head_now;
                    head_now := head_now + p_events[here];
                END IF;
                here := here + 1;
            END LOOP;
            IF here < beyond THEN
                -- Takes back what `place` has done for the group, the last first. Not by a subtransaction: each would use up a
                -- transaction id, and a call may have many groups.
                FOR other IN REVERSE beyond - 1..first LOOP
                    IF positions[other] IS NOT NULL THEN
                        IF versions[other] = 0 THEN
                            DELETE FROM kite_log.streams WHERE streams.id = streams_of[other];
                        ELSE
                            UPDATE kite_log.streams SET version = versions[other] WHERE streams.id = streams_of[other];
                        END IF;
                        positions[other] := NULL;
                    END IF;
                    IF other <> here THEN
                        outcomes[other] := 3;
                    END IF;
                END LOOP;
                head_now := head_of_group;
            END IF;
        ELSE
            WHILE here < beyond LOOP
                placed := kite_log.place(p_stream[here], p_expected[here], p_events[here]);
                outcomes[here] := placed.outcome;
                versions[here] := placed.before;
                IF placed.outcome = 0 THEN
                    streams_of[here] := placed.stream_id;
                    positions[here] := head_now;
                    head_now := head_now + p_events[here];
                END IF;
                EXIT WHEN placed.outcome = 2 AND p_mode[first] = 1 AND here = first;
                here := here + 1;
            END LOOP;
        END IF;
        first := beyond;
    END LOOP;

    IF head_now > head_before THEN
        INSERT INTO kite_log.events
        SELECT positions[e.append] + e.number, streams_of[e.append], versions[e.append] + e.number, e.id, e.kind,
               e.schema_version, p_time[e.append], p_tenant[e.append], p_actor[e.append], p_correlation[e.append],
               p_causation[e.append], e.data, p_trace[e.append]
        FROM unnest(e_append, e_number, e_id, e_kind, e_schema_version, e_data)
             AS e (append, number, id, kind, schema_version, data)
        WHERE positions[e.append] IS NOT NULL;
        UPDATE kite_log.head SET position = head_now;
        -- Where the log ends, and the kinds of what was written, so that only those are woken who do something about them. A word
        -- that would be too long wakes everybody.
        SELECT string_agg(DISTINCT e.kind, ' ') INTO kinds
        FROM unnest(e_append, e_kind) AS e (append, kind) WHERE positions[e.append] IS NOT NULL;
        PERFORM pg_notify('kite_log', head_now || CASE WHEN octet_length(kinds) < 7000 THEN ' ' || kinds ELSE '' END);
    END IF;
    RETURN QUERY
    SELECT a.outcome,
           CASE a.outcome WHEN 0 THEN a.before + a.events ELSE a.before END,
           CASE a.outcome WHEN 0 THEN a.position_before + a.events ELSE head_now END
    FROM unnest(outcomes, versions, positions, p_events) WITH ORDINALITY
         AS a (outcome, before, position_before, events, number)
    ORDER BY a.number;
END
$$;

-- A position after which every event with this time or a later one stands, found by halving.
CREATE OR REPLACE FUNCTION kite_log.position_before(p_time bigint) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
DECLARE
    low bigint := 0;
    high bigint;
    middle bigint;
    found_time bigint;
BEGIN
    SELECT head.position INTO STRICT high FROM kite_log.head;
    WHILE low < high LOOP
        middle := low + (high - low) / 2;
        SELECT events.time INTO found_time FROM kite_log.events WHERE events.position = middle + 1;
        IF found_time < p_time THEN
            low := middle + 1;
        ELSE
            high := middle;
        END IF;
    END LOOP;
    RETURN low;
END
$$;

REVOKE ALL ON FUNCTION kite_log.place, kite_log.append, kite_log.position_before FROM PUBLIC;
