//! The five kinds of `tenantry.dev/v1alpha1`: what a person may wish.
//!
//! Each kind is one room: its spec with the rules that `kubectl apply` enforces, its status, and the few questions that
//! the operator asks of it. Field docs are written for users: they become `kubectl explain`.

pub mod compat;
pub mod conditions;
mod definition;
pub mod examples;
pub mod generated;
pub mod payment_provider;
pub mod platform;
pub mod rate_limit_policy;
pub mod refs;
pub mod role_binding;
pub mod tenant;
mod yaml;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

pub use self::{
    definition::definition,
    payment_provider::{PaymentProvider, PaymentProviderSpec, PaymentProviderStatus},
    platform::{Platform, PlatformSpec, PlatformStatus},
    rate_limit_policy::{RateLimitPolicy, RateLimitPolicySpec, RateLimitPolicyStatus},
    refs::{PlatformRef, SecretKeyRef, SecretRef, TargetKind, TargetRef, TenantRef},
    role_binding::{RoleBinding, RoleBindingSpec, RoleBindingStatus},
    tenant::{Tenant, TenantSpec, TenantStatus},
};

/// The definitions of all kinds, as they are installed.
pub fn all_crds() -> Vec<CustomResourceDefinition> {
    vec![
        definition::<Platform>(),
        definition::<Tenant>(),
        definition::<RoleBinding>(),
        definition::<PaymentProvider>(),
        definition::<RateLimitPolicy>(),
    ]
}
