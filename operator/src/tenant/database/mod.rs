//! `isolation.database: Database`: a database for one tenant alone, with the same schema as the shared one.
//!
//! Who makes it depends on what the Platform stands on:
//!
//! | PostgreSQL | by |
//! |---|---|
//! | CloudNativePG's Cluster | a `Database` and a `DatabaseRole`, applied |
//! | a StatefulSet of ours | a Job, as its superuser |
//! | external, with `adminUri` in its Secret | a Job, as that role |
//! | external without | nobody: the Tenant brings a Secret `<tenant>-db` with the key `uri` |
//!
//! The login is in the Secret `<tenant>-db`, with the keys of CloudNativePG's `-app` Secret. It is made once and owned by
//! nobody, as everything that opens data. The tenant's document is written when the database is there, not before.

mod job;
mod peers;

use std::collections::BTreeMap;

use contract::{Secret as Text, TenantId};
use crds::{
    Platform, Tenant,
    conditions::reasons::{DEPENDENCY_MISSING, NOT_SUPPORTED, SECRET_KEY_NOT_FOUND, SETUP_FAILED, STARTING},
    tenant::DatabaseIsolation,
};
#[cfg(test)]
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt,
    api::{ObjectMeta, PostParams},
};

use super::purge::Purge;
use crate::{
    context::Ctx,
    error::{Doing, ReconcileError},
    kube_ext::tenant_labels,
    platform::managed::{
        build::secret::basic_auth,
        credentials::{self, PASSWORD_BYTES},
        dereference::{peers, value},
        names::{Store, superuser},
        rotation::Progress,
    },
};

/// On the Secret: the database that it opens is there.
const ANNOTATION_PROVISIONED: &str = "tenantry.dev/provisioned";
/// Key of an external PostgreSQL's Secret: a role with CREATEDB and CREATEROLE.
const ADMIN_URI: &str = "adminUri";

/// Where a tenant's data is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Own {
    /// In the database that tenants share.
    Shared,
    /// In its own, which is not there yet; a reason and a sentence with what is awaited, or the cure.
    Waiting { reason: &'static str, message: String },
    /// In this one.
    Ready { uri: Text, name: String },
}

impl Own {
    fn waiting(reason: &'static str, message: impl Into<String>) -> Self {
        Self::Waiting { reason, message: message.into() }
    }
}

/// Where the Secret of a tenant's database is.
pub fn secret_name(tenant: &str) -> String {
    format!("{tenant}-db")
}

/// Who may make databases: a key of a Secret of the Platform.
struct Admin {
    secret: String,
    key: &'static str,
    uri: String,
}

enum Maker {
    Cluster,
    Admin(Admin),
    /// Not yet, or not at all.
    Nobody(Own),
}

/// Sees to it that the tenant's database is there or on its way.
pub async fn ensure(ctx: &Ctx, tenant: &Tenant, platform: &Platform) -> Result<Own, ReconcileError> {
    if tenant.spec.isolation.database == DatabaseIsolation::RowLevelSecurity {
        return Ok(Own::Shared);
    }
    let namespace = tenant.namespace().unwrap_or_default();
    let name = secret_name(&tenant.name_any());
    let stored = read(ctx, &namespace, &name).await?;
    if let Some(brought) = stored.as_ref().filter(|secret| !is_ours(secret, tenant)) {
        return Ok(opened(brought).unwrap_or_else(|| {
            Own::waiting(
                SECRET_KEY_NOT_FOUND,
                format!("Secret {name} has no usable key uri: add it (postgres://user:password@host:5432/database)"),
            )
        }));
    }
    if let Some(done) = stored.as_ref().filter(|secret| secret.annotations().contains_key(ANNOTATION_PROVISIONED)) {
        return Ok(opened(done).unwrap_or_else(|| {
            Own::waiting(
                SECRET_KEY_NOT_FOUND,
                format!(
                    "Secret {name} has lost its key uri: put it back, or delete the Secret to have a new login made"
                ),
            )
        }));
    }
    let maker = maker(ctx, tenant, platform).await?;
    if let Maker::Nobody(why) = maker {
        return Ok(why);
    }
    let Some(secret) = stored else {
        let text = match &maker {
            Maker::Admin(admin) => job::keys(admin, &identifier(tenant), &drawn()),
            _ => Some(in_cluster(platform, tenant, &drawn())),
        };
        let Some(text) = text else {
            return Ok(Own::waiting(
                SECRET_KEY_NOT_FOUND,
                "the Platform's adminUri cannot be read: expected postgres://user:password@host:5432/postgres",
            ));
        };
        create(ctx, &basic_auth(metadata(tenant, platform), text)).await?;
        return Ok(Own::waiting(STARTING, "a login is being made"));
    };
    let progress = match &maker {
        Maker::Admin(admin) => job::provision(ctx, tenant, platform, admin).await?,
        _ => peers::provision(ctx, tenant, platform, &identifier(tenant)).await?,
    };
    Ok(match progress {
        Progress::Done => {
            mark(ctx, secret.clone()).await?;
            opened(&secret).unwrap_or_else(|| Own::waiting(STARTING, "a login is being made"))
        }
        Progress::Failed(why) => Own::waiting(SETUP_FAILED, why),
        _ => Own::waiting(STARTING, format!("database {} is being made", identifier(tenant))),
    })
}

