//! What must not happen on any way.

use axum::Router;
use contract::codec;
use http::Method;
use parking_lot::Mutex;
use serde_json::Value;

use crate::fault::read;

/// Looks over the operator's shoulder at every write.
pub struct Guard {
    namespace: String,
    violations: Mutex<Vec<String>>,
}

impl Guard {
    pub fn new(namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), violations: Mutex::default() }
    }

    pub fn violations(&self) -> Vec<String> {
        self.violations.lock().clone()
    }

    /// What has to be known of the state before a write.
    pub async fn before(&self, router: &Router, method: &Method, path: &str) -> Option<Value> {
        if *method == Method::DELETE {
            self.deleted(path);
        }
        Self::tenant_of(path)?;
        read(router, path).await
    }

    /// A write took effect.
    pub async fn after(&self, router: &Router, method: &Method, path: &str, before: Option<Value>) {
        if path.ends_with("-purge") && *method == Method::PATCH {
            let tenant = path.rsplit('/').next().unwrap().trim_end_matches("-purge");
            let tenant = self.tenant(router, tenant).await.unwrap_or_default();
            if tenant["metadata"]["deletionTimestamp"].is_null() || tenant["spec"]["deletionPolicy"] != "Delete" {
                self.violated(format!("{path}: the data of a tenant is purged that asked for nothing of the kind"));
            }
        }
        let Some(name) = Self::tenant_of(path).filter(|_| *method != Method::DELETE) else { return };
        if self.tenant(router, name).await.is_none() {
            self.violated(format!("{path}: a tenant that is gone is served"));
        }
        let granted = |document: &Option<Value>| {
            let text = document.as_ref().and_then(|document| document["data"]["tenant.json"].as_str());
            let config = text.and_then(|text| codec::decode(text).ok()).map(|(_, config)| config);
            let bindings = config.into_iter().flat_map(|config| config.bindings);
            bindings
                .flat_map(|binding| {
                    let name = binding.name;
                    binding.subjects.into_iter().map(move |subject| (name.clone(), subject.name))
                })
                .collect::<Vec<_>>()
        };
        let had = granted(&before);
        for (binding, subject) in granted(&read(router, path).await) {
            if had.contains(&(binding.clone(), subject.clone())) {
                continue;
            }
            let path = format!("/apis/tenantry.dev/v1alpha1/namespaces/{}/rolebindings/{binding}", self.namespace);
            let declared = read(router, &path).await.unwrap_or_default();
            let subjects = declared["spec"]["subjects"].as_array().cloned().unwrap_or_default();
            if !subjects.iter().any(|declared| declared["name"] == *subject) {
                self.violated(format!("{path}: {subject} gets a role that no RoleBinding gives"));
            }
        }
    }

    /// The tenant whose document is at this path.
    fn tenant_of(path: &str) -> Option<&str> {
        path.rsplit_once("/configmaps/")?.1.strip_suffix("-tenant-config")
    }

    async fn tenant(&self, router: &Router, name: &str) -> Option<Value> {
        read(router, &format!("/apis/tenantry.dev/v1alpha1/namespaces/{}/tenants/{name}", self.namespace)).await
    }

    fn deleted(&self, path: &str) {
        if ["/secrets/", "/persistentvolumeclaims/", "/tenants/", "/platforms/"].iter().any(|kind| path.contains(kind))
        {
            self.violated(format!("{path} is deleted, which holds data or is somebody else's"));
        }
    }

    fn violated(&self, what: String) {
        self.violations.lock().push(what);
    }
}
