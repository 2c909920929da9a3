//! The labels of everything the operator makes.

use std::collections::BTreeMap;

use contract::names::{LABEL_MANAGED_BY, LABEL_PART_OF, LABEL_PLATFORM, LABEL_TENANT, MANAGED_BY, PART_OF};

/// Labels of what belongs to a platform.
pub fn platform_labels(platform: &str) -> BTreeMap<String, String> {
    [(LABEL_MANAGED_BY, MANAGED_BY), (LABEL_PART_OF, PART_OF), (LABEL_PLATFORM, platform)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// Labels of what belongs to one tenant of a platform.
pub fn tenant_labels(platform: &str, tenant: &str) -> BTreeMap<String, String> {
    let mut labels = platform_labels(platform);
    labels.insert(LABEL_TENANT.into(), tenant.into());
    labels
}