/// Drops the tenant's database, as `deletionPolicy: Delete` asks.
pub async fn remove(ctx: &Ctx, tenant: &Tenant, platform: &Platform) -> Result<Purge, ReconcileError> {
    let namespace = tenant.namespace().unwrap_or_default();
    let stored = read(ctx, &namespace, &secret_name(&tenant.name_any())).await?;
    // Nothing was ever made.
    let Some(secret) = stored else { return Ok(Purge::Done) };
    let gone = if is_ours(&secret, tenant) {
        match maker(ctx, tenant, platform).await? {
            Maker::Cluster => peers::remove(ctx, tenant).await?,
            Maker::Admin(admin) => job::remove(ctx, tenant, platform, &admin).await?,
            Maker::Nobody(Own::Waiting { message, .. }) => Purge::Failed(message),
            Maker::Nobody(_) => Purge::Running,
        }
    } else {
        // Somebody else's database: emptied, not dropped.
        job::empty(ctx, tenant, platform).await?
    };
    if gone == Purge::Done && is_ours(&secret, tenant) {
        crate::kube_ext::delete::<Secret>(&ctx.client, &secret).await?;
    }
    Ok(gone)
}

async fn maker(ctx: &Ctx, tenant: &Tenant, platform: &Platform) -> Result<Maker, ReconcileError> {
    let (namespace, name) = (platform.namespace().unwrap_or_default(), platform.name_any());
    if let Some(external) = &platform.spec.postgres.external {
        let secret = external.secret_ref.name.clone();
        let uri = read(ctx, &namespace, &secret).await?.map(|found| value(&found, ADMIN_URI).to_owned());
        return Ok(match uri.filter(|uri| !uri.is_empty()) {
            Some(uri) => Maker::Admin(Admin { secret, key: ADMIN_URI, uri }),
            None => Maker::Nobody(Own::waiting(
                NOT_SUPPORTED,
                format!(
                    "nobody may make databases in the Platform's external PostgreSQL: add the key {ADMIN_URI} (a role with \
                     CREATEDB and CREATEROLE) to Secret {secret}, or make one yourself and put its address into a Secret {} \
                     under the key uri",
                    secret_name(&tenant.name_any())
                ),
            )),
        });
    }
    let secret = superuser(&name);
    if let Some(found) = read(ctx, &namespace, &secret).await? {
        return Ok(Maker::Admin(Admin { secret, key: "uri", uri: value(&found, "uri").to_owned() }));
    }
    if read(ctx, &namespace, &crate::platform::managed::names::owner(&name)).await?.is_none() {
        return Ok(Maker::Nobody(Own::waiting(STARTING, "the Platform's PostgreSQL is being made")));
    }
    if peers(ctx).await?.databases {
        return Ok(Maker::Cluster);
    }
    let message =
        "a database of its own needs CloudNativePG 1.30 or newer (its kinds Database and DatabaseRole): upgrade it";
    Ok(Maker::Nobody(Own::waiting(DEPENDENCY_MISSING, message)))
}

/// Name of the database and of the role that owns it: readable, and different for tenants of one name in two namespaces.
pub fn identifier(tenant: &Tenant) -> String {
    let (namespace, name) = (tenant.namespace().unwrap_or_default(), tenant.name_any());
    let id = TenantId::derive(&namespace, &name).as_uuid().simple().to_string();
    let readable: String = name.chars().take(40).map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    format!("tenant_{readable}_{}", id.get(..8).unwrap_or(&id))
}

