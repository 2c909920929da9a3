-- Who exists in a tenant, how they are signed in, and what was done to them.
--
-- Every table with tenant data:
--   * has tenant_id first in its primary key and in every index, so that one tenant's rows lie together and a query
--     that names the tenant never walks another's;
--   * refers to others by (tenant_id, id), so that no row can point into another tenant;
--   * has row-level security ENABLEd and FORCEd (the owner is bound as well), on app.tenant_id, which is set for one
--     transaction only. Unset it is NULL, NULL equals nothing, and so a query without a tenant sees nothing.
-- The sub-select around current_setting lets the planner evaluate it once a query and not once a row.

CREATE SCHEMA auth;
CREATE SCHEMA admin;

-- '' stands for "unset" after a transaction that set it has ended on the same connection.
CREATE FUNCTION public.current_tenant() RETURNS uuid
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ SELECT nullif(current_setting('app.tenant_id', true), '')::uuid $$;

CREATE TABLE auth.users (
    tenant_id      uuid        NOT NULL,
    id             uuid        NOT NULL,
    -- Kept in lower case: an address that differs in case only is the same person.
    email          text        NOT NULL CHECK (email = lower(email) AND length(email) <= 255),
    -- PHC string. NULL: cannot sign in with a password.
    password_hash  text,
    name           text        NOT NULL,
    first_name     text,
    last_name      text,
    -- The primary role; further ones come from RoleBindings. Not a CHECK list, since bindings can bring their own roles.
    role           text        NOT NULL DEFAULT 'USER',
    -- Subjects of kind Group that the user belongs to.
    groups         text[]      NOT NULL DEFAULT '{}',
    email_verified boolean     NOT NULL DEFAULT false,
    is_active      boolean     NOT NULL DEFAULT true,
    last_login_at  timestamptz,
    created_at     timestamptz NOT NULL,
    updated_at     timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX users_email_key ON auth.users (tenant_id, email);
CREATE INDEX users_role_idx ON auth.users (tenant_id, role);
-- Lists are newest first.
CREATE INDEX users_created_at_idx ON auth.users (tenant_id, created_at DESC, id DESC);

-- One sign-in on one device: the family of its refresh tokens.
CREATE TABLE auth.sessions (
    tenant_id    uuid        NOT NULL,
    id           uuid        NOT NULL,
    user_id      uuid        NOT NULL,
    user_agent   text,
    ip           text,
    created_at   timestamptz NOT NULL,
    last_used_at timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    revoked_at   timestamptz,
    -- logout, reuse, password, admin: for whoever looks into it later.
    revoked_for  text,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES auth.users (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX sessions_user_id_idx ON auth.sessions (tenant_id, user_id);

CREATE TABLE auth.refresh_tokens (
    tenant_id  uuid        NOT NULL,
    id         uuid        NOT NULL,
    session_id uuid        NOT NULL,
    -- SHA-256 of the token: whoever reads this table cannot sign in with it.
    token      bytea       NOT NULL CHECK (length(token) = 32),
    -- The token that was exchanged for this one.
    parent_id  uuid,
    used_at    timestamptz,
    expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, session_id) REFERENCES auth.sessions (tenant_id, id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX refresh_tokens_token_key ON auth.refresh_tokens (tenant_id, token);
CREATE INDEX refresh_tokens_session_id_idx ON auth.refresh_tokens (tenant_id, session_id);
-- A token has one successor, however many callers present it at once.
CREATE UNIQUE INDEX refresh_tokens_parent_id_key ON auth.refresh_tokens (tenant_id, parent_id);

-- What was done, by whom, to what. Only ever added to.
CREATE TABLE admin.audit_logs (
    tenant_id     uuid        NOT NULL,
    id            uuid        NOT NULL,
    -- NULL: nobody was signed in. No foreign key, since the entry outlives the user.
    user_id       uuid,
    action        text        NOT NULL,
    resource_type text        NOT NULL,
    resource_id   text,
    details       jsonb       NOT NULL DEFAULT '{}',
    ip_address    varchar(45),
    user_agent    text,
    created_at    timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX audit_logs_user_id_idx ON admin.audit_logs (tenant_id, user_id, created_at DESC);
CREATE INDEX audit_logs_created_at_idx ON admin.audit_logs (tenant_id, created_at DESC);

DO $$
DECLARE
    t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['auth.users', 'auth.sessions', 'auth.refresh_tokens', 'admin.audit_logs'] LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', t);
        EXECUTE format(
            'CREATE POLICY tenant ON %s USING (tenant_id = (SELECT public.current_tenant()))'
            ' WITH CHECK (tenant_id = (SELECT public.current_tenant()))', t);
    END LOOP;
END
$$;
