-- Accounts that people have elsewhere and sign in with here (OpenID Connect).

-- Who somebody is at an issuer. Not by the provider's name in the Tenant, which may change, and never by address alone.
CREATE TABLE auth.identities (
    tenant_id    uuid        NOT NULL,
    id           uuid        NOT NULL,
    user_id      uuid        NOT NULL,
    issuer       text        NOT NULL,
    subject      text        NOT NULL,
    -- As the provider said it last, for the user to recognize the account by.
    email        text,
    created_at   timestamptz NOT NULL,
    last_used_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES auth.users (tenant_id, id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX identities_subject_key ON auth.identities (tenant_id, issuer, subject);
CREATE INDEX identities_user_id_idx ON auth.identities (tenant_id, user_id);

-- A sign-in that began here and is at the provider now. Gone at its first use.
CREATE TABLE auth.identity_flows (
    tenant_id    uuid        NOT NULL,
    -- SHA-256 of the secret that the browser holds, from which state, nonce and code verifier are derived.
    id           bytea       NOT NULL CHECK (length(id) = 32),
    provider     text        NOT NULL,
    redirect_uri text        NOT NULL,
    -- Whose account is to be linked. NULL: somebody signs in.
    user_id      uuid,
    expires_at   timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES auth.users (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX identity_flows_expires_at_idx ON auth.identity_flows (tenant_id, expires_at);
CREATE INDEX identity_flows_user_id_idx ON auth.identity_flows (tenant_id, user_id);

DO $$
DECLARE
    t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['auth.identities', 'auth.identity_flows'] LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', t);
        EXECUTE format(
            'CREATE POLICY tenant ON %s USING (tenant_id = (SELECT public.current_tenant()))'
            ' WITH CHECK (tenant_id = (SELECT public.current_tenant()))', t);
    END LOOP;
END
$$;