fn in_cluster(platform: &Platform, tenant: &Tenant, password: &str) -> BTreeMap<String, String> {
    let (namespace, name) = (platform.namespace().unwrap_or_default(), identifier(tenant));
    let service = Store::Postgres.service(&platform.name_any());
    let login = credentials::Postgres {
        service: &service,
        namespace: &namespace,
        database: &name,
        user: &name,
        password,
        role: None,
    };
    login.keys()
}

fn opened(secret: &Secret) -> Option<Own> {
    let uri = value(secret, "uri").trim();
    let parsed = reqwest::Url::parse(uri).ok()?;
    let name = parsed.path().trim_start_matches('/').to_owned();
    (!name.is_empty()).then(|| Own::Ready { uri: Text::new(uri), name })
}

fn is_ours(secret: &Secret, tenant: &Tenant) -> bool {
    secret.labels().get(contract::names::LABEL_TENANT) == Some(&tenant.name_any())
}

fn metadata(tenant: &Tenant, platform: &Platform) -> ObjectMeta {
    ObjectMeta {
        name: Some(secret_name(&tenant.name_any())),
        namespace: tenant.namespace(),
        labels: Some(tenant_labels(&platform.name_any(), &tenant.name_any())),
        ..ObjectMeta::default()
    }
}

fn drawn() -> String {
    credentials::password(&rand::random::<[u8; PASSWORD_BYTES]>())
}

async fn read(ctx: &Ctx, namespace: &str, name: &str) -> Result<Option<Secret>, ReconcileError> {
    let secrets: Api<Secret> = Api::namespaced(ctx.client.clone(), namespace);
    secrets.get_opt(name).await.doing(|| format!("read Secret {namespace}/{name}"))
}

async fn create(ctx: &Ctx, secret: &Secret) -> Result<(), ReconcileError> {
    let (namespace, name) = (secret.namespace().unwrap_or_default(), secret.name_any());
    let secrets: Api<Secret> = Api::namespaced(ctx.client.clone(), &namespace);
    match secrets.create(&PostParams::default(), secret).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        made => made.map(drop).doing(|| format!("create Secret {namespace}/{name}")),
    }
}

/// Remembers where it is needed that the database is there: Jobs are cleared away.
async fn mark(ctx: &Ctx, mut secret: Secret) -> Result<(), ReconcileError> {
    let (namespace, name) = (secret.namespace().unwrap_or_default(), secret.name_any());
    secret.metadata.annotations.get_or_insert_default().insert(ANNOTATION_PROVISIONED.into(), "true".into());
    let secrets: Api<Secret> = Api::namespaced(ctx.client.clone(), &namespace);
    let done = secrets.replace(&name, &PostParams::default(), &secret).await;
    done.map(drop).doing(|| format!("mark Secret {namespace}/{name}"))
}

/// The bytes of a text map, as a Secret has them.
#[cfg(test)]
fn bytes(text: BTreeMap<String, String>) -> BTreeMap<String, ByteString> {
    text.into_iter().map(|(key, value)| (key, ByteString(value.into_bytes()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_readable_short_and_different() {
        let tenant = |namespace: &str, name: &str| {
            let mut tenant = Tenant::new_minimal(name, "a.example");
            tenant.metadata.namespace = Some(namespace.into());
            identifier(&tenant)
        };
        assert!(tenant("shop", "acme-co").starts_with("tenant_acme_co_"));
        assert_ne!(tenant("shop", "acme"), tenant("other", "acme"));
        assert!(tenant("shop", &"x".repeat(50)).len() <= 63);
    }

    #[test]
    fn an_external_server_keeps_its_address_and_options() {
        let uri = "postgres://root:r%40t@db.example:6432/postgres?sslmode=require".to_owned();
        let admin = Admin { secret: "db".into(), key: ADMIN_URI, uri };
        let keys = job::keys(&admin, "tenant_acme_1", "pw").unwrap();
        assert_eq!(keys["uri"], "postgres://tenant_acme_1:pw@db.example:6432/tenant_acme_1?sslmode=require");
        assert_eq!((keys["host"].as_str(), keys["port"].as_str()), ("db.example", "6432"));
        let secret = Secret { data: Some(bytes(keys)), ..Secret::default() };
        assert!(matches!(opened(&secret), Some(Own::Ready { name, .. }) if name == "tenant_acme_1"));
        assert!(job::keys(&Admin { secret: "db".into(), key: ADMIN_URI, uri: "nonsense".into() }, "a", "b").is_none());
    }
}
