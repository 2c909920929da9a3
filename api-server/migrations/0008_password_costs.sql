-- What it costs to check each password: an attempt to sign in that fails does the work of every cost that a tenant's accounts
-- have, so that its time tells nobody whether there is such an account, or where its hash is from.

-- The hash without salt and outcome. The marks of bcrypt differ in name alone.
ALTER TABLE auth.users
    ADD COLUMN password_cost text GENERATED ALWAYS AS (
        CASE WHEN password_hash LIKE '$2%' THEN '$2b' || substr(password_hash, 4, 3)
             ELSE regexp_replace(password_hash, '\$[^$]*\$[^$]*$', '') END) STORED;

-- Leads from one cost to the next, over any number of accounts.
CREATE INDEX users_password_cost ON auth.users (tenant_id, password_cost) WHERE password_cost IS NOT NULL;
