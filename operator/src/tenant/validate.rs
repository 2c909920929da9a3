//! What was found → what is served. Pure: everything that is wrong is collected, and nothing stops at the first.
//!
//! While something is wrong, what was last good goes on, part by part. It is read from the document that stands:
//!
//! | part | what is wrong with it | what is served |
//! |---|---|---|
//! | the Tenant | no Platform, no sealing key | the document stays as it is |
//! | `emailVerification: Required` | the Platform has no mail server | what is declared: nobody new gets in unverified |
//! | hostnames | one is held by an older Tenant | the others |
//! | signing key | the Secret of `secretRef` cannot be used | the keys of before; without any, the document stays as it is |
//! | an identity provider | its Secret cannot be used | its entry of before, with the client secret sealed in it |
//! | a RoleBinding | it cannot be followed, is deleted or has expired | never what it gave before |
//! | a PaymentProvider | its Secret cannot be used | its entry of before, with the credentials sealed in it |
//! | a RateLimitPolicy | it cannot be followed | its limits of before |
//! | a provider or a policy | it cannot be read as its kind | what the document has of it |
//! | anything | the object is deleted | nothing of it |
//!
//! Access is never wider than what is declared now; money and limits go on as they last worked.

use contract::{
    Hostname, TenantConfig, TenantId, TenantName,
    auth::{EmailVerification, SigningAlgorithm, SigningKey},
    codec,
    names::DOCUMENT_KEY,
    seal::SealingKey,
    tenant::{Branding, Cors, OwnDatabase, Quotas, TenantState},
};
use crds::{
    Platform, SecretKeyRef, Tenant,
    conditions::reasons::{CONFLICTED, INVALID, MAIL_NOT_CONFIGURED, SECRET_INVALID},
    tenant::{DatabaseIsolation, TenantSpec},
};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::{
    database::Own,
    dereference::{Dereferenced, sealing_key},
    outcome::Outcome,
};
use crate::render::{
    access,
    auth::{auth, identity_providers},
    limits::limits,
    payments::{Seal, providers},
    problem::{Problem, keep},
};

/// How soon a database that is being made is looked at again.
const LOOK: SignedDuration = SignedDuration::from_secs(2);

/// A Tenant that has been looked at from all sides.
#[derive(Debug, Clone)]
pub struct ValidatedTenant {
    pub id: TenantId,
    /// Name of the Platform that serves it, and what the API is to serve from now on. `None` leaves what stands.
    pub config: Option<(String, TenantConfig)>,
    /// What is wrong with the Tenant itself and with what it refers to.
    pub problems: Vec<Problem>,
    /// Where its data is.
    pub database: Own,
    /// The verdicts on the objects around it.
    pub outcome: Outcome,
    /// When the passing of time changes something.
    pub next: Option<Timestamp>,
}

pub fn validate(found: &Dereferenced, now: Timestamp) -> ValidatedTenant {
    let Dereferenced {
        tenant,
        platform,
        claimants: _,
        bindings,
        providers: payment_providers,
        policies,
        unreadable_providers,
        unreadable_policies,
        secrets,
        signing_keys,
        stored: _,
        database,
    } = found;
    let mut problems = Vec::new();
    let id = TenantId::derive(&tenant.namespace().unwrap_or_default(), &tenant.name_any());
    let previous = previous(found, id);
    let platform = keep(platform.as_ref().map_err(|problem| [problem.clone()]), &mut problems);
    problems.extend(platform.and_then(|platform| unmailed(tenant, platform)));
    let key = platform.and_then(|platform| {
        let reference = sealing_key(platform);
        let key = secrets.bytes(&reference).and_then(|bytes| {
            SealingKey::new(bytes)
                .map_err(|error| Problem::unresolved(SECRET_INVALID, format!("Secret {:?}: {error}", reference.name)))
        });
        keep(key.map_err(|problem| [problem]), &mut problems)
    });
    let seal = key.as_ref().map(|key| Seal { tenant: id, key });

    let access = access::bindings(bindings.iter().map(AsRef::as_ref), now);
    let (was_paid, was_limited) =
        previous.as_ref().map(|p| (p.providers.as_slice(), p.limits.as_slice())).unwrap_or_default();
    let payments =
        providers(payment_providers.iter().map(AsRef::as_ref), secrets, seal.as_ref(), was_paid, unreadable_providers);
    let limits = limits(policies.iter().map(AsRef::as_ref), was_limited, unreadable_policies);

    // A reference that cannot be followed is the Tenant's matter too: it is not served as declared.
    for (name, verdict) in &payments.verdicts {
        problems.extend(
            verdict.problems.iter().filter(|problem| problem.condition == crds::conditions::RESOLVED_REFS).map(
                |problem| Problem {
                    message: format!("PaymentProvider {name:?}: {}", problem.message),
                    ..problem.clone()
                },
            ),
        );
    }

    let name = keep(
        TenantName::new(tenant.name_any())
            .map_err(|error| [Problem::refused(INVALID, format!("metadata.name: {error}"))]),
        &mut problems,
    );
    let hostnames = hostnames(found, &mut problems);
    let was_known = previous.as_ref().map(|p| p.auth.identity_providers.as_slice()).unwrap_or_default();
    let identity_providers =
        seal.as_ref().map(|seal| identity_providers(&tenant.spec.auth, secrets, seal, was_known, &mut problems));
    let signing_keys_sealed = seal.as_ref().and_then(|seal| keys(found, seal, previous.as_ref(), &mut problems));
    // Rows that were written into shared tables stay there; a tenant that never was there does not begin in them.
    let sealed = seal.as_ref().and_then(|seal| own_database(database, seal, previous.as_ref(), &mut problems));
    let shared = tenant.spec.isolation.database == DatabaseIsolation::RowLevelSecurity || is_in_shared_tables(found);
    let placed = shared || sealed.is_some();
    let config = match (platform, name, signing_keys_sealed) {
        (Some(platform), Some(name), Some(signing_keys)) if placed => {
            let auth = auth(&tenant.spec.auth, signing_keys, identity_providers.unwrap_or_default());
            let mut config = TenantConfig { hostnames, auth, ..declared(tenant, id, name) };
            config.bindings = access.entries;
            config.providers = payments.entries;
            config.limits = limits.entries;
            config.database = sealed.filter(|_| !shared);
            config.normalize();
            Some((platform.name_any(), config))
        }
        _ => None,
    };
    let expiries =
        bindings.iter().filter_map(|binding| binding.spec.expires_at.as_ref()).map(|at| at.0).filter(|at| *at > now);
    ValidatedTenant {
        id,
        config,
        problems,
        database: database.clone(),
        next: expiries.chain(signing_keys.next).chain(look_again(database, now)).min(),
        outcome: Outcome {
            generation: tenant.metadata.generation,
            serving: None,
            bindings: access.verdicts,
            providers: payments.verdicts,
            policies: limits.verdicts,
        },
    }
}

