//! From YAML to the document and the verdicts, through the real steps.

use contract::{
    auth::{EmailVerification, IdentityProvider},
    limits::Limit,
    names::ANNOTATION_REVISION,
    payments::{Account, Provider},
    seal::Sealed,
};
use crds::conditions::{ACCEPTED, RESOLVED_REFS, reasons};

use super::{
    fixtures::{Scene, sealing_key, tenant_id},
    validate::validate,
};
use crate::{kube_ext::Prepared, render::problem::summary};

const STRIPE: &str = "
kind: Secret
metadata: {name: acme-stripe, resourceVersion: '41'}
stringData: {secret-key: sk_test_canary1, webhook: whsec_canary2, live: sk_live_canary3}
---
kind: PaymentProvider
metadata: {name: stripe, generation: 1, creationTimestamp: 2026-02-01T00:00:00Z}
spec:
  tenantRef: {name: acme}
  type: Stripe
  mode: Test
  default: true
  currencies: [USD, EUR]
  stripe:
    secretKeySecretRef: {name: acme-stripe, key: secret-key}
    webhookSigningSecretRefs: [{name: acme-stripe, key: webhook}]
";

const ACCESS: &str = "
kind: RoleBinding
metadata: {name: vendors, generation: 1, creationTimestamp: 2026-02-01T00:00:00Z}
spec:
  tenantRef: {name: acme}
  roleRef: {name: vendor}
  subjects: [{kind: User, name: Bob@Acme.example}, {kind: Group, name: Sales}]
---
kind: RoleBinding
metadata: {name: auditors, generation: 1, creationTimestamp: 2026-02-02T00:00:00Z}
spec:
  tenantRef: {name: acme}
  roleRef: {name: auditor}
  rules: [{resources: [payments, users], verbs: [read]}]
  subjects: [{kind: ApiKey, name: export}]
  expiresAt: 2027-01-01T00:00:00Z
  when: request.ip.startsWith('10.')
";

const LIMITS: &str = "
kind: RateLimitPolicy
metadata: {name: house, generation: 1, creationTimestamp: 2026-02-01T00:00:00Z}
spec:
  targetRef: {kind: Platform, name: main}
  defaults:
    strategy: merge
    limits:
      everything: {counters: [SourceIP], rates: [{limit: 1000, window: 1m}]}
      per-user: {counters: [User], rates: [{limit: 100, window: 1m}]}
