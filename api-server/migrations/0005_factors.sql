-- Second factors and passkeys, and what a session remembers of how its user proved who they are.

-- Counts the turns after which nothing that was begun before may be finished: a login that waits for its second factor is
-- void once the password, the address or the account's state has changed, whichever part of the program changed it.
ALTER TABLE auth.users ADD COLUMN epoch bigint NOT NULL DEFAULT 0;

CREATE FUNCTION auth.next_epoch() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
    BEGIN
        IF (NEW.password_hash, NEW.email, NEW.is_active, NEW.deleted_at)
            IS DISTINCT FROM (OLD.password_hash, OLD.email, OLD.is_active, OLD.deleted_at)
        THEN
            NEW.epoch := OLD.epoch + 1;
        END IF;
        RETURN NEW;
    END
    $$;
CREATE TRIGGER next_epoch BEFORE UPDATE ON auth.users FOR EACH ROW EXECUTE FUNCTION auth.next_epoch();

ALTER TABLE auth.sessions
    -- The ways in which the user proved who they are, as a token's amr names them.
    ADD COLUMN amr              text[]      NOT NULL DEFAULT '{pwd}',
    -- The last proof of any kind. NULL: none since the sign-in.
    ADD COLUMN authenticated_at timestamptz,
    -- The last proof with a second factor or a passkey.
    ADD COLUMN factor_at        timestamptz,
    -- Allows nothing but to set up a second factor, which the tenant demands.
    ADD COLUMN is_limited       boolean     NOT NULL DEFAULT false;

-- An authenticator app.
CREATE TABLE auth.totp (
    tenant_id    uuid   NOT NULL,
    user_id      uuid   NOT NULL,
    -- Sealed under the platform's key, for this user of this tenant. NULL: not active.
    secret       text,
    activated_at timestamptz,
    -- The 30 seconds whose code was used last: a code counts once, and none before it counts any more.
    last_step    bigint NOT NULL DEFAULT -1,
    -- Sealed too; becomes the secret once a code shows that the app has it.
    temp_secret  text,
    temp_until   timestamptz,
    PRIMARY KEY (tenant_id, user_id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES auth.users (tenant_id, id) ON DELETE CASCADE
);

CREATE TABLE auth.recovery_codes (
    tenant_id  uuid        NOT NULL,
    user_id    uuid        NOT NULL,
    -- SHA-256 of the user's id and the code, which has 80 random bits.
    code       bytea       NOT NULL CHECK (length(code) = 32),
    used_at    timestamptz,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, user_id, code),
    FOREIGN KEY (tenant_id, user_id) REFERENCES auth.users (tenant_id, id) ON DELETE CASCADE
);

CREATE TABLE auth.passkeys (
    tenant_id     uuid        NOT NULL,
    id            uuid        NOT NULL,
    user_id       uuid        NOT NULL,
    -- The host that the passkey was made for; browsers offer it nowhere else.
    rp_id         text        NOT NULL,
    credential_id bytea       NOT NULL,
    -- The public key and what else the check of a signature needs.
    credential    jsonb       NOT NULL,
    -- How often the authenticator says it has signed; 0 where it does not count.
    counter       bigint      NOT NULL,
    name          text        NOT NULL,
    created_at    timestamptz NOT NULL,
    last_used_at  timestamptz,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES auth.users (tenant_id, id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX passkeys_credential_id_key ON auth.passkeys (tenant_id, credential_id);
CREATE INDEX passkeys_user_id_idx ON auth.passkeys (tenant_id, user_id);

-- What was begun and is to be finished within minutes, once: a login before its second factor, a passkey's ceremony.
CREATE TABLE auth.challenges (
    tenant_id  uuid        NOT NULL,
    -- SHA-256 of the token that the client holds.
    token      bytea       NOT NULL CHECK (length(token) = 32),
    purpose    text        NOT NULL,
    -- NULL: who it is turns out at the end, as in a login with a passkey.
    user_id    uuid,
    -- auth.users.epoch as it was.
    epoch      bigint,
    amr        text[]      NOT NULL DEFAULT '{}',
    -- The server's side of a passkey's ceremony.
    state      jsonb,
    failures   integer     NOT NULL DEFAULT 0,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, token),
    FOREIGN KEY (tenant_id, user_id) REFERENCES auth.users (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX challenges_expires_at_idx ON auth.challenges (tenant_id, expires_at);
CREATE INDEX challenges_user_id_idx ON auth.challenges (tenant_id, user_id);

DO $$
DECLARE
    t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['auth.totp', 'auth.recovery_codes', 'auth.passkeys', 'auth.challenges'] LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', t);
        EXECUTE format(
            'CREATE POLICY tenant ON %s USING (tenant_id = (SELECT public.current_tenant()))'
            ' WITH CHECK (tenant_id = (SELECT public.current_tenant()))', t);
    END LOOP;
END
$$;
