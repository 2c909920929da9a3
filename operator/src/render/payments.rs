//! PaymentProviders → [`Provider`]s, their keys sealed.
//!
//! A provider whose Secret is missing, lacks a key or holds one of the wrong mode keeps the entry that the tenant's
//! document has of it: payments go on with the last good credentials while its conditions say what is wrong. An entry is
//! kept only while it still opens under the platform's sealing key. A deleted provider has none; a disabled one takes no new
//! payments, and what its webhooks say of earlier ones counts.

use std::collections::BTreeSet;

use contract::{
    Currency, Secret, TenantId,
    payments::{Account, Mode, Provider},
    seal::{SealError, Sealed, SealingKey},
};
use crds::{
    PaymentProvider, SecretKeyRef,
    conditions::reasons::{CONFLICTED, INVALID, MODE_MISMATCH, SECRET_INVALID},
    payment_provider::{Cryptomus, PaymentProviderSpec, ProviderType, Stripe},
};
use kube::ResourceExt;

use super::{
    problem::{Checked, Problem, keep},
    secrets::Secrets,
    verdict::Part,
};

/// Where a provider's credentials came from; never what they are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    pub secret_name: String,
    pub resource_version: String,
}

/// What a credential is bound to, and by which key.
pub struct Seal<'a> {
    pub tenant: TenantId,
    pub key: &'a SealingKey,
}

/// Renders the providers of one tenant, oldest first. Without a seal nothing is rendered, but everything is judged.
///
/// `previous` are the entries of the document that stands; those of objects that are `unreadable` are kept as they are.
pub fn providers<'a>(
    objects: impl IntoIterator<Item = &'a PaymentProvider>,
    secrets: &Secrets,
    seal: Option<&Seal<'_>>,
    previous: &[Provider],
    unreadable: &BTreeSet<String>,
) -> Part<Provider, Option<Origin>> {
    let last_good =
        |name: &str| previous.iter().find(|entry| entry.name == name && seal.is_some_and(|seal| opens(entry, seal)));
    let mut part = Part::default();
    part.entries.extend(unreadable.iter().filter_map(|name| last_good(name)).cloned());
    let mut default = part.entries.iter().find(|entry| entry.default).map(|entry| entry.name.clone());
    for object in objects {
        let (name, spec) = (object.name_any(), &object.spec);
        let mut problems = Vec::new();
        let credentials = keep(credentials(spec, secrets), &mut problems);
        let rendered = match (&credentials, seal) {
            (Some(credentials), Some(seal)) => keep(provider(object, credentials, seal), &mut problems),
            _ => None,
        };
        let mut entry = rendered.or_else(|| last_good(&name).cloned());
        if let Some(entry) = &mut entry {
            let claims = spec.default && spec.enabled;
            entry.enabled = spec.enabled;
            entry.default = claims && default.is_none();
            match &default {
                Some(holder) if claims => problems.push(Problem::refused(
                    CONFLICTED,
                    format!("PaymentProvider {holder:?} is older and the tenant's default: set spec.default to false in one of the two. Until then this one serves payments that name it"),
                )),
                _ if claims => default = Some(name),
                _ => {}
            }
        }
        part.add(object, entry, problems).detail = origin(spec, secrets);
    }
    part
}

/// What was read from the Secrets and found to be of the right kind.
enum Credentials {
    Stripe { secret_key: Secret, webhook_signing_secrets: Vec<Secret> },
    Cryptomus { payment_key: Secret, payout_key: Option<Secret> },
}

