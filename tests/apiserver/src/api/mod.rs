//! The life of an object, the same for every kind: decode → change → pin what only the server says → default → validate →
//! admit → own → commit. A write that lost a race is computed again from what won, as the real server does.

mod decode;
mod delete;
mod evict;
mod prepare;
mod scale;
mod write;

use std::{io, sync::Arc};

use serde_json::json;
use tokio::sync::mpsc;

pub use decode::FieldValidation;
pub use delete::{DeleteOptions, Deleted, FOREGROUND, ORPHAN, nothing_holds};

use crate::{
    Options,
    access::{self, Tokens, User},
    audit::Audit,
    crd, object,
    patch::ownership::Manager,
    registry::{Kind, Registry},
    status::{Result, Status},
    store::{Change, Entry, Key, Store},
};

/// Objects and kinds together.
#[derive(Debug)]
pub struct Api {
    pub store: Store,
    pub registry: Registry,
    pub tokens: Tokens,
    pub audit: Audit,
}

/// What comes with a write besides the object.
#[derive(Clone, Debug, Default)]
pub struct Context {
    pub user: Arc<User>,
    pub dry_run: bool,
    pub validation: FieldValidation,
    pub manager: String,
    pub force: bool,
    /// Sent back as `Warning` headers.
    pub warnings: Vec<String>,
}

impl Context {
    /// What the server itself writes with.
    pub fn internal() -> Self {
        Self { user: User::server(), manager: "kube-controller-manager".into(), ..Self::default() }
    }

    fn manager(&self, kind: &Kind, subresource: &str, apply: bool) -> Manager {
        Manager {
            name: self.manager.clone(),
            apply,
            api_version: kind.api_version(),
            subresource: subresource.to_owned(),
        }
    }
}

/// Which object, through which door.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    pub kind: &'a Kind,
    pub namespace: &'a str,
    pub name: &'a str,
    pub subresource: &'a str,
}

impl Target<'_> {
    pub fn key(&self) -> Key {
        (self.namespace.to_owned(), self.name.to_owned())
    }

    fn not_found(&self) -> Status {
        Status::not_found(&self.kind.group, &self.kind.plural, self.name)
    }

    fn modified(&self) -> Status {
        Status::modified(&self.kind.group, &self.kind.plural, self.name)
    }
}

impl Api {
    /// Opens the store, learns the kinds it holds, and makes sure the namespaces every cluster has are there.
    pub fn open(options: &Options) -> io::Result<(Arc<Self>, mpsc::UnboundedReceiver<Change>)> {
        let (store, changes) = Store::open(options.data_dir.as_deref(), options.history)?;
        let api = Arc::new(Self {
            store,
            registry: Registry::new(),
            tokens: Tokens::open(options.data_dir.as_deref())?,
            audit: Audit::open(options.audit.as_deref())?,
        });
        for (_, entry) in api.store.collection(crd::STORAGE).list(&api.store, "").items {
            api.registry.replace(&crd::storage(&entry.value), crd::kinds(&entry.value));
        }
        for namespace in ["default", "kube-system", "kube-public", "kube-node-lease"] {
            let body = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } });
            api.ensure("", "v1", "namespaces", "", body);
        }
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": "kubernetes" },
            "spec": { "clusterIP": "10.96.0.1", "ports": [{ "name": "https", "port": 443 }] },
        });
        api.ensure("", "v1", "services", "default", service);
        for (plural, object) in access::bootstrap() {
            api.ensure("rbac.authorization.k8s.io", "v1", plural, "", object);
        }
        Ok((api, changes))
    }

    /// Creates what a fresh cluster has, if it is not there yet.
    fn ensure(&self, group: &str, version: &str, plural: &str, namespace: &str, body: serde_json::Value) {
        let Some(kind) = self.registry.kinds().find(group, version, plural) else { return };
        let key = (namespace.to_owned(), object::name(&body).to_owned());
        if self.store.get(&kind.storage, &key).is_none()
            && let Err(error) = self.create(&kind, namespace, body, &mut Context::internal())
        {
            tracing::error!(%error, "a part of a fresh cluster could not be created");
        }
    }

    /// A namespace has a ServiceAccount from the start.
    pub fn furnish(&self, namespace: &str) {
        let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "default" } });
        self.ensure("", "v1", "serviceaccounts", namespace, account);
    }

    pub fn get(&self, target: Target<'_>) -> Result<Arc<Entry>> {
        self.store.get(&target.kind.storage, &target.key()).ok_or_else(|| target.not_found())
    }
}
