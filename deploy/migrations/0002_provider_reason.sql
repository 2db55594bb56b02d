-- Why a sandbox is not at the provider that was its first choice.
ALTER TABLE sandboxes ADD COLUMN provider_reason text NOT NULL DEFAULT '';
