-- Reconcile: one sweep of a provider at a time, and what the sweeps have seen.

CREATE TABLE provider_sweeps (
    provider    text PRIMARY KEY,
    sweep_id    uuid NOT NULL,            -- the newest one asked for
    asked_at    timestamptz NOT NULL,
    state       text NOT NULL CHECK (state IN ('asked', 'running', 'done', 'failed')),
    lease_owner text,
    lease_until timestamptz,
    error       text NOT NULL DEFAULT '',
    done_at     timestamptz               -- the last one that saw every page
);

-- What the last complete sweep found wrong, and how many in a row have found the same.
CREATE TABLE provider_sightings (
    provider            text NOT NULL,
    provider_sandbox_id text NOT NULL,
    finding             text NOT NULL,
    times               integer NOT NULL,
    first_at            timestamptz NOT NULL,
    PRIMARY KEY (provider, provider_sandbox_id)
);

-- A sandbox that is ours and that no row names has a history too: why it was killed.
ALTER TABLE events ALTER COLUMN sandbox_id DROP NOT NULL;