fn credentials(spec: &PaymentProviderSpec, secrets: &Secrets) -> Checked<Credentials> {
    let mut problems = Vec::new();
    let mut read = |reference: &SecretKeyRef, check: &dyn Fn(&Secret) -> Result<(), Problem>| {
        let value = secrets.text(reference).and_then(|value| check(&value).map(|()| value));
        keep(value.map_err(|problem| [problem]), &mut problems)
    };
    let credentials = match (spec.kind, &spec.stripe, &spec.cryptomus) {
        (ProviderType::Stripe, Some(stripe), _) => {
            let key = &stripe.secret_key_secret_ref;
            let secret_key = read(key, &|value| stripe_key(key, spec.mode, value));
            let webhooks = stripe
                .webhook_signing_secret_refs
                .iter()
                .map(|reference| read(reference, &|value| signing_secret(reference, value)));
            let webhooks: Vec<_> = webhooks.collect();
            secret_key.zip(webhooks.into_iter().collect()).map(|(secret_key, webhook_signing_secrets)| {
                Credentials::Stripe { secret_key, webhook_signing_secrets }
            })
        }
        (ProviderType::Cryptomus, _, Some(cryptomus)) => {
            let payment_key = read(&cryptomus.payment_key_secret_ref, &|_| Ok(()));
            let payout_key = cryptomus.payout_key_secret_ref.as_ref().map(|reference| read(reference, &|_| Ok(())));
            match (payment_key, payout_key) {
                (Some(payment_key), None) => Some(Credentials::Cryptomus { payment_key, payout_key: None }),
                (Some(payment_key), Some(Some(payout_key))) => {
                    Some(Credentials::Cryptomus { payment_key, payout_key: Some(payout_key) })
                }
                _ => None,
            }
        }
        (kind, ..) => {
            let message = format!(
                "spec.type is {kind:?} and the settings of that name are missing: add spec.{}",
                format!("{kind:?}").to_lowercase()
            );
            problems.push(Problem::refused(INVALID, message));
            None
        }
    };
    credentials.filter(|_| problems.is_empty()).ok_or(problems)
}

/// A secret or restricted key of the provider's mode. The message shows the kind of key and nothing of the key itself.
fn stripe_key(SecretKeyRef { name, key }: &SecretKeyRef, mode: Mode, value: &Secret) -> Result<(), Problem> {
    let (wanted, other) = match mode {
        Mode::Test => ("test", "live"),
        Mode::Live => ("live", "test"),
    };
    let kind = ["sk", "rk"]
        .into_iter()
        .find_map(|kind| value.expose().strip_prefix(kind)?.strip_prefix('_').map(|rest| (kind, rest)));
    match kind {
        Some((_, rest)) if rest.strip_prefix(wanted).is_some_and(|rest| rest.len() > 1 && rest.starts_with('_')) => {
            Ok(())
        }
        Some((kind, rest)) if rest.starts_with(other) => Err(Problem::unresolved(
            MODE_MISMATCH,
            format!(
                "Secret {name:?}, key {key:?} holds a {other} key ({kind}_{other}_…) and spec.mode is {mode:?}: store the {wanted} key, or set spec.mode to the other"
            ),
        )),
        _ => Err(Problem::unresolved(
            SECRET_INVALID,
            format!(
                "Secret {name:?}, key {key:?} does not hold a Stripe secret key: store the one that begins with sk_{wanted}_ or rk_{wanted}_"
            ),
        )),
    }
}

fn signing_secret(SecretKeyRef { name, key }: &SecretKeyRef, value: &Secret) -> Result<(), Problem> {
    if value.expose().strip_prefix("whsec_").is_some_and(|rest| !rest.is_empty()) {
        return Ok(());
    }
    let message = format!(
        "Secret {name:?}, key {key:?} does not hold a webhook signing secret: store the one that begins with whsec_"
    );
    Err(Problem::unresolved(SECRET_INVALID, message))
}

