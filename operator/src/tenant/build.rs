//! A tenant's document as the one ConfigMap that the API watches. Pure.

use std::collections::BTreeMap;

use contract::{
    TenantConfig, codec,
    names::{ANNOTATION_REVISION, CONTRACT_VERSION, DOCUMENT_KEY, LABEL_CONTRACT, config_map},
};
use crds::{Tenant, conditions::reasons::INVALID};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{ResourceExt, api::ObjectMeta};

use crate::{
    kube_ext::{Prepared, owner, tenant_labels},
    render::problem::Problem,
};

/// An object may have about 1 MiB (etcd's limit is 1.5 MiB a request); the rest is for metadata.
const DOCUMENT_BYTES: usize = 1_000_000;

/// The ConfigMap with the tenant's document, and the document's revision.
pub fn document(
    tenant: &Tenant,
    platform: &str,
    config: &TenantConfig,
) -> Result<(contract::Revision, Prepared<ConfigMap>), Problem> {
    let document = codec::encode(config)
        .map_err(|error| Problem::refused(INVALID, format!("the tenant's document could not be written: {error}")))?;
    if document.text.len() > DOCUMENT_BYTES {
        let message = format!(
            "the tenant's document would have {} bytes of at most {DOCUMENT_BYTES}: bind groups in place of single users ({} RoleBindings)",
            document.text.len(),
            config.bindings.len(),
        );
        return Err(Problem::refused(INVALID, message));
    }
    let mut labels = tenant_labels(platform, &tenant.name_any());
    labels.insert(LABEL_CONTRACT.into(), CONTRACT_VERSION.into());
    let object = ConfigMap {
        metadata: ObjectMeta {
            name: Some(config_map(&tenant.name_any())),
            namespace: tenant.namespace(),
            labels: Some(labels),
            annotations: Some([(ANNOTATION_REVISION.to_owned(), document.revision.to_string())].into()),
            owner_references: owner(tenant).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        data: Some([(DOCUMENT_KEY.to_owned(), document.text)].into()),
        ..ConfigMap::default()
    };
    Ok((document.revision, Prepared(object)))
}

/// Whether `stored` already says all that `wanted` says, and no data besides. What others added to its metadata stays
/// theirs and does not count.
pub fn stands(wanted: &ConfigMap, stored: &ConfigMap) -> bool {
    type Map = Option<BTreeMap<String, String>>;
    let within = |part: &Map, whole: &Map| {
        part.iter().flatten().all(|(key, value)| whole.as_ref().and_then(|whole| whole.get(key)) == Some(value))
    };
    let (wants, has) = (&wanted.metadata, &stored.metadata);
    let owned = |owner| has.owner_references.iter().flatten().any(|known| known == owner);
    wanted.data == stored.data
        && stored.binary_data.as_ref().is_none_or(BTreeMap::is_empty)
        && within(&wants.labels, &has.labels)
        && within(&wants.annotations, &has.annotations)
        && wants.owner_references.iter().flatten().all(owned)
}
