//! Which key signs, which only verify and which verify nothing any more, and when that changes: pure.

use std::sync::Arc;

use contract::{
    auth::SigningAlgorithm,
    names::{ANNOTATION_ROTATE_SIGNING_KEY, signing_key_secret},
};
use crds::{Tenant, tenant::SigningKeyInUse};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use sha2::{Digest, Sha256};

use super::LABEL;
use crate::{note::Note, stores::Kept};

/// How long after its last token's end a key still verifies: clocks differ.
const LEEWAY: SignedDuration = SignedDuration::from_secs(120);

#[derive(Debug)]
pub(super) struct Plan {
    /// Name of the Secret that signs, be it there or not.
    pub(super) name: String,
    pub(super) verifying: Vec<(SigningAlgorithm, String)>,
    pub(super) retired: Vec<Arc<Note<Secret>>>,
    pub(super) next: Option<Timestamp>,
}

pub(super) fn plan(
    tenant: &Tenant,
    in_use: Option<&SigningKeyInUse>,
    known: Vec<Arc<Note<Secret>>>,
    now: Timestamp,
) -> Plan {
    let auth = &tenant.spec.auth;
    let wanted = auth.signing.algorithm;
    let base = first_name(tenant);
    let created = |secret: &Note<Secret>| secret.created().unwrap_or(now);
    let signs = |name: &str| in_use.is_some_and(|in_use| in_use.secret_name == name);
    let mut keys: Vec<_> = known
        .into_iter()
        .filter(|secret| !secret.is_deleting() && secret.is_owned_by(tenant))
        .filter_map(|secret| Some((algorithm(secret.label(LABEL)?)?, secret)))
        .collect();
    // Newest first; of two that were made in one second the one that signs.
    let name = |secret: &Note<Secret>| secret.id().1.to_owned();
    keys.sort_by_key(|(_, secret)| std::cmp::Reverse((created(secret), signs(secret.id().1), name(secret))));
    let newest =
        keys.iter().find(|(algorithm, _)| *algorithm == wanted).map(|(_, secret)| (name(secret), created(secret)));
    let due = |born: Timestamp| {
        let age = auth.signing.rotate_after_seconds?;
        born.checked_add(SignedDuration::from_secs(age.into())).ok()
    };
    let asked = rotation(tenant).filter(|rotation| in_use.and_then(|i| i.rotation.as_deref()) != Some(*rotation));
    let born = |name: &str| keys.iter().find(|(_, key)| key.id().1 == name).map_or(now, |(_, key)| created(key));
    let (name, since) = match (newest, asked.map(|rotation| successor(tenant, rotation))) {
        (_, Some(asked)) => (asked.clone(), born(&asked)),
        (None, None) => (base, now),
        (Some((name, made)), None) => match due(made) {
            Some(due) if due <= now => (format!("{base}-{}", due.as_second()), now),
            _ => (name, made),
        },
    };
    // Tokens of the keys before were signed until the new one began to sign, at the latest. That is said by the status;
    // an operator that kept none began at once.
    let signs_since = match in_use {
        None => Some(since),
        Some(in_use) if in_use.secret_name == name => Some(in_use.since.0.max(since)),
        Some(_) => None,
    };
    let lifetime = SignedDuration::from_secs(auth.access_token_seconds.into()) + LEEWAY;
    let until = signs_since.map(|since| since.checked_add(lifetime).unwrap_or(Timestamp::MAX));
    let (retired, verifying): (Vec<_>, Vec<_>) = keys
        .into_iter()
        .filter(|(_, secret)| secret.id().1 != name)
        .partition(|_| until.is_some_and(|until| until <= now));
    let next = due(since).into_iter().chain(until.filter(|_| !verifying.is_empty())).min();
    Plan {
        name,
        verifying: verifying.iter().map(|(algorithm, secret)| (*algorithm, secret.id().1.to_owned())).collect(),
        retired: retired.into_iter().map(|(_, secret)| secret).collect(),
        next,
    }
}

fn algorithm(label: &str) -> Option<SigningAlgorithm> {
    use SigningAlgorithm::{ES256, EdDSA, RS256};
    [EdDSA, ES256, RS256].into_iter().find(|algorithm| format!("{algorithm:?}") == label)
}

/// What the annotation that asks for a new key says.
pub(super) fn rotation(tenant: &Tenant) -> Option<&str> {
    tenant.annotations().get(ANNOTATION_ROTATE_SIGNING_KEY).map(String::as_str).filter(|text| !text.is_empty())
}

/// Name of the key that an annotation asks for.
pub(super) fn successor(tenant: &Tenant, rotation: &str) -> String {
    format!("{}-{}", first_name(tenant), hex::encode(&Sha256::digest(rotation)[..4]))
}

