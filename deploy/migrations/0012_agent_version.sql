-- The version of the provider's agent in the sandbox (envd's of E2B): what it can do depends on it.
ALTER TABLE sandboxes ADD COLUMN agent_version text NOT NULL DEFAULT '';
