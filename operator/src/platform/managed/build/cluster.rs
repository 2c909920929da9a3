//! PostgreSQL as CloudNativePG runs it.

use crds::platform::ManagedPostgres;
use kube::{
    ResourceExt,
    api::{DynamicObject, ObjectMeta},
};
use serde_json::{Value, json};

use super::{
    super::{
        super::{build::pull_secrets, dereference::Dereferenced},
        dereference::{FoundPostgres, value},
        facts,
        names::{DATABASE, LOGINS, OWNER, Store, backup, owner},
    },
    data, peer,
};

/// Where CloudNativePG's own images are; their tags are PostgreSQL's versions.
const IMAGE: &str = "ghcr.io/cloudnative-pg/postgresql";
/// Name by which CloudNativePG knows the plugin that writes to object stores.
const PLUGIN: &str = "barman-cloud.cloudnative-pg.io";

/// The Cluster, with the two roles that the API signs in as: the one in use has the password of the `-app` Secret, the
/// next one that of the rotation's; one that is in neither cannot sign in, except the former one while pods still use it.
pub fn cluster(found: &Dereferenced, managed: &ManagedPostgres, there: &FoundPostgres) -> DynamicObject {
    let name = Store::Postgres.name(&found.name);
    let roles: Vec<_> = LOGINS.iter().map(|login| role(found, there, login)).collect();
    let mut storage = json!({ "size": managed.storage.size });
    if let Some(class) = &managed.storage.storage_class {
        storage["storageClass"] = class.as_str().into();
    }
    let mut spec = json!({
        "instances": managed.instances,
        "imageName": format!("{IMAGE}:{}", managed.version),
        "storage": storage,
        "bootstrap": { "initdb": { "database": DATABASE, "owner": OWNER, "secret": { "name": owner(&found.name) }, "dataChecksums": true } },
        "managed": { "roles": roles },
        "postgresql": { "parameters": { "max_connections": "300" } },
    });
    if let Some(resources) = managed.resources.as_ref().and_then(|resources| serde_json::to_value(resources).ok()) {
        spec["resources"] = resources;
    }
    if let Some(secrets) = pull_secrets(&found.platform) {
        spec["imagePullSecrets"] = secrets.into_iter().map(|secret| json!({ "name": secret.name })).collect();
    }
    match (managed.backup.as_ref().zip(destination(managed)), there.peers.object_stores) {
        (None, _) => {}
        (Some(_), true) => {
            spec["plugins"] = json!([{
                "name": PLUGIN, "isWALArchiver": true, "parameters": { "barmanObjectName": backup(&found.name) },
            }]);
        }
        (Some((backup, object_store)), false) => {
            spec["backup"] = json!({ "retentionPolicy": backup.retention, "barmanObjectStore": object_store });
        }
    }
    peer::object(&peer::cluster_kind(), data(found, name), &spec)
}

fn role(found: &Dereferenced, there: &FoundPostgres, login: &str) -> Value {
    let of = |secret: &Option<k8s_openapi::api::core::v1::Secret>| {
        secret.as_ref().is_some_and(|secret| value(secret, "username") == login)
    };
    let mut role = json!({ "name": login, "ensure": "present", "login": true, "inRoles": [OWNER] });
    let former = there.rotation.as_ref().and_then(facts::former);
    if of(&there.app) {
        role["passwordSecret"] = json!({ "name": Store::Postgres.app(&found.name) });
    } else if of(&there.rotation) {
        role["passwordSecret"] = json!({ "name": Store::Postgres.rotation(&found.name) });
    } else if former.as_deref() != Some(login) || retiring(found, there) {
        role["login"] = false.into();
        role["disablePassword"] = true.into();
    }
    role
}

/// The former login has had its day: no pod uses it any more.
fn retiring(found: &Dereferenced, there: &FoundPostgres) -> bool {
    let switched = there.app.as_ref().zip(there.rotation.as_ref());
    switched.is_some_and(|(app, rotation)| value(app, "username") == value(rotation, "username"))
        && facts::former_pods(found, there.app.as_ref()) == 0
}

