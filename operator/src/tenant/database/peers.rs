//! A tenant's database by CloudNativePG: a `DatabaseRole` that signs in, and a `Database` that it owns.

use contract::names::FIELD_MANAGER;
use crds::{Platform, Tenant, tenant::DeletionPolicy};
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, ObjectMeta, Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{Purge, secret_name};
use crate::{
    context::Ctx,
    error::{Doing, ReconcileError},
    kube_ext::{is_not_served, tenant_labels},
    platform::managed::{build::peer, names::Store, rotation::Progress},
};

/// What the two objects say; pure.
pub fn objects(tenant: &Tenant, platform: &Platform, name: &str) -> [(ApiResource, DynamicObject); 2] {
    let cluster = json!({ "name": Store::Postgres.name(&platform.name_any()) });
    let reclaim = match tenant.spec.deletion_policy {
        DeletionPolicy::Retain => "retain",
        DeletionPolicy::Delete => "delete",
    };
    let role = json!({
        "cluster": cluster, "name": name, "login": true, "databaseRoleReclaimPolicy": reclaim,
        "passwordSecret": { "name": secret_name(&tenant.name_any()) },
    });
    let database = json!({ "cluster": cluster, "name": name, "owner": name, "databaseReclaimPolicy": reclaim });
    let object = |kind: ApiResource, spec: &Value| {
        let metadata = ObjectMeta {
            name: Some(secret_name(&tenant.name_any())),
            namespace: tenant.namespace(),
            labels: Some(tenant_labels(&platform.name_any(), &tenant.name_any())),
            ..ObjectMeta::default()
        };
        let object = peer::object(&kind, metadata, spec);
        (kind, object)
    };
    [object(peer::database_role_kind(), &role), object(peer::database_kind(), &database)]
}

/// Applies both; done when CloudNativePG says that it has applied what they say now.
pub async fn provision(
    ctx: &Ctx,
    tenant: &Tenant,
    platform: &Platform,
    name: &str,
) -> Result<Progress, ReconcileError> {
    for (kind, object) in objects(tenant, platform, name) {
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let api: Api<DynamicObject> = Api::namespaced_with(ctx.client.clone(), &namespace, &kind);
        let applied = api.patch(&name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(&object)).await;
        let applied = applied.doing(|| format!("apply {} {namespace}/{name}", kind.kind))?;
        match progress(&kind, &applied) {
            // A database cannot be owned by a role that is not there.
            Progress::Done => {}
            other => return Ok(other),
        }
    }
    Ok(Progress::Done)
}

/// A verdict about an older generation is none.
fn progress(kind: &ApiResource, object: &DynamicObject) -> Progress {
    let status = &object.data["status"];
    let current = status["observedGeneration"].as_i64().is_some_and(|seen| Some(seen) == object.metadata.generation);
    match status["applied"].as_bool() {
        Some(true) if current => Progress::Done,
        Some(false) if current => {
            let why = status["message"].as_str().unwrap_or("no reason is given");
            Progress::Failed(format!("CloudNativePG cannot apply {} {}: {why}", kind.kind, object.name_any()))
        }
        _ => Progress::Running,
    }
}

/// With their reclaim policy `delete`, CloudNativePG drops what they stand for.
pub async fn remove(ctx: &Ctx, tenant: &Tenant) -> Result<Purge, ReconcileError> {
    let (namespace, name) = (tenant.namespace().unwrap_or_default(), secret_name(&tenant.name_any()));
    // The database first: a role that owns one cannot be dropped.
    for kind in [peer::database_kind(), peer::database_role_kind()] {
        let api: Api<DynamicObject> = Api::namespaced_with(ctx.client.clone(), &namespace, &kind);
        match api.delete(&name, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if is_not_served(&status) => {}
            // It holds the object until the database is gone.
            done => return done.map(|_| Purge::Running).doing(|| format!("delete {} {namespace}/{name}", kind.kind)),
        }
    }
    Ok(Purge::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::managed::published;

    #[test]
    fn a_verdict_about_an_older_generation_is_none() {
        let kind = peer::database_kind();
        let mut object = peer::object(&kind, ObjectMeta { generation: Some(2), ..ObjectMeta::default() }, &json!({}));
        for (status, expected) in [
            (json!({}), Progress::Running),
            (json!({ "applied": true, "observedGeneration": 1 }), Progress::Running),
            (json!({ "applied": true, "observedGeneration": 2 }), Progress::Done),
        ] {
            object.data["status"] = status;
            assert_eq!(progress(&kind, &object), expected);
        }
        object.data["status"] = json!({ "applied": false, "observedGeneration": 2, "message": "no such role" });
        assert!(matches!(progress(&kind, &object), Progress::Failed(why) if why.contains("no such role")));
    }

    #[test]
    fn the_objects_of_a_tenants_database() {
        let mut tenant = Tenant::new_minimal("acme", "acme.example");
        tenant.metadata.namespace = Some("shop".into());
        let platform = Platform::new_minimal("main", "db", "cache");
        let objects = objects(&tenant, &platform, "tenant_acme_1").map(|(_, object)| object);
        published::takes("cnpg-databaseroles.yaml", &objects[0]);
        published::takes("cnpg-databases.yaml", &objects[1]);
        insta::assert_yaml_snapshot!("objects", objects);
    }
}