/// Whether the tenant was served from the shared database: its rows do not move by themselves.
pub fn is_in_shared_tables(found: &Dereferenced) -> bool {
    let id = TenantId::derive(&found.tenant.namespace().unwrap_or_default(), &found.tenant.name_any());
    previous(found, id).is_some_and(|previous| previous.database.is_none())
}

/// The address of the tenant's database, sealed; the one of before while there is no other.
fn own_database(
    database: &Own,
    seal: &Seal<'_>,
    previous: Option<&TenantConfig>,
    problems: &mut Vec<Problem>,
) -> Option<OwnDatabase> {
    let Own::Ready { uri, .. } = database else { return previous.and_then(|previous| previous.database.clone()) };
    let sealed = seal.key.seal(seal.tenant, OwnDatabase::SEAL_FIELD, uri);
    let sealed = sealed.map_err(|error| [Problem::refused(INVALID, error.to_string())]);
    keep(sealed, problems).map(|uri| OwnDatabase { uri })
}

/// A database on its way is looked at again: not everything that makes it tells of itself.
fn look_again(database: &Own, now: Timestamp) -> Option<Timestamp> {
    matches!(database, Own::Waiting { .. }).then(|| now.saturating_add(LOOK).unwrap_or(now))
}

/// The document that stands, if it is this tenant's and whole.
fn previous(found: &Dereferenced, id: TenantId) -> Option<TenantConfig> {
    let text = found.stored.as_ref()?.data.as_ref()?.get(DOCUMENT_KEY)?;
    codec::decode(text).ok().map(|(_, config)| config).filter(|config| config.id == id)
}

/// What the Tenant asks for and cannot be done without mail.
fn unmailed(tenant: &Tenant, platform: &Platform) -> Option<Problem> {
    let wanted = tenant.spec.auth.email_verification == EmailVerification::Required;
    (wanted && platform.spec.mail.is_none()).then(|| {
        let name = platform.name_any();
        Problem::refused(
            MAIL_NOT_CONFIGURED,
            format!(
                "spec.auth.emailVerification: Required, and Platform {name:?} sends no mail: nobody can register, and who has not verified \
                 their address yet cannot sign in. Name a mail server in that Platform's spec.mail.smtp, or say Optional here"
            ),
        )
    })
}

/// The hostnames that the tenant holds. Of two Tenants that ask for one, the older holds it.
fn hostnames(found: &Dereferenced, problems: &mut Vec<Problem>) -> Vec<Hostname> {
    let tenant = &found.tenant;
    let mut held = Vec::new();
    for hostname in &tenant.spec.hostnames {
        let holder = found.claimants.iter().find(|claimant| claimant.spec.hostnames.contains(hostname));
        match (Hostname::new(hostname), holder) {
            (Err(error), _) => problems.push(Problem::refused(INVALID, format!("spec.hostnames: {error}"))),
            (Ok(_), Some(holder)) if holder.name_any() != tenant.name_any() => problems.push(Problem::refused(
                CONFLICTED,
                format!(
                    "spec.hostnames: {hostname:?} is held by the older Tenant {:?}: remove it from one of the two",
                    holder.name_any()
                ),
            )),
            (Ok(hostname), _) => held.push(hostname),
        }
    }
    held
}