/// The ScheduledBackup, and the ObjectStore that the plugin wants.
pub fn backups(found: &Dereferenced, managed: &ManagedPostgres, there: &FoundPostgres) -> Vec<DynamicObject> {
    let Some((wish, object_store)) = managed.backup.as_ref().zip(destination(managed)) else { return Vec::new() };
    let name = backup(&found.name);
    let metadata = || -> ObjectMeta { super::owned(found, name.clone()) };
    let mut spec = json!({
        // CloudNativePG's expressions begin with seconds.
        "schedule": format!("0 {}", wish.schedule),
        "backupOwnerReference": "none",
        "cluster": { "name": Store::Postgres.name(&found.name) },
        "method": "barmanObjectStore",
    });
    if !there.peers.object_stores {
        return vec![peer::object(&peer::scheduled_backup_kind(), metadata(), &spec)];
    }
    spec["method"] = "plugin".into();
    spec["pluginConfiguration"] = json!({ "name": PLUGIN });
    let store = json!({ "configuration": object_store, "retentionPolicy": wish.retention });
    vec![
        peer::object(&peer::object_store_kind(), metadata(), &store),
        peer::object(&peer::scheduled_backup_kind(), metadata(), &spec),
    ]
}

/// Where backups go, in Barman's words.
fn destination(managed: &ManagedPostgres) -> Option<Value> {
    let destination = managed.backup.as_ref()?.destination.as_ref()?;
    let secret = |key: &str| json!({ "name": destination.secret_ref.name, "key": key });
    let mut store = json!({ "destinationPath": destination.path, "wal": { "compression": "gzip" } });
    match destination.path.split_once("://") {
        Some(("gs", _)) => {
            store["googleCredentials"] = json!({ "applicationCredentials": secret("applicationCredentials") });
        }
        Some(("azure", path)) => {
            // Barman wants the address that Azure gives a container.
            let (account, path) = path.split_once('/').unwrap_or((path, ""));
            store["destinationPath"] = format!("https://{account}.blob.core.windows.net/{path}").into();
            store["azureCredentials"] = json!({ "connectionString": secret("connectionString") });
        }
        _ => {
            store["s3Credentials"] =
                json!({ "accessKeyId": secret("accessKeyId"), "secretAccessKey": secret("secretAccessKey") });
        }
    }
    if let Some(endpoint) = &destination.endpoint {
        store["endpointURL"] = endpoint.as_str().into();
    }
    Some(store)
}

/// Whether CloudNativePG takes this Secret's password for its user now.
pub fn takes(cluster: &DynamicObject, secret: &k8s_openapi::api::core::v1::Secret) -> bool {
    let status = &cluster.data["status"];
    let taken = &status["managedRolesStatus"]["passwordStatus"][value(secret, "username")]["resourceVersion"];
    taken.as_str().is_some_and(|version| secret.resource_version().as_deref() == Some(version))
}

/// Why CloudNativePG cannot bring a role to what was asked.
pub fn refuses(cluster: &DynamicObject, login: &str) -> Option<String> {
    let reasons = cluster.data["status"]["managedRolesStatus"]["cannotReconcile"][login].as_array()?;
    let reasons: Vec<_> = reasons.iter().filter_map(Value::as_str).collect();
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

/// Whether nobody can sign in as this role any more.
pub fn is_locked(cluster: &DynamicObject, login: &str) -> bool {
    let roles = cluster.data["spec"]["managed"]["roles"].as_array();
    let asked = roles.into_iter().flatten().any(|role| role["name"] == login && role["login"] == false);
    let done = cluster.data["status"]["managedRolesStatus"]["byStatus"]["reconciled"].as_array();
    asked && done.into_iter().flatten().any(|role| role == login)
}

/// Whether the Cluster is in the state that was asked for in general, and what it says of itself.
pub fn state(cluster: &DynamicObject) -> (bool, String) {
    let status = &cluster.data["status"];
    let conditions = status["conditions"].as_array();
    let ready = conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True");
    let number = |key: &str| status[key].as_u64().unwrap_or(0);
    let phase = status["phase"].as_str().unwrap_or("not looked at by CloudNativePG yet");
    let instances = cluster.data["spec"]["instances"].as_u64().unwrap_or(1);
    (ready, format!("{} of {instances} instances are ready: {phase}", number("readyInstances")))
}
