//! What is kept of an object that is watched only to notice a touch, and of which there are as many as Tenants: a tenth of
//! what its metadata takes.

use std::{borrow::Cow, marker::PhantomData};

use contract::names::{ANNOTATION_REVISION, LABEL_PLATFORM, LABEL_TENANT};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{
    Resource, ResourceExt,
    api::{ObjectMeta, PartialObjectMeta, PartialObjectMetaExt},
};

use crate::{kube_ext::Uid, stores::Kept, tenant::signing_key};

/// Labels that are kept.
const OURS: [&str; 3] = [LABEL_TENANT, LABEL_PLATFORM, signing_key::LABEL];

/// A note of one object of kind `K`.
#[derive(Debug)]
pub struct Note<K> {
    namespace: Box<str>,
    name: Box<str>,
    uid: Uid,
    version: Box<str>,
    /// The controlling owner.
    owner: Option<Uid>,
    labels: [Option<Box<str>>; OURS.len()],
    /// Of a document.
    revision: Option<Box<str>>,
    created: Option<Timestamp>,
    deleting: bool,
    kind: PhantomData<fn() -> K>,
}

impl<K> Clone for Note<K> {
    fn clone(&self) -> Self {
        Self {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            version: self.version.clone(),
            owner: self.owner.clone(),
            labels: self.labels.clone(),
            revision: self.revision.clone(),
            created: self.created,
            deleting: self.deleting,
            kind: PhantomData,
        }
    }
}

impl<K: Resource<DynamicType = ()>> From<PartialObjectMeta<K>> for Note<K> {
    fn from(PartialObjectMeta { metadata, .. }: PartialObjectMeta<K>) -> Self {
        let boxed = |text: Option<String>| text.unwrap_or_default().into_boxed_str();
        let controls = |owner: &OwnerReference| owner.controller == Some(true);
        let mut labels = metadata.labels.unwrap_or_default();
        Self {
            owner: metadata
                .owner_references
                .into_iter()
                .flatten()
                .find(controls)
                .map(|owner| owner.uid.as_str().into()),
            namespace: boxed(metadata.namespace),
            name: boxed(metadata.name),
            uid: metadata.uid.as_deref().unwrap_or_default().into(),
            version: boxed(metadata.resource_version),
            revision: metadata
                .annotations
                .and_then(|mut annotations| annotations.remove(ANNOTATION_REVISION))
                .map(String::into_boxed_str),
            labels: OURS.map(|key| labels.remove(key).map(String::into_boxed_str)),
            created: metadata.creation_timestamp.map(|time| time.0),
            deleting: metadata.deletion_timestamp.is_some(),
            kind: PhantomData,
        }
    }
}

impl<K> Note<K> {
    /// The revision that a document says it is.
    pub fn revision(&self) -> Option<&str> {
        self.revision.as_deref()
    }

    pub fn is_deleting(&self) -> bool {
        self.deleting
    }

    /// Whether this object, and not an older one of the same name, controls it.
    pub fn is_owned_by(&self, owner: &impl ResourceExt) -> bool {
        self.owner.is_some() && self.owner == owner.meta().uid.as_deref().map(Uid::from)
    }
}

impl<K: Resource<DynamicType = ()>> Note<K> {
    /// Name, namespace and uid: enough to delete exactly this object.
    pub fn identity(&self) -> PartialObjectMeta<K> {
        let metadata = ObjectMeta {
            namespace: Some(self.namespace.to_string()),
            name: Some(self.name.to_string()),
            uid: Some(self.uid.to_string()),
            ..ObjectMeta::default()
        };
        metadata.into_response_partial()
    }
}

impl<K: Resource<DynamicType = ()> + 'static> Kept for Note<K> {
    fn kind_name() -> Cow<'static, str> {
        K::kind(&())
    }

    fn plural_name() -> Cow<'static, str> {
        K::plural(&())
    }

    fn id(&self) -> (&str, &str) {
        (&self.namespace, &self.name)
    }

    fn version(&self) -> Option<&str> {
        Some(self.version.as_ref()).filter(|version| !version.is_empty())
    }

    fn created(&self) -> Option<Timestamp> {
        self.created
    }

    fn label(&self, key: &str) -> Option<&str> {
        OURS.iter().zip(&self.labels).find(|(known, _)| **known == key).and_then(|(_, value)| value.as_deref())
    }

    fn trim(&mut self) {}
}
