-- Mail that is to be sent, and what its links and codes open.

CREATE SCHEMA mail;

-- One mail for one act, written in the transaction of the act: neither is without the other.
CREATE TABLE mail.outbox (
    tenant_id   uuid        NOT NULL,
    -- The mail's Message-ID too.
    id          uuid        NOT NULL,
    -- Whom it is about. No foreign key: a request for an address that nobody has is a row as well.
    user_id     uuid,
    kind        text        NOT NULL,
    recipient   text        NOT NULL,
    -- What it says, tokens included, sealed under the platform's key for this row. NULL once it is sent.
    content     text,
    state       text        NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'sent', 'dead')),
    -- Tries that the server refused.
    attempts    integer     NOT NULL DEFAULT 0,
    -- When it may be taken (again). Whoever takes it moves this to the end of their lease.
    due_at      timestamptz NOT NULL,
    -- Of whoever took it last: nobody else writes the outcome.
    lease       uuid,
    last_error  text,
    created_at  timestamptz NOT NULL,
    -- Not sent after this: its link would be dead, or its news old.
    expires_at  timestamptz NOT NULL,
    -- Sent, or given up.
    finished_at timestamptz,
    PRIMARY KEY (tenant_id, id)
);
-- What is left to do; small, however much was sent.
CREATE INDEX outbox_due_idx ON mail.outbox (tenant_id, due_at) WHERE state = 'queued';
CREATE INDEX outbox_dead_idx ON mail.outbox (tenant_id, finished_at) WHERE state = 'dead';
-- What is forgotten after a while.
CREATE INDEX outbox_finished_idx ON mail.outbox (tenant_id, finished_at) WHERE state <> 'queued';
CREATE INDEX outbox_created_at_idx ON mail.outbox (tenant_id, created_at DESC, id DESC);
CREATE INDEX outbox_user_id_idx ON mail.outbox (tenant_id, user_id);

-- How the outboxes of many tenants stand, in one round trip. Row-level security binds this function like everybody: it looks
-- at one tenant after the other, as each of them, and leaves the setting as it was.
CREATE FUNCTION mail.survey(tenants uuid[])
    RETURNS TABLE (tenant uuid, queued bigint, dead bigint, oldest timestamptz, due timestamptz)
    LANGUAGE plpgsql
    AS $$
    DECLARE
        before text := current_setting('app.tenant_id', true);
    BEGIN
        FOREACH tenant IN ARRAY tenants LOOP
            PERFORM set_config('app.tenant_id', tenant::text, true);
            SELECT count(*), min(o.created_at), min(o.due_at) INTO queued, oldest, due
                FROM mail.outbox o WHERE o.tenant_id = tenant AND o.state = 'queued';
            SELECT count(*) INTO dead FROM mail.outbox o WHERE o.tenant_id = tenant AND o.state = 'dead';
            IF queued + dead > 0 THEN
                RETURN NEXT;
            END IF;
        END LOOP;
        PERFORM set_config('app.tenant_id', before, true);
    END
    $$;

-- What somebody proves with a link or a code from a mail: that it reached them. One of each purpose a user: a new one takes
-- the place of the former, which is good no more.
CREATE TABLE auth.mailed_tokens (
    tenant_id    uuid        NOT NULL,
    id           uuid        NOT NULL,
    user_id      uuid        NOT NULL,
    purpose      text        NOT NULL,
    -- SHA-256 of 32 random bytes: whoever reads this table cannot use it.
    token        bytea       NOT NULL CHECK (length(token) = 32),
    -- A short code for people to type, sealed: a hash of so few digits would be no secret.
    code         text,
    -- Wrong codes so far; after a few the code is void, and the link still good.
    failures     integer     NOT NULL DEFAULT 0,
    -- The address that it was mailed for.
    email        text        NOT NULL,
    -- When this half of a change of address was confirmed.
    confirmed_at timestamptz,
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES auth.users (tenant_id, id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX mailed_tokens_purpose_key ON auth.mailed_tokens (tenant_id, user_id, purpose);
CREATE UNIQUE INDEX mailed_tokens_token_key ON auth.mailed_tokens (tenant_id, token);

DO $$
DECLARE
    t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['mail.outbox', 'auth.mailed_tokens'] LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', t);
        EXECUTE format(
            'CREATE POLICY tenant ON %s USING (tenant_id = (SELECT public.current_tenant()))'
            ' WITH CHECK (tenant_id = (SELECT public.current_tenant()))', t);
    END LOOP;
END
$$;
