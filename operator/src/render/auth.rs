//! `spec.auth` → [`Auth`], the keys that sign, and the providers of identity.

use contract::auth::{Argon2, Auth, IdentityProvider, PasswordPolicy, SigningKey};
use crds::{
    conditions::reasons::INVALID,
    tenant::{self as wish, AuthPolicy},
};

use super::{
    payments::Seal,
    problem::{Problem, keep},
    secrets::Secrets,
};

/// The policy as the API follows it, with the keys that it signs and verifies with.
pub fn auth(policy: &AuthPolicy, signing_keys: Vec<SigningKey>, identity_providers: Vec<IdentityProvider>) -> Auth {
    let AuthPolicy {
        access_token_seconds,
        refresh_token_seconds,
        refresh_reuse_seconds,
        password,
        email_verification,
        mfa,
        identity_providers: _,
        signing: _,
    } = policy;
    let wish::PasswordPolicy { min_length, character_classes, breached_check, argon2 } = password;
    let wish::Argon2 { memory_kib, iterations, parallelism } = argon2;
    let mut character_classes = character_classes.clone();
    character_classes.sort();
    character_classes.dedup();
    Auth {
        access_token_seconds: *access_token_seconds,
        refresh_token_seconds: *refresh_token_seconds,
        refresh_reuse_seconds: *refresh_reuse_seconds,
        password: PasswordPolicy {
            min_length: *min_length,
            character_classes,
            breached_check: *breached_check,
            argon2: Argon2 { memory_kib: *memory_kib, iterations: *iterations, parallelism: *parallelism },
        },
        email_verification: *email_verification,
        mfa: *mfa,
        identity_providers,
        signing_keys,
    }
}

/// The providers of identity, their client secrets sealed. One whose Secret cannot be used keeps the entry that the tenant's
/// document has of it, as `previous` tells, as far as that still opens: who signs in with it goes on doing so.
pub fn identity_providers(
    policy: &AuthPolicy,
    secrets: &Secrets,
    seal: &Seal<'_>,
    previous: &[IdentityProvider],
    problems: &mut Vec<Problem>,
) -> Vec<IdentityProvider> {
    let providers = policy.identity_providers.iter().filter_map(|provider| {
        let rendered = identity_provider(provider, secrets, seal);
        keep(rendered.map_err(|problem| [problem]), problems).or_else(|| {
            let last_good = previous.iter().find(|entry| {
                entry.name == provider.name && entry.issuer == provider.issuer && entry.client_id == provider.client_id
            });
            last_good.filter(|entry| opens(entry, seal)).cloned()
        })
    });
    let mut providers: Vec<_> = providers.collect();
    providers.sort_by(|a, b| a.name.cmp(&b.name));
    providers
}

fn identity_provider(
    provider: &wish::IdentityProvider,
    secrets: &Secrets,
    seal: &Seal<'_>,
) -> Result<IdentityProvider, Problem> {
    let wish::IdentityProvider {
        name,
        display_name,
        issuer,
        client_id,
        client_secret_ref,
        scopes,
        new_accounts,
        existing_accounts,
    } = provider;
    let at = |problem: Problem| Problem {
        message: format!("spec.auth.identityProviders: {name:?}: {}", problem.message),
        ..problem
    };
    let client_secret = match client_secret_ref {
        None => None,
        Some(reference) => {
            let secret = secrets.text(reference).map_err(at)?;
            let sealed = seal.key.seal(seal.tenant, &IdentityProvider::seal_field(name), &secret);
            Some(sealed.map_err(|error| at(Problem::refused(INVALID, error.to_string())))?)
        }
    };
    Ok(IdentityProvider {
        name: name.clone(),
        display_name: display_name.clone().unwrap_or_else(|| name.clone()),
        issuer: issuer.clone(),
        client_id: client_id.clone(),
        client_secret,
        scopes: scopes.iter().filter(|scope| *scope != "openid").cloned().collect(),
        new_accounts: *new_accounts,
        existing_accounts: *existing_accounts,
    })
}

fn opens(entry: &IdentityProvider, seal: &Seal<'_>) -> bool {
    let open = |sealed| seal.key.open(seal.tenant, &IdentityProvider::seal_field(&entry.name), sealed).is_ok();
    entry.client_secret.as_ref().is_none_or(open)
}