/// Name of the first key of the wanted algorithm.
pub(super) fn first_name(tenant: &Tenant) -> String {
    match tenant.spec.auth.signing.algorithm {
        SigningAlgorithm::EdDSA => signing_key_secret(&tenant.name_any()),
        other => format!("{}-{}", signing_key_secret(&tenant.name_any()), format!("{other:?}").to_lowercase()),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use kube::api::{ObjectMeta, PartialObjectMeta};

    use super::{super::in_use, *};
    use crate::kube_ext::owner;

    fn tenant() -> Tenant {
        let mut tenant = Tenant::new_minimal("acme", "acme.example");
        tenant.metadata.uid = Some("u-1".into());
        tenant.spec.auth.signing.rotate_after_seconds = Some(3600);
        tenant.spec.auth.access_token_seconds = 900;
        tenant
    }

    fn metadata(name: &str, algorithm: &str, born: i64) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.into()),
            labels: Some([(LABEL.to_owned(), algorithm.to_owned())].into()),
            owner_references: owner(&tenant()).map(|owner| vec![owner]),
            creation_timestamp: Some(Time(at(born))),
            ..ObjectMeta::default()
        }
    }

    fn note(metadata: ObjectMeta) -> Arc<Note<Secret>> {
        Arc::new(PartialObjectMeta { metadata, ..PartialObjectMeta::default() }.into())
    }

    fn key(name: &str, algorithm: &str, born: i64) -> Arc<Note<Secret>> {
        note(metadata(name, algorithm, born))
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_key_that_is_old_enough_gets_a_successor_and_verifies_until_its_last_token_is_over() {
        let first = || key("acme-signing-key", "EdDSA", 0);
        let fresh = plan(&tenant(), None, vec![], at(0));
        assert_eq!((fresh.name.as_str(), fresh.next), ("acme-signing-key", Some(at(3600))));
        let young = plan(&tenant(), None, vec![first()], at(3599));
        assert_eq!((young.name.as_str(), young.verifying.len()), ("acme-signing-key", 0));
        let due = plan(&tenant(), None, vec![first()], at(3601));
        assert_eq!(due.name, "acme-signing-key-3600");
        assert_eq!(due.verifying, [(SigningAlgorithm::EdDSA, "acme-signing-key".to_owned())]);
        let both = || vec![first(), key("acme-signing-key-3600", "EdDSA", 3601)];
        let after = plan(&tenant(), None, both(), at(4000));
        assert_eq!(
            (after.name.as_str(), after.verifying.len(), after.next),
            ("acme-signing-key-3600", 1, Some(at(3601 + 900 + 120)))
        );
        let over = plan(&tenant(), None, both(), at(3601 + 900 + 120));
        assert_eq!((over.verifying.len(), over.retired.len(), over.next), (0, 1, Some(at(7201))));
    }

    #[test]
    fn another_algorithm_begins_with_a_key_of_its_own() {
        let mut tenant = tenant();
        tenant.spec.auth.signing.algorithm = SigningAlgorithm::ES256;
        let plan = plan(&tenant, None, vec![key("acme-signing-key", "EdDSA", 0)], at(10));
        assert_eq!(plan.name, "acme-signing-key-es256");
        assert_eq!(plan.verifying, [(SigningAlgorithm::EdDSA, "acme-signing-key".to_owned())]);
    }

    #[test]
    fn a_secret_that_belongs_to_an_older_tenant_of_the_name_is_not_ours() {
        let stranger = ObjectMeta { owner_references: None, ..metadata("acme-signing-key-9", "EdDSA", 5) };
        assert_eq!(plan(&tenant(), None, vec![note(stranger)], at(10)).name, "acme-signing-key");
    }

    fn signing(name: &str, since: i64, rotation: Option<&str>) -> SigningKeyInUse {
        SigningKeyInUse { secret_name: name.into(), since: Time(at(since)), rotation: rotation.map(str::to_owned) }
    }

    #[test]
    fn an_annotation_asks_for_one_new_key_and_no_more() {
        let mut tenant = tenant();
        tenant.annotations_mut().insert(ANNOTATION_ROTATE_SIGNING_KEY.into(), "leaked".into());
        let old = || key("acme-signing-key", "EdDSA", 0);
        let before = signing("acme-signing-key", 0, None);
        let asked = plan(&tenant, Some(&before), vec![old()], at(10));
        assert!(asked.name.starts_with("acme-signing-key-"), "{}", asked.name);
        // While it does not sign, nothing is retired, however long that takes.
        let both = || vec![old(), key(&asked.name, "EdDSA", 10)];
        let waiting = plan(&tenant, Some(&before), both(), at(3_000));
        assert_eq!((waiting.name.as_str(), waiting.verifying.len(), waiting.retired.len()), (&*asked.name, 1, 0));
        let after = in_use(&tenant, Some(&before), &asked.name, at(3_000));
        assert_eq!(after, signing(&asked.name, 3_000, Some("leaked")));
        let done = plan(&tenant, Some(&after), both(), at(3_001));
        assert_eq!((done.name.as_str(), done.next), (&*asked.name, Some(at(10 + 3_600))));
        // The last token of the old key was signed when the new one began, not when it was made.
        let late = 3_000 + 900 + 120;
        tenant.spec.auth.signing.rotate_after_seconds = None;
        assert_eq!(plan(&tenant, Some(&after), both(), at(late - 1)).retired.len(), 0);
        assert_eq!(plan(&tenant, Some(&after), both(), at(late)).retired.len(), 1);
    }
}
