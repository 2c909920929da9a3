-- Roles that are given through the API, accounts that end, and an audit that shows when it was tampered with.

-- A further role of a user. Roles that a RoleBinding gives are not here: they are declared, and read from the tenant's
-- document.
CREATE TABLE auth.user_roles (
    tenant_id   uuid        NOT NULL,
    user_id     uuid        NOT NULL,
    role        text        NOT NULL,
    -- NULL: whoever gave it is gone.
    assigned_by uuid,
    assigned_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, user_id, role),
    FOREIGN KEY (tenant_id, user_id) REFERENCES auth.users (tenant_id, id) ON DELETE CASCADE
);
ALTER TABLE auth.user_roles ENABLE ROW LEVEL SECURITY;
ALTER TABLE auth.user_roles FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON auth.user_roles
    USING (tenant_id = (SELECT public.current_tenant())) WITH CHECK (tenant_id = (SELECT public.current_tenant()));

-- The row of a deleted user stays for what refers to it (payments, audit), without anything that tells who it was.
ALTER TABLE auth.users ADD COLUMN deleted_at timestamptz;

-- The newest link of each tenant's chain. Whoever adds an entry holds its row until the transaction ends, so entries of one
-- tenant are in the order of their commits, without a gap.
CREATE TABLE admin.audit_heads (
    tenant_id uuid   PRIMARY KEY,
    sequence  bigint NOT NULL,
    hash      bytea  NOT NULL
);
ALTER TABLE admin.audit_heads ENABLE ROW LEVEL SECURITY;
ALTER TABLE admin.audit_heads FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON admin.audit_heads
    USING (tenant_id = (SELECT public.current_tenant())) WITH CHECK (tenant_id = (SELECT public.current_tenant()));

ALTER TABLE admin.audit_logs
    ADD COLUMN outcome         text NOT NULL DEFAULT 'success' CHECK (outcome IN ('success', 'failure', 'denied')),
    ADD COLUMN request_id      text,
    -- 1, 2, 3 … within the tenant. NULL: written before there was a chain.
    ADD COLUMN sequence        bigint,
    -- The address and the device are a person's data and can be erased; what is chained is their digest, salted so that
    -- nobody finds the address by trying all of them once the salt is gone too.
    ADD COLUMN personal_salt   uuid,
    ADD COLUMN personal_digest bytea,
    -- SHA-256 over the hash before it and this entry.
    ADD COLUMN hash            bytea;
CREATE UNIQUE INDEX audit_logs_sequence_key ON admin.audit_logs (tenant_id, sequence);

CREATE FUNCTION admin.audit_hash(previous bytea, entry admin.audit_logs) RETURNS bytea
    LANGUAGE sql STABLE
    AS $$
        SELECT sha256(previous || convert_to(jsonb_build_array(
            entry.tenant_id, entry.sequence, entry.id, entry.user_id, entry.action, entry.resource_type, entry.resource_id,
            entry.details, entry.outcome, entry.request_id, encode(entry.personal_digest, 'hex'),
            extract(epoch FROM entry.created_at))::text, 'UTF8'))
    $$;

CREATE FUNCTION admin.audit_chain() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
    DECLARE
        head admin.audit_heads;
    BEGIN
        INSERT INTO admin.audit_heads (tenant_id, sequence, hash) VALUES (NEW.tenant_id, 0, '')
            ON CONFLICT (tenant_id) DO NOTHING;
        SELECT * INTO STRICT head FROM admin.audit_heads WHERE tenant_id = NEW.tenant_id FOR UPDATE;
        NEW.sequence := head.sequence + 1;
        NEW.personal_salt := gen_random_uuid();
        NEW.personal_digest := sha256(convert_to(
            jsonb_build_array(NEW.personal_salt, NEW.ip_address, NEW.user_agent)::text, 'UTF8'));
        NEW.hash := admin.audit_hash(head.hash, NEW);
        UPDATE admin.audit_heads SET sequence = NEW.sequence, hash = NEW.hash WHERE tenant_id = NEW.tenant_id;
        RETURN NEW;
    END
    $$;
CREATE TRIGGER audit_chain BEFORE INSERT ON admin.audit_logs FOR EACH ROW EXECUTE FUNCTION admin.audit_chain();

-- An entry is never changed, except that personal data leaves it. (Rows are deleted with their tenant only, by a job that
-- empties every table.)
CREATE FUNCTION admin.audit_append_only() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
    BEGIN
        IF (to_jsonb(NEW) - ARRAY['ip_address', 'user_agent', 'personal_salt'])
            <> (to_jsonb(OLD) - ARRAY['ip_address', 'user_agent', 'personal_salt'])
            OR num_nonnulls(NEW.ip_address, NEW.user_agent, NEW.personal_salt) > 0
        THEN
            RAISE EXCEPTION 'an audit entry is never changed' USING ERRCODE = 'restrict_violation';
        END IF;
        RETURN NEW;
    END
    $$;
CREATE TRIGGER audit_append_only BEFORE UPDATE ON admin.audit_logs
    FOR EACH ROW EXECUTE FUNCTION admin.audit_append_only();
