-- From where each user has logged in with the right password: such an address is never refused a
-- login for the wrong passwords that others have tried.
CREATE TABLE login_addresses (
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    address text NOT NULL,
    last_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, address)
);
