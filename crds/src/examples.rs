//! One complete object of each kind. Together they form a working set: a platform on services that exist already, a
//! tenant `acme` reached as `acme.localhost`, a role, a way to pay, and limits.
//!
//! Emitted with comments to `manifests/examples`, they are also the first thing that a new user applies.

use std::{collections::BTreeMap, num::NonZeroU32};

use contract::{
    access::SubjectKind,
    auth::{CharacterClass, EmailVerification, Mfa, SigningAlgorithm},
    limits::{Algorithm, FailureMode, LimitMode, PathMatchKind},
    payments::Mode,
    tenant::Dialect,
};
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{ResourceRequirements, Secret},
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::Time},
};
use kube::api::ObjectMeta;

use crate::{
    PaymentProvider, PaymentProviderSpec, Platform, PlatformRef, PlatformSpec, RateLimitPolicy, RateLimitPolicySpec,
    RoleBinding, RoleBindingSpec, SecretKeyRef, TargetRef, Tenant, TenantRef, TenantSpec,
    payment_provider::{ProviderType, Stripe},
    platform::{
        Analysis, Autoscaling, AutoscalingEngine, Image, Ingress, LogFormat, LogLevel, Metric, Observability,
        PlatformApi, Prometheus, PullPolicy, Rollout, RolloutStrategy, Stage, TenantHeader, ThresholdRange,
    },
    rate_limit_policy::{Limit, Method, PathMatch, Rate, RequestMatch},
    role_binding::{PolicyRule, RoleRef, Subject},
    tenant::{
        Argon2, AuthPolicy, Branding, CorsPolicy, DatabaseIsolation, DeletionPolicy, Isolation, PasswordPolicy, Quotas,
        Signing, TenantApi,
    },
};

const PLATFORM: &str = "main";
const TENANT: &str = "acme";
const POSTGRES_SECRET: &str = "main-postgres";
const REDIS_SECRET: &str = "main-redis";
const ACME_STRIPE: &str = "acme-stripe";

pub fn platform() -> Platform {
    let quantities = |cpu: &str, memory: &str| {
        let of = |text: &str| Quantity(text.to_owned());
        Some(BTreeMap::from([("cpu".to_owned(), of(cpu)), ("memory".to_owned(), of(memory))]))
    };
    let minimal = Platform::new_minimal(PLATFORM, POSTGRES_SECRET, REDIS_SECRET);
    Platform::new(
        PLATFORM,
        PlatformSpec {
            image: Some(Image {
                repository: "ghcr.io/tenantry/tenantry-api".to_owned(),
                tag: Some(env!("CARGO_PKG_VERSION").to_owned()),
                digest: None,
                pull_policy: PullPolicy::IfNotPresent,
            }),
            resources: Some(ResourceRequirements {
                requests: quantities("250m", "256Mi"),
                limits: quantities("2", "1Gi"),
                ..ResourceRequirements::default()
            }),
            api: PlatformApi {
                tenant_header: TenantHeader::Refused,
                trusted_proxies: vec!["127.0.0.0/8".to_owned(), "10.0.0.0/8".to_owned()],
                ..PlatformApi::default()
            },
            ingress: Some(Ingress::default()),
            observability: Observability {
                log_level: LogLevel::Info,
                log_format: LogFormat::Json,
                ..Observability::default()
            },
            ..minimal.spec
        },
    )
}

/// The same Platform with releases that are tried beside the one that serves, and taken back by what Prometheus says;
/// load decides the number of pods.
pub fn blue_green() -> Platform {
    let of_release = "{namespace=\"{{namespace}}\",release=\"{{revision}}\"";
    let metric = |name: &str, query: String, most: f64, stage: Stage| Metric {
        name: name.to_owned(),
        query,
        threshold_range: ThresholdRange { min: None, max: Some(most) },
        stage,
    };
    let errors = format!(
        "(sum(rate(tenantry_api_requests_total{of_release},status=~\"5..\"}}[1m])) or vector(0)) / sum(rate(tenantry_api_requests_total{of_release}}}[1m]))"
    );
    let slowness = format!(
        "histogram_quantile(0.99, sum by (le) (rate(tenantry_api_request_duration_seconds_bucket{of_release}}}[1m])))"
    );
    let mut platform = platform();
    platform.spec.rollout = Rollout {
        strategy: RolloutStrategy::BlueGreen,
        auto_promotion_seconds: Some(60),
        scale_down_delay_seconds: 300,
        analysis: Some(Analysis {
            prometheus: Prometheus { address: "http://prometheus.monitoring:9090".to_owned() },
            interval_seconds: 30,
            count: 5,
            failure_limit: 1,
            metrics: vec![
                // Before the switch only those ask green who know the preview Service.
                metric("error-ratio", errors, 0.01, Stage::AfterPromotion),
                metric("p99-seconds", slowness, 1.0, Stage::AfterPromotion),
            ],
        }),
        ..Rollout::default()
    };
    platform.spec.autoscaling = Some(Autoscaling {
        enabled: true,
        engine: AutoscalingEngine::HorizontalPodAutoscaler,
        min_replicas: 3,
        max_replicas: 12,
        target_cpu_utilization_percentage: Some(70),
        target_requests_in_flight_per_pod: None,
        prometheus: None,
        behavior: None,
    });
    platform
}

