//! Document in, document out: encode and decode side by side, so that they cannot drift apart.
//!
//! A document is `{"contract": "v1", "revision": "…", "tenant": {…}}`, indented for people. The revision is the hash of
//! the tenant's text as it stands, not of what this version understands of it: a document with fields that are newer
//! than the reader still proves its own integrity.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{Revision, TenantConfig, names::CONTRACT_VERSION};

/// A tenant's document, ready to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    pub revision: Revision,
    pub text: String,
}

/// Why a document cannot be served from.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("the document is not valid: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error(
        "the document is of contract {found:?}, and this process reads {CONTRACT_VERSION:?}: upgrade the API before the operator"
    )]
    Version { found: String },
    #[error("the document says revision {claimed} and its content has {actual}: it was edited by hand or cut short")]
    Revision { claimed: Revision, actual: Revision },
}

#[derive(Serialize, Deserialize)]
struct Wire<T> {
    contract: String,
    revision: Revision,
    tenant: T,
}

/// Renders a tenant. Equal tenants give equal bytes, whatever order their lists had.
pub fn encode(tenant: &TenantConfig) -> Result<Document, serde_json::Error> {
    let mut tenant = tenant.clone();
    tenant.normalize();
    let tenant = serde_json::to_value(&tenant)?;
    let revision = revision(&tenant);
    let wire = Wire { contract: CONTRACT_VERSION.to_owned(), revision: revision.clone(), tenant };
    Ok(Document { revision, text: serde_json::to_string_pretty(&wire)? + "\n" })
}

/// Reads a document whole or not at all.
pub fn decode(text: &str) -> Result<(Revision, TenantConfig), DecodeError> {
    #[derive(Deserialize)]
    struct Version {
        contract: String,
    }
    let Version { contract } = serde_json::from_str(text)?;
    if contract != CONTRACT_VERSION {
        return Err(DecodeError::Version { found: contract });
    }
    let wire: Wire<Value> = serde_json::from_str(text)?;
    let actual = revision(&wire.tenant);
    if actual != wire.revision {
        return Err(DecodeError::Revision { claimed: wire.revision, actual });
    }
    Ok((actual, serde_json::from_value(wire.tenant)?))
}

/// Hashes the compact text; the order of keys is that of the document.
fn revision(tenant: &Value) -> Revision {
    Revision::from_digest(&Sha256::digest(tenant.to_string().as_bytes()).into())
}

#[cfg(test)]
mod tests;
