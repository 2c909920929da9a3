-- Payments, what moved them, what providers told us of them, and the answers to requests that may be repeated.

CREATE SCHEMA payments;

CREATE TABLE payments.payments (
    tenant_id          uuid           NOT NULL,
    id                 uuid           NOT NULL,
    user_id            uuid           NOT NULL,
    -- 20 digits before the point and 18 after it: every currency, and every crypto asset in its smallest unit.
    amount             numeric(38,18) NOT NULL CHECK (amount > 0),
    currency           varchar(16)    NOT NULL CHECK (currency ~ '^[A-Z0-9]{3,16}$'),
    type               text           NOT NULL CHECK (type IN ('initiate', 'payment')),
    status             text           NOT NULL
        CHECK (status IN ('pending', 'initiated', 'processing', 'completed', 'failed', 'cancelled')),
    description        text,
    provider           text           NOT NULL,
    provider_reference text,
    checkout_url       text,
    return_url         text           NOT NULL,
    failure_code       text,
    failure_message    text,
    created_at         timestamptz    NOT NULL,
    updated_at         timestamptz    NOT NULL,
    PRIMARY KEY (tenant_id, id),
    -- No cascade: who leaves takes no money's history along.
    FOREIGN KEY (tenant_id, user_id) REFERENCES auth.users (tenant_id, id)
);
-- Lists are newest first; of one user, or of all.
CREATE INDEX payments_newest ON payments.payments (tenant_id, created_at DESC, id DESC);
CREATE INDEX payments_of_user ON payments.payments (tenant_id, user_id, created_at DESC, id DESC);
CREATE INDEX payments_by_status ON payments.payments (tenant_id, status, created_at DESC, id DESC);
CREATE UNIQUE INDEX payments_provider_reference_key ON payments.payments (tenant_id, provider, provider_reference);

-- Every move of a payment, written with it. Rows are only added.
CREATE TABLE payments.payment_transactions (
    tenant_id        uuid           NOT NULL,
    id               uuid           NOT NULL,
    payment_id       uuid           NOT NULL,
    transaction_type text           NOT NULL,
    amount           numeric(38,18) NOT NULL,
    status           text           NOT NULL,
    metadata         jsonb          NOT NULL,
    created_at       timestamptz    NOT NULL,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, payment_id) REFERENCES payments.payments (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX payment_transactions_of_payment ON payments.payment_transactions (tenant_id, payment_id, created_at);

-- Webhooks come more than once and in any order: an event has its effect in the transaction that first remembers it.
CREATE TABLE payments.provider_events (
    tenant_id   uuid        NOT NULL,
    provider    text        NOT NULL,
    event_id    text        NOT NULL,
    type        text        NOT NULL,
    outcome     text        NOT NULL,
    payment_id  uuid,
    received_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, provider, event_id)
);

-- Requests with an Idempotency-Key: begun in the transaction that keeps the intent, finished in the one that has the effect.
CREATE TABLE payments.idempotency_keys (
    tenant_id    uuid        NOT NULL,
    user_id      uuid        NOT NULL,
    operation    text        NOT NULL,
    key          text        NOT NULL,
    -- SHA-256 of what was asked for; another body under the same key is a mistake of the caller.
    fingerprint  bytea       NOT NULL,
    -- What the first request made: a repetition goes on with it.
    resource_id  uuid        NOT NULL,
    -- Until then somebody is at work; a process that died in the middle holds nobody up for longer.
    locked_until timestamptz NOT NULL,
    -- The answer, once there is one.
    status       smallint,
    body         text,
    expires_at   timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, user_id, operation, key)
);
CREATE INDEX idempotency_keys_expired ON payments.idempotency_keys (tenant_id, expires_at);

DO $$
DECLARE
    t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['payments', 'payment_transactions', 'provider_events', 'idempotency_keys'] LOOP
        EXECUTE format('ALTER TABLE payments.%I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE payments.%I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format(
            'CREATE POLICY tenant ON payments.%I USING (tenant_id = (SELECT public.current_tenant()))'
            ' WITH CHECK (tenant_id = (SELECT public.current_tenant()))', t);
    END LOOP;
END
$$;
