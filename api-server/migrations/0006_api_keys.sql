-- Keys for machines that act for a user.

CREATE TABLE auth.api_keys (
    tenant_id    uuid        NOT NULL,
    id           uuid        NOT NULL,
    -- For whom it acts: it may never do more than they may.
    user_id      uuid        NOT NULL,
    -- RoleBindings name it by this.
    name         text        NOT NULL CHECK (length(name) <= 100),
    -- The beginning of the key, for people who look for it in their settings.
    prefix       text        NOT NULL,
    -- SHA-256 of the key: whoever reads this table cannot act with it.
    digest       bytea       NOT NULL CHECK (length(digest) = 32),
    -- Permissions as resource:verb; the key may do what these and its user's own both allow.
    scopes       text[]      NOT NULL,
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    -- To the minute, so that a busy key does not write with every request.
    last_used_at timestamptz,
    revoked_at   timestamptz,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES auth.users (tenant_id, id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX api_keys_digest_key ON auth.api_keys (tenant_id, digest);
-- A name means one key, or a RoleBinding would mean two. The name of a revoked key is free again.
CREATE UNIQUE INDEX api_keys_name_key ON auth.api_keys (tenant_id, name) WHERE revoked_at IS NULL;
CREATE INDEX api_keys_of_user ON auth.api_keys (tenant_id, user_id, created_at DESC, id DESC);
CREATE INDEX api_keys_newest ON auth.api_keys (tenant_id, created_at DESC, id DESC);

ALTER TABLE auth.api_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE auth.api_keys FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON auth.api_keys
    USING (tenant_id = (SELECT public.current_tenant())) WITH CHECK (tenant_id = (SELECT public.current_tenant()));
