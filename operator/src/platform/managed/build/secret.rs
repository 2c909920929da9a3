//! Secrets that are made once, and replaced by a rotation only.

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::api::ObjectMeta;

use super::super::credentials::Text;

/// Has CloudNativePG look at a Secret that is not its own.
const LABEL_RELOAD: &str = "cnpg.io/reload";

/// Type that every reader of a user name and a password knows.
const BASIC_AUTH: &str = "kubernetes.io/basic-auth";

pub fn basic_auth(mut metadata: ObjectMeta, text: Text) -> Secret {
    metadata.labels.get_or_insert_default().insert(LABEL_RELOAD.into(), "true".into());
    Secret { metadata, data: Some(bytes(text)), type_: Some(BASIC_AUTH.into()), ..Secret::default() }
}

pub fn opaque(metadata: ObjectMeta, text: Text) -> Secret {
    Secret { metadata, data: Some(bytes(text)), type_: Some("Opaque".into()), ..Secret::default() }
}

fn bytes(text: Text) -> std::collections::BTreeMap<String, ByteString> {
    text.into_iter().map(|(key, value)| (key, ByteString(value.into_bytes()))).collect()
}
