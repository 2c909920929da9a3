//! Which kinds there are: the built-in ones and those that CustomResourceDefinitions add while the server runs.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use parking_lot::RwLock;
use serde_json::Value;
use tokio::sync::watch;

use crate::{builtin, schema::Schema};

/// Where the numbers of the scale subresource live.
#[derive(Clone, Debug)]
pub struct Scale {
    pub spec_replicas: String,
    pub status_replicas: String,
    pub selector: Option<String>,
}

/// `additionalPrinterColumns`, and the built-in tables that can be said the same way.
#[derive(Clone, Debug)]
pub struct Column {
    pub name: String,
    pub kind: String,
    pub format: String,
    pub description: String,
    pub priority: i64,
    pub path: String,
}

/// A subresource that is neither status nor scale: something that is done to an object, or that it does.
#[derive(Clone, Copy, Debug)]
pub struct Action {
    pub name: &'static str,
    /// Group, version and kind of what is sent or answered.
    pub kind: (&'static str, &'static str, &'static str),
    pub verb: &'static str,
}

/// One kind in one version.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts about a kind, as discovery and strategies tell them"
)]
#[expect(clippy::struct_field_names, reason = "kind and list kind are what Kubernetes calls them")]
pub struct Kind {
    pub group: String,
    pub version: String,
    pub kind: String,
    pub list_kind: String,
    pub plural: String,
    pub singular: String,
    pub short_names: Vec<String>,
    pub categories: Vec<String>,
    pub namespaced: bool,
    pub status: bool,
    pub scale: Option<Scale>,
    pub actions: &'static [Action],
    /// Whether `metadata.generation` counts the changes of what was wished.
    pub generation: bool,
    pub custom: bool,
    /// Where the objects are kept: all versions of a kind (and both groups of events) share one place.
    pub storage: String,
    /// The `apiVersion` under which they are kept.
    pub stored_as: String,
    pub schema: SchemaSource,
    pub columns: Vec<Column>,
    /// Field selectors beyond name and namespace: the selector's name is the path.
    pub selectable: Vec<String>,
    /// Only answers `create` and keeps nothing (access reviews).
    pub virtual_only: bool,
    pub openapi: Option<Arc<Value>>,
}

/// Built-in schemas are many and large: each is made when it is first needed.
#[derive(Debug)]
pub enum SchemaSource {
    Builtin { definition: String, made: OnceLock<Arc<Schema>> },
    Custom(Arc<Schema>),
}

impl Kind {
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    pub fn schema(&self) -> &Arc<Schema> {
        match &self.schema {
            SchemaSource::Custom(schema) => schema,
            SchemaSource::Builtin { definition, made } => made.get_or_init(|| builtin::schema(definition)),
        }
    }

    pub fn qualified(&self) -> String {
        crate::status::qualified(&self.plural, &self.group)
    }

    pub fn verbs(&self) -> Vec<&'static str> {
        if self.virtual_only {
            return vec!["create"];
        }
        vec!["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
    }
}

/// All kinds by `(group, version, plural)`, in the order in which discovery tells them.
#[derive(Clone, Debug, Default)]
pub struct Kinds {
    pub all: Vec<Arc<Kind>>,
    by_path: HashMap<(String, String, String), Arc<Kind>>,
}

impl Kinds {
    pub fn new(all: Vec<Arc<Kind>>) -> Self {
        let path = |kind: &Kind| (kind.group.clone(), kind.version.clone(), kind.plural.clone());
        let by_path = all.iter().map(|kind| (path(kind), kind.clone())).collect();
        Self { all, by_path }
    }

    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Kind>> {
        self.by_path.get(&(group.to_owned(), version.to_owned(), plural.to_owned())).cloned()
    }

    pub fn by_kind(&self, api_version: &str, kind: &str) -> Option<&Arc<Kind>> {
        self.all.iter().find(|known| known.kind == kind && known.api_version() == api_version && !known.virtual_only)
    }

    /// Any version of what is kept under `storage`; the one it is kept in first.
    pub fn by_storage(&self, storage: &str) -> Option<Arc<Kind>> {
        let mut kinds = self.all.iter().filter(|kind| kind.storage == storage);
        let first = kinds.clone().next();
        kinds.find(|kind| kind.api_version() == kind.stored_as).or(first).cloned()
    }
}

/// The kinds of this moment: read whole, replaced whole.
#[derive(Debug)]
pub struct Registry {
    kinds: RwLock<Arc<Kinds>>,
    builtin: Vec<Arc<Kind>>,
    changed: watch::Sender<()>,
}

impl Registry {
    pub fn new() -> Self {
        let builtin: Vec<Arc<Kind>> = builtin::kinds().into_iter().map(Arc::new).collect();
        Self { kinds: RwLock::new(Arc::new(Kinds::new(builtin.clone()))), builtin, changed: watch::Sender::new(()) }
    }

    /// Tells when kinds come, change or go.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub fn kinds(&self) -> Arc<Kinds> {
        self.kinds.read().clone()
    }

    /// Replaces the kinds that one CustomResourceDefinition (named by its storage) stands for; an empty list removes them.
    pub fn replace(&self, storage: &str, custom: Vec<Arc<Kind>>) {
        let mut kinds = self.kinds.write();
        let others = kinds.all.iter().skip(self.builtin.len()).filter(|kind| kind.storage != storage).cloned();
        let all = self.builtin.iter().cloned().chain(others).chain(custom).collect();
        *kinds = Arc::new(Kinds::new(all));
        drop(kinds);
        self.changed.send_replace(());
    }
}
