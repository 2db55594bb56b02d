-- Ports of sandboxes that the gateways' URLs open. Port 0: every port but those of the services.
CREATE TABLE sandbox_ports (
    sandbox_id uuid NOT NULL REFERENCES sandboxes (id) ON DELETE CASCADE,
    port       integer NOT NULL CHECK (port BETWEEN 0 AND 65535),
    visibility text NOT NULL CHECK (visibility IN ('private', 'public')),
    token      text NOT NULL, -- in the host name of a private one
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    PRIMARY KEY (sandbox_id, port)
);
