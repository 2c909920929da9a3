//! A Platform and its surroundings for tests: `Fixture::new("shop").secrets().found()`.

use std::{collections::BTreeMap, sync::Arc};

use crds::{Platform, Tenant};
use k8s_openapi::ByteString;

use super::{
    dereference::{Data, Dereferenced, Optional},
    rollout::Observed,
};

pub const IMAGE: &str = "registry.example/tenantry-api:1";

/// Parsed from YAML, with the defaults that the API server would fill in.
pub fn platform(spec: &str) -> Platform {
    let yaml = format!(
        "apiVersion: tenantry.dev/v1alpha1\nkind: Platform\nmetadata: {{name: main, namespace: shop, generation: 3, uid: u-1}}\nspec:\n  {}",
        spec.trim_end().replace('\n', "\n  "),
    );
    serde_saphyr::from_str(&yaml).unwrap()
}

pub const EXTERNAL: &str =
    "postgres: {external: {secretRef: {name: db}}}\nredis: {external: {secretRef: {name: cache}}}\n";

#[expect(clippy::unnecessary_wraps, reason = "the fields hold an Option")]
pub fn data(pairs: &[(&str, &str)]) -> Data {
    let bytes = |(key, value): &(&str, &str)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec()));
    Some(pairs.iter().map(bytes).collect::<BTreeMap<_, _>>())
}

/// Everything is there: both Secrets by URI, the sealing key, one tenant.
pub fn found(spec: &str) -> Dereferenced {
    let mut tenant = Tenant::new_minimal("acme", "acme.example");
    tenant.metadata.namespace = Some("shop".into());
    Dereferenced {
        platform: Arc::new(platform(spec)),
        namespace: "shop".into(),
        name: "main".into(),
        postgres: data(&[("uri", "postgres://u:p@db/app")]),
        redis: data(&[("uri", "redis://cache")]),
        mail: None,
        sealing_key: data(&[("key", "0123456789abcdef0123456789abcdef")]),
        observed: Observed::default(),
        managed: super::managed::Found::default(),
        jobs: Vec::new(),
        tenants: vec![Arc::new(tenant)],
        optional: Optional::default(),
    }
}