---
kind: RateLimitPolicy
metadata: {name: acme, generation: 1, creationTimestamp: 2026-02-02T00:00:00Z}
spec:
  targetRef: {kind: Tenant, name: acme}
  limits:
    per-user:
      match: {methods: [POST], paths: [{value: /payments}]}
      when: [{predicate: \"!('ADMIN' in auth.roles)\"}]
      counters: [User, 'Header:X-Device']
      rates: [{limit: 20, window: 1m}, {limit: 200, window: 1h30m}]
      failureMode: Closed
";

fn full() -> Scene {
    Scene::new(&[STRIPE, ACCESS, LIMITS].join("---\n"))
}

fn names<T>(entries: &[T], name: fn(&T) -> &str) -> Vec<String> {
    entries.iter().map(|entry| name(entry).to_owned()).collect()
}

fn limit_names(scene: &Scene) -> Vec<String> {
    names(&scene.config().limits, |limit: &Limit| &limit.name)
}

fn secret_key(provider: &Provider) -> String {
    let Account::Stripe { secret_key, .. } = &provider.account else { panic!("not Stripe") };
    open("stripe", secret_key)
}

fn open(provider: &str, sealed: &Sealed) -> String {
    let field = Provider::seal_field(provider, "secretKey");
    sealing_key().open(tenant_id(), &field, sealed).unwrap().expose().to_owned()
}

#[test]
fn a_whole_tenant_becomes_one_document() {
    insta::assert_snapshot!(full().text());
}

#[test]
fn the_order_in_which_objects_are_met_changes_nothing() {
    let (scene, mut shuffled) = (full(), full());
    for turn in 0..shuffled.documents.len() {
        shuffled.documents.rotate_left(1);
        if turn % 2 == 0 {
            shuffled.documents.reverse();
        }
        assert_eq!(shuffled.document(), scene.document());
        assert_eq!(shuffled.validated().outcome, scene.validated().outcome);
    }
}

#[test]
fn no_credential_is_in_clear_anywhere() {
    // The live key is read where it must not be used, so that messages are looked at too.
    let scene = full().then(&STRIPE.replace("key: secret-key", "key: live"));
    let Prepared(document) = scene.document();
    let said = format!("{} {:?}", serde_json::to_string(&document).unwrap(), scene.validated());
    for canary in ["canary", "PRIVATE KEY", "MC4CAQAw"] {
        assert!(!said.contains(canary), "{canary} in {said}");
    }
    assert!(said.contains("ModeMismatch"));
}

#[test]
fn a_raised_limit_changes_the_revision_and_a_word_of_no_effect_does_not() {
    let revision =
        |scene: &Scene| scene.document().0.metadata.annotations.unwrap().remove(ANNOTATION_REVISION).unwrap();
    let before = revision(&full());
    assert_ne!(revision(&full().then(&LIMITS.replace("limit: 20,", "limit: 30,"))), before);
    assert_eq!(revision(&full().then(&LIMITS.replace("generation: 1", "generation: 2"))), before);
}

#[test]
fn a_hostname_belongs_to_the_older_tenant_and_the_younger_keeps_its_others() {
    let rival = |created: &str| {
        format!(
            "kind: Tenant\nmetadata: {{name: rival, creationTimestamp: {created}}}\nspec: {{hostnames: [acme.example]}}"
        )
    };
    let ours = "kind: Tenant\nmetadata: {name: acme, creationTimestamp: 2026-01-02T00:00:00Z}\nspec: {hostnames: [acme.example, pay.acme.example]}";
    let lost = Scene::new(&format!("{ours}\n---\n{}", rival("2026-01-01T00:00:00Z")));
    assert_eq!(names(&lost.config().hostnames, |name| name.as_str()), ["pay.acme.example"]);
    let (reason, message) = summary(&lost.validated().problems, ACCEPTED).unwrap();
    assert_eq!(reason, reasons::CONFLICTED);
    assert_eq!(
        message,
        "spec.hostnames: \"acme.example\" is held by the older Tenant \"rival\": remove it from one of the two"
    );
    let held = Scene::new(&format!("{ours}\n---\n{}", rival("2026-01-03T00:00:00Z")));
    assert_eq!(held.config().hostnames.len(), 2);
    assert_eq!(held.validated().problems, []);
    // Of equal age the name decides, and a Tenant on its way out claims nothing.
    assert_eq!(Scene::new(&format!("{ours}\n---\n{}", rival("2026-01-02T00:00:00Z"))).config().hostnames.len(), 2);
    let leaving = rival("2026-01-01T00:00:00Z, deletionTimestamp: 2026-01-04T00:00:00Z");
    assert_eq!(Scene::new(&format!("{ours}\n---\n{leaving}")).config().hostnames.len(), 2);
}

#[test]
fn a_tenant_without_one_clear_platform_keeps_what_it_has() {
    let other = "kind: Platform\nmetadata: {name: other}\nspec: {postgres: {external: {secretRef: {name: db}}}, redis: {external: {secretRef: {name: redis}}}}";
    let two = full().then(other).validated();
    assert!(two.config.is_none());
    assert_eq!(summary(&two.problems, ACCEPTED).unwrap().0, reasons::PLATFORM_AMBIGUOUS);
    let none = full().without("Platform", "main").validated();
    assert_eq!(summary(&none.problems, ACCEPTED).unwrap().0, reasons::PLATFORM_NOT_FOUND);
    // What belongs to it is judged all the same.
    assert!(none.outcome.bindings["vendors"].included);
    let keyless = full().without("Secret", "main-sealing-key").validated();
    assert!(keyless.config.is_none());
    assert!(summary(&keyless.problems, RESOLVED_REFS).unwrap().1.contains("\"main-sealing-key\" does not exist"));
}

#[test]
fn a_provider_whose_secret_cannot_be_used_keeps_its_last_good_credentials() {
    let good = full();
    let broken = [
        (good.then("").without("Secret", "acme-stripe"), reasons::SECRET_NOT_FOUND),
        (good.then(&STRIPE.replace("key: secret-key", "key: other")), reasons::SECRET_KEY_NOT_FOUND),
        (good.then(&STRIPE.replace("key: secret-key", "key: live")), reasons::MODE_MISMATCH),
        (good.then(&STRIPE.replace("mode: Test", "mode: Live")), reasons::MODE_MISMATCH),
        (good.then(&STRIPE.replace("sk_test_canary1", "pk_test_canary1")), reasons::SECRET_INVALID),
        (good.then(&STRIPE.replace("whsec_", "")), reasons::SECRET_INVALID),
    ];
    for (scene, reason) in broken {
        assert_eq!(scene.config().providers, good.config().providers, "{reason}");
        let validated = scene.validated();
        let verdict = &validated.outcome.providers["stripe"];
        assert_eq!(summary(&verdict.problems, RESOLVED_REFS).unwrap().0, reason);
        assert!(verdict.included);
        // The Tenant says so too, and names the provider.
        assert!(summary(&validated.problems, RESOLVED_REFS).unwrap().1.starts_with("PaymentProvider \"stripe\": "));
    }
    // Without a document there is nothing to keep, and a deleted provider goes.
    let never = full().without("Secret", "acme-stripe");
    assert!(never.config().providers.is_empty() && !never.validated().outcome.providers["stripe"].included);
    assert!(good.then("").without("PaymentProvider", "stripe").config().providers.is_empty());
}

#[test]
fn a_disabled_provider_stays_for_its_webhooks_and_is_nobodys_default() {
    let disabled = full().then(&STRIPE.replace("mode: Test", "mode: Test\n  enabled: false"));
    let [provider] = disabled.config().providers.try_into().unwrap();
    assert!(!provider.enabled && !provider.default);
    assert_eq!(disabled.validated().problems, []);
}

#[test]
fn what_can_no_longer_be_read_stays_as_the_document_has_it() {
    let scene = full().then("").without("PaymentProvider", "stripe").without("RateLimitPolicy", "acme");
    let mut found = scene.found("acme");
    found.unreadable_providers = ["stripe".to_owned()].into();
    found.unreadable_policies = ["acme".to_owned()].into();
    let (_, config) = validate(&found, scene.now).config.unwrap();
    assert_eq!(config.providers, full().config().providers);
    assert!(config.limits.iter().any(|limit| limit.name == "acme/per-user"));
}

#[test]
fn a_rotated_key_is_taken_up() {
    let rotated = full().then(&STRIPE.replace("sk_test_canary1", "rk_test_new"));
    assert_eq!(secret_key(&rotated.config().providers[0]), "rk_test_new");
}

#[test]
fn credentials_that_no_longer_open_are_not_kept() {
    let other_key =
        "kind: Secret\nmetadata: {name: main-sealing-key}\ndata: {key: CAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg=}";
    let rekeyed = full().then(other_key).without("Secret", "acme-stripe");
    assert!(rekeyed.config().providers.is_empty());
}

#[test]
fn the_oldest_provider_that_is_served_is_the_default() {
    let second = STRIPE.replace("name: stripe,", "name: a-second,").replace("2026-02-01", "2026-02-02");
    let both = Scene::new(&format!("{STRIPE}---\n{second}"));
    let defaults = |scene: &Scene| {
        let config = scene.config();
        config
            .providers
            .iter()
            .filter(|provider| provider.default)
            .map(|provider| provider.name.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(defaults(&both), ["stripe"]);
    assert_eq!(both.config().providers.len(), 2);
    let verdict = &both.validated().outcome.providers["a-second"];
    let (reason, message) = summary(&verdict.problems, ACCEPTED).unwrap();
    assert_eq!(reason, reasons::CONFLICTED);
    assert!(message.starts_with("PaymentProvider \"stripe\" is older and the tenant's default"), "{message}");
    assert_eq!(defaults(&both.then("").without("PaymentProvider", "stripe")), ["a-second"]);
}

#[test]
fn access_is_never_wider_than_what_is_declared_now() {
    let bindings = |scene: &Scene| names(&scene.config().bindings, |binding| &binding.name);
    let good = full();
    assert_eq!(bindings(&good), ["auditors", "vendors"]);
    assert_eq!(bindings(&good.then("").without("RoleBinding", "vendors")), ["auditors"]);
    let broken = good.then(&ACCESS.replace("request.ip.startsWith('10.')", "user.ip == '10'"));
    assert_eq!(bindings(&broken), ["vendors"]);
    let verdict = &broken.validated().outcome.bindings["auditors"];
    assert!(summary(&verdict.problems, ACCEPTED).unwrap().1.contains("speaks of \"user\""));
    let unknown = good.then(&ACCESS.replace("name: vendor}", "name: vendoor}"));
    let verdict = &unknown.validated().outcome.bindings["vendors"];
    assert!(summary(&verdict.problems, ACCEPTED).unwrap().1.contains("VENDOOR is none of the built-in roles (ADMIN,"));
    let mut later = good.then("");
    later.now = "2027-01-01T00:00:00Z".parse().unwrap();
    assert_eq!(bindings(&later), ["vendors"]);
    assert_eq!(good.validated().next, Some(later.now));
    assert_eq!(later.validated().next, None);
}

#[test]
fn a_policy_that_cannot_be_followed_keeps_its_last_good_limits() {
    let good = full();
    assert_eq!(limit_names(&good), ["acme/per-user", "house/everything"]);
    let broken = good.then(&LIMITS.replace("auth.roles", "user.roles").replace("limit: 20,", "limit: 2000,"));
    assert_eq!(broken.config().limits, good.config().limits);
    let verdict = &broken.validated().outcome.policies["acme"];
    assert!(verdict.included);
    let (_, message) = summary(&verdict.problems, ACCEPTED).unwrap();
    assert!(message.starts_with("limit \"per-user\": when[0].predicate:"), "{message}");
    let gone = good.then("").without("RateLimitPolicy", "acme");
    assert_eq!(limit_names(&gone), ["house/everything", "house/per-user"]);
}

#[test]
fn what_a_platforms_policy_displaces_is_told_to_the_displaced() {
    let outcome = full().validated().outcome;
    let house = &outcome.policies["house"].detail;
    assert_eq!(house.limits, 1);
    assert_eq!(
        house.displaced.as_ref().map(|d| (d.by.as_str(), d.limits.clone())),
        Some(("acme", vec!["per-user".to_owned()]))
    );
    assert_eq!((outcome.policies["acme"].detail.limits, &outcome.policies["acme"].detail.displaced), (1, &None));
}

#[test]
fn of_two_policies_on_one_target_the_older_counts() {
    let younger =
        LIMITS.replace("name: acme, generation", "name: a-younger, generation").replace("2026-02-02", "2026-02-03");
    let both = Scene::new(&format!("{LIMITS}---\n{younger}"));
    assert_eq!(limit_names(&both), ["acme/per-user", "house/everything"]);
    let verdict = &both.validated().outcome.policies["a-younger"];
    assert!(!verdict.included);
    let (reason, message) = summary(&verdict.problems, ACCEPTED).unwrap();
    assert_eq!(reason, reasons::CONFLICTED);
    assert!(message.starts_with("RateLimitPolicy \"acme\" is older and targets Tenant \"acme\" too"), "{message}");
    assert_eq!(
        limit_names(&both.then("").without("RateLimitPolicy", "acme")),
        ["a-younger/per-user", "house/everything"]
    );
}

#[test]
fn a_signing_key_of_ones_own_is_used_and_the_last_good_one_while_it_is_missing() {
    let own = "
kind: Tenant
metadata: {name: acme, generation: 2, creationTimestamp: 2026-01-02T00:00:00Z}
spec: {hostnames: [acme.example], auth: {signing: {algorithm: HS256, secretRef: {name: mine}}}}
";
    let secret = |text: &str| format!("---\nkind: Secret\nmetadata: {{name: mine}}\nstringData: {{secret: '{text}'}}");
    let ids = |scene: &Scene| names(&scene.config().auth.signing_keys, |key| &key.id);
    let good = Scene::new(&format!("{own}{}", secret("0123456789abcdef0123456789abcdef")));
    assert_eq!(ids(&good), ["mine"]);
    let short = full().then(&format!("{own}{}", secret("hunter2")));
    assert_eq!(ids(&short), ["acme-signing-key"]);
    let (reason, message) = summary(&short.validated().problems, RESOLVED_REFS).unwrap();
    assert_eq!(reason, reasons::SECRET_INVALID);
    assert!(message.contains("7 bytes of at least 32") && !message.contains("hunter2"), "{message}");
    assert!(Scene::new(own).validated().config.is_none());
}

#[test]
fn a_provider_of_identity_is_served_with_its_secret_sealed_and_kept_while_that_is_missing() {
    let named = "
kind: Tenant
metadata: {name: acme, generation: 2, creationTimestamp: 2026-01-02T00:00:00Z}
spec:
  hostnames: [acme.example]
  auth:
    identityProviders:
      - {name: open, issuer: 'https://open.example', clientId: acme}
      - {name: corp, issuer: 'https://corp.example', clientId: acme, clientSecretRef: {name: corp, key: secret}, scopes: [openid, email]}
";
    let secret = "---\nkind: Secret\nmetadata: {name: corp}\nstringData: {secret: canary}";
    let providers = |scene: &Scene| scene.config().auth.identity_providers;
    let good = Scene::new(&format!("{named}{secret}"));
    let served = providers(&good);
    assert_eq!(names(&served, |provider| &provider.name), ["corp", "open"]);
    assert_eq!((served[0].scopes.join(" "), served[0].display_name.as_str()), ("email".to_owned(), "corp"));
    let field = IdentityProvider::seal_field("corp");
    let opened = sealing_key().open(tenant_id(), &field, served[0].client_secret.as_ref().unwrap()).unwrap();
    assert_eq!(opened.expose(), "canary");

    let gone = good.then(named).without("Secret", "corp");
    assert_eq!(providers(&gone), served);
    let (reason, message) = summary(&gone.validated().problems, RESOLVED_REFS).unwrap();
    assert_eq!(reason, reasons::SECRET_NOT_FOUND);
    assert!(message.starts_with("spec.auth.identityProviders: \"corp\": Secret \"corp\""), "{message}");
    // Never with one, it is not offered; and an entry is not kept for another client.
    assert_eq!(names(&providers(&Scene::new(named)), |provider| &provider.name), ["open"]);
    let other = gone.then(&named.replace("clientId: acme, clientSecretRef", "clientId: other, clientSecretRef"));
    assert_eq!(names(&providers(&other), |provider| &provider.name), ["open"]);
}

#[test]
fn a_tenant_that_needs_mail_on_a_platform_without_it_is_told_and_served_as_declared() {
    let verified = "
kind: Tenant
metadata: {name: acme, generation: 2, creationTimestamp: 2026-01-02T00:00:00Z}
spec: {hostnames: [acme.example], auth: {emailVerification: Required}}
";
    let platform = "---
kind: Platform
metadata: {name: main, creationTimestamp: 2026-01-01T00:00:00Z}
spec:
  postgres: {external: {secretRef: {name: db}}}
  redis: {external: {secretRef: {name: redis}}}
  mail: {smtp: {host: mail.example, from: a@b.example}}
";
    let scene = Scene::new(verified);
    let (reason, message) = summary(&scene.validated().problems, ACCEPTED).unwrap();
    assert_eq!(reason, reasons::MAIL_NOT_CONFIGURED);
    for part in ["spec.auth.emailVerification", "\"main\"", "spec.mail.smtp", "Optional"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert_eq!(scene.config().auth.email_verification, EmailVerification::Required, "never less than is declared");
    for well in [&verified.replace("Required", "Optional"), &format!("{verified}{platform}")] {
        assert_eq!(summary(&Scene::new(well).validated().problems, ACCEPTED), None, "{well}");
    }
}

#[test]
fn a_tenant_that_asks_for_its_own_database_does_not_begin_in_shared_tables() {
    let own = "
kind: Tenant
metadata: {name: acme, generation: 2, creationTimestamp: 2026-01-02T00:00:00Z}
spec: {hostnames: [acme.example], isolation: {database: Database}}
";
    assert!(Scene::new(own).validated().config.is_none());
    // Its rows are there already: revoked roles must still arrive.
    assert!(full().then(own).validated().config.is_some());
}
