-- The workers and reapers that are alive, by the database's clock: each writes its row with every heartbeat.
-- A lease that ran out counts as a crash only when its holder's heartbeats have stopped.
CREATE TABLE processes (
    name            text PRIMARY KEY,     -- host:pid:boot, as in jobs.lease_owner
    role            text NOT NULL CHECK (role IN ('worker', 'reaper')),
    seen_at         timestamptz NOT NULL, -- the last heartbeat
    expires_at      timestamptz NOT NULL, -- seen_at + 3 intervals: without a heartbeat until then it is dead
    unbroken_since  timestamptz NOT NULL, -- since then no gap was longer than 2 intervals
    clock_offset_ms bigint NOT NULL       -- its clock minus the database's; negative = behind
);