pub fn tenant() -> Tenant {
    Tenant::new(
        TENANT,
        TenantSpec {
            platform_ref: Some(PlatformRef::from(PLATFORM)),
            display_name: Some("Acme Corporation".to_owned()),
            hostnames: vec!["acme.localhost".to_owned()],
            plan: "standard".to_owned(),
            suspended: false,
            deletion_policy: DeletionPolicy::Retain,
            deletion_protection: false,
            isolation: Isolation { database: DatabaseIsolation::RowLevelSecurity },
            api: TenantApi { dialect: Dialect::Envelope },
            auth: AuthPolicy {
                password: PasswordPolicy {
                    min_length: 8,
                    character_classes: vec![CharacterClass::Lower, CharacterClass::Upper, CharacterClass::Digit],
                    breached_check: true,
                    argon2: Argon2::default(),
                },
                email_verification: EmailVerification::Optional,
                mfa: Mfa::Optional,
                identity_providers: Vec::new(),
                signing: Signing { algorithm: SigningAlgorithm::EdDSA, rotate_after_seconds: None, secret_ref: None },
                ..AuthPolicy::default()
            },
            cors: CorsPolicy { allowed_origins: vec!["http://localhost:5173".to_owned()] },
            branding: Branding {
                product_name: Some("Acme Pay".to_owned()),
                frontend_url: Some("http://localhost:5173".to_owned()),
                mail_from: Some("Acme Pay <no-reply@acme.example>".to_owned()),
            },
            quotas: Quotas { users: Some(10_000), storage_bytes: Some(10 << 30), requests_per_day: Some(1_000_000) },
        },
    )
}

pub fn role_binding() -> RoleBinding {
    RoleBinding::new(
        "acme-billing",
        RoleBindingSpec {
            tenant_ref: TenantRef::from(TENANT),
            role_ref: RoleRef { name: "BILLING".to_owned() },
            rules: vec![PolicyRule {
                resources: vec!["payments".to_owned(), "transactions".to_owned()],
                verbs: vec!["read".to_owned(), "update".to_owned(), "cancel".to_owned()],
            }],
            subjects: vec![
                Subject { kind: SubjectKind::User, name: "alice@acme.example".to_owned() },
                Subject { kind: SubjectKind::Group, name: "accountants".to_owned() },
            ],
            expires_at: "2035-12-31T23:59:59Z".parse::<Timestamp>().ok().map(Time),
            when: Some("request.method in ['GET', 'POST', 'PUT']".to_owned()),
        },
    )
}

pub fn payment_provider() -> PaymentProvider {
    PaymentProvider::new(
        ACME_STRIPE,
        PaymentProviderSpec {
            tenant_ref: TenantRef::from(TENANT),
            kind: ProviderType::Stripe,
            mode: Mode::Test,
            enabled: true,
            default: true,
            currencies: vec!["EUR".to_owned(), "USD".to_owned()],
            request_timeout_seconds: 10,
            api_base_url: None,
            stripe: Some(Stripe {
                secret_key_secret_ref: SecretKeyRef::new(ACME_STRIPE, "secret-key"),
                webhook_signing_secret_refs: vec![SecretKeyRef::new(ACME_STRIPE, "webhook-signing-secret")],
                api_version: None,
                webhook_tolerance_seconds: 300,
            }),
            cryptomus: None,
        },
    )
}

pub fn rate_limit_policy() -> RateLimitPolicy {
    let limits = [
        ("everything", limit(RequestMatch::default(), "Tenant", 10_000, "1m")),
        ("per-user", limit(RequestMatch::default(), "User", 1000, "1h")),
        ("sign-in", limit(on([Method::Post], "/auth"), "SourceIP", 30, "1m")),
        ("payments", limit(on([Method::Post, Method::Put], "/payments"), "User", 10, "1m")),
    ];
    RateLimitPolicy::new(
        "acme-limits",
        RateLimitPolicySpec {
            target_ref: TargetRef::tenant(TENANT),
            limits: Some(limits.map(|(name, limit)| (name.to_owned(), limit)).into()),
            defaults: None,
            overrides: None,
        },
    )
}

fn on<const N: usize>(methods: [Method; N], path: &str) -> RequestMatch {
    RequestMatch {
        methods: methods.into(),
        paths: vec![PathMatch { kind: PathMatchKind::PathPrefix, value: path.to_owned() }],
    }
}

fn limit(matches: RequestMatch, counter: &str, limit: u32, window: &str) -> Limit {
    Limit {
        matches,
        when: Vec::new(),
        counters: vec![counter.to_owned()],
        rates: vec![Rate { limit: NonZeroU32::MIN.saturating_add(limit - 1), window: window.to_owned() }],
        algorithm: Algorithm::SlidingWindow,
        burst: None,
        cost: NonZeroU32::MIN,
        mode: LimitMode::Enforce,
        failure_mode: FailureMode::Local,
    }
}

/// The Secrets that the others refer to, with values that nobody could mistake for real ones.
pub fn secrets() -> Vec<Secret> {
    vec![
        secret(
            POSTGRES_SECRET,
            &[(
                "uri",
                "postgres://tenantry:not-a-real-password@postgres.example.internal:5432/tenantry?sslmode=require",
            )],
        ),
        secret(REDIS_SECRET, &[("uri", "redis://:not-a-real-password@redis.example.internal:6379")]),
        secret(
            ACME_STRIPE,
            &[("secret-key", "sk_test_not_a_real_key"), ("webhook-signing-secret", "whsec_not_a_real_secret")],
        ),
    ]
}

fn secret(name: &str, entries: &[(&str, &str)]) -> Secret {
    let entries = entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    Secret {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        string_data: Some(entries.collect()),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    }
}