/// The tenant's own words, without what comes from other objects.
fn declared(tenant: &Tenant, id: TenantId, name: TenantName) -> TenantConfig {
    let TenantSpec {
        platform_ref: _,
        display_name: _,
        hostnames: _,
        plan,
        suspended,
        deletion_policy: _,
        deletion_protection: _,
        isolation: _,
        api,
        auth: _,
        cors,
        branding,
        quotas,
    } = &tenant.spec;
    TenantConfig {
        display_name: tenant.display_name().to_owned(),
        plan: Some(plan.clone()).filter(|plan| !plan.is_empty()),
        state: if *suspended { TenantState::Suspended } else { TenantState::Active },
        dialect: api.dialect,
        cors: Cors { allowed_origins: cors.allowed_origins.clone() },
        branding: Branding {
            product_name: branding.product_name.clone(),
            frontend_url: branding.frontend_url.clone(),
            mail_from: branding.mail_from.clone(),
        },
        quotas: Quotas {
            users: quotas.users,
            storage_bytes: quotas.storage_bytes,
            requests_per_day: quotas.requests_per_day,
        },
        ..TenantConfig::new(id, name)
    }
}

/// The signing keys, sealed: the operator's own, or the one that the tenant brings; the last good ones while that one
/// cannot be used. `None` where there is none at all, and so nobody could sign in.
fn keys(
    found: &Dereferenced,
    seal: &Seal<'_>,
    previous: Option<&TenantConfig>,
    problems: &mut Vec<Problem>,
) -> Option<Vec<SigningKey>> {
    let signing = &found.tenant.spec.auth.signing;
    let brought = signing.secret_ref.as_ref().map(|reference| {
        let key = match signing.algorithm {
            SigningAlgorithm::HS256 => "secret",
            _ => "private.pem",
        };
        let reference = SecretKeyRef::new(&reference.name, key);
        found.secrets.text(&reference).map(|text| (signing.algorithm, reference, text))
    });
    let made = found.signing_keys.live.iter().map(|key| {
        let reference = SecretKeyRef::new(key.secret.name_any(), key.data_key());
        let secrets = [(reference.name.clone(), Some(key.secret.clone()))]
            .into_iter()
            .collect::<crate::render::secrets::Secrets>();
        secrets.text(&reference).map(|text| (key.algorithm, reference, text))
    });
    let sealed = brought.map_or_else(|| made.collect(), |brought| vec![brought]).into_iter().map(|key| {
        let (algorithm, SecretKeyRef { name, key }, text) = key?;
        check(algorithm, &text)
            .map_err(|why| Problem::unresolved(SECRET_INVALID, format!("Secret {name:?}, key {key:?}: {why}")))?;
        let sealed = seal.key.seal(seal.tenant, &SigningKey::seal_field(&name), &text);
        let key = sealed.map_err(|error| Problem::refused(INVALID, error.to_string()))?;
        Ok(SigningKey { id: name, algorithm, key })
    });
    let mut keys: Vec<_> =
        sealed.filter_map(|key: Result<_, Problem>| keep(key.map_err(|problem| [problem]), problems)).collect();
    if keys.is_empty() {
        let opens = |key: &&SigningKey| seal.key.open(seal.tenant, &SigningKey::seal_field(&key.id), &key.key).is_ok();
        keys = previous.iter().flat_map(|previous| &previous.auth.signing_keys).filter(opens).cloned().collect();
    }
    (!keys.is_empty()).then_some(keys)
}

/// Whether this text can be a key of the algorithm. The answer never quotes it.
fn check(algorithm: SigningAlgorithm, text: &contract::Secret) -> Result<(), String> {
    use jsonwebtoken::EncodingKey;
    let pem = text.expose().as_bytes();
    let parsed = match algorithm {
        SigningAlgorithm::HS256 if pem.len() < 32 => {
            return Err(format!(
                "the shared secret has {} bytes of at least 32: make it with `openssl rand -base64 48`",
                pem.len()
            ));
        }
        SigningAlgorithm::HS256 => return Ok(()),
        SigningAlgorithm::EdDSA => EncodingKey::from_ed_pem(pem),
        SigningAlgorithm::ES256 => EncodingKey::from_ec_pem(pem),
        SigningAlgorithm::RS256 => EncodingKey::from_rsa_pem(pem),
    };
    parsed.map(drop).map_err(|_| {
        format!(
            "no PKCS#8 PEM of a private key for {algorithm:?}: store one that begins with -----BEGIN PRIVATE KEY-----"
        )
    })
}
