-- The key from which every gateway derives the access tokens that it gives out for sandboxes: 244 random bits.
ALTER TABLE deployment ADD COLUMN sandbox_token_key text NOT NULL
    DEFAULT replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', '');