fn provider(object: &PaymentProvider, credentials: &Credentials, seal: &Seal<'_>) -> Checked<Provider> {
    let PaymentProviderSpec {
        tenant_ref: _,
        kind: _,
        mode,
        enabled,
        default,
        currencies,
        request_timeout_seconds,
        api_base_url,
        stripe,
        cryptomus,
    } = &object.spec;
    let name = object.name_any();
    let mut problems = Vec::new();
    let refused = |message: String| [Problem::refused(INVALID, message)];
    let currencies = currencies.iter().filter_map(|code| {
        keep(Currency::new(code).map_err(|error| refused(format!("spec.currencies: {error}"))), &mut problems)
    });
    let mut currencies: Vec<_> = currencies.collect();
    currencies.sort();
    let sealed = account(&name, *mode, stripe.as_ref(), cryptomus.as_ref(), credentials, seal);
    let account = keep(sealed.map_err(|error| refused(error.to_string())), &mut problems).flatten();
    let entry = account.map(|account| Provider {
        name,
        mode: *mode,
        enabled: *enabled,
        default: *default,
        currencies,
        request_timeout_seconds: *request_timeout_seconds,
        api_base_url: api_base_url.clone(),
        account,
    });
    entry.filter(|_| problems.is_empty()).ok_or(problems)
}

fn account(
    name: &str,
    mode: Mode,
    stripe: Option<&Stripe>,
    cryptomus: Option<&Cryptomus>,
    credentials: &Credentials,
    seal: &Seal<'_>,
) -> Result<Option<Account>, SealError> {
    let seal = |field: &str, value: &Secret| seal.key.seal(seal.tenant, &Provider::seal_field(name, field), value);
    Ok(match (credentials, stripe, cryptomus) {
        (Credentials::Stripe { secret_key, webhook_signing_secrets }, Some(stripe), _) => Some(Account::Stripe {
            secret_key: seal("secretKey", secret_key)?,
            webhook_signing_secrets: webhook_signing_secrets
                .iter()
                .enumerate()
                .map(|(index, value)| seal(&format!("webhookSigningSecrets/{index}"), value))
                .collect::<Result<_, _>>()?,
            api_version: stripe.api_version.clone(),
            webhook_tolerance_seconds: stripe.webhook_tolerance_seconds,
        }),
        (Credentials::Cryptomus { payment_key, payout_key }, _, Some(cryptomus)) => {
            let mut allowed_source_cidrs = match mode {
                Mode::Live => cryptomus.allowed_source_cidrs.clone(),
                Mode::Test => Vec::new(),
            };
            allowed_source_cidrs.sort();
            Some(Account::Cryptomus {
                merchant_uuid: cryptomus.merchant_uuid.to_lowercase(),
                payment_key: seal("paymentKey", payment_key)?,
                payout_key: payout_key.as_ref().map(|key| seal("payoutKey", key)).transpose()?,
                allowed_source_cidrs,
            })
        }
        _ => None,
    })
}

/// Whether every credential of an entry opens under the key of today.
fn opens(entry: &Provider, seal: &Seal<'_>) -> bool {
    let opens = |field: &str, sealed: &Sealed| {
        seal.key.open(seal.tenant, &Provider::seal_field(&entry.name, field), sealed).is_ok()
    };
    match &entry.account {
        Account::Stripe { secret_key, webhook_signing_secrets, .. } => {
            let mut webhooks = webhook_signing_secrets.iter().enumerate();
            opens("secretKey", secret_key)
                && webhooks.all(|(index, sealed)| opens(&format!("webhookSigningSecrets/{index}"), sealed))
        }
        Account::Cryptomus { payment_key, payout_key, .. } => {
            opens("paymentKey", payment_key) && payout_key.as_ref().is_none_or(|sealed| opens("payoutKey", sealed))
        }
    }
}

/// The Secret of the provider's own key, as it was read.
fn origin(spec: &PaymentProviderSpec, secrets: &Secrets) -> Option<Origin> {
    let reference = spec.secret_keys().next()?;
    let secret = secrets.get(&reference.name)?;
    Some(Origin {
        secret_name: reference.name.clone(),
        resource_version: secret.resource_version().unwrap_or_default(),
    })
}
