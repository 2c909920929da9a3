//! PersistentVolumeClaims: each gets a folder at once, which outlives pods and goes with the claim.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{Settings, owned, template::Sources};

fn folder(settings: &Settings) -> PathBuf {
    settings.folder.join("claims")
}

/// Binds what is new. There is no provisioner to choose: any storage class is this machine's disk, and no size is enforced.
pub async fn bind(settings: &Settings, claim: &PersistentVolumeClaim) -> Result<()> {
    let bound = claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
    if bound || claim.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let uid = claim.uid().unwrap_or_default();
    let path = folder(settings).join(&uid);
    fs::create_dir_all(&path)?;
    // A program that gives up root has a folder of its own in it, and must get there.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    let spec = claim.spec.clone().unwrap_or_default();
    let api = settings.api_in::<PersistentVolumeClaim>(&claim.namespace().unwrap_or_default());
    let volume = Patch::Merge(json!({"spec": {"volumeName": format!("pvc-{uid}")}}));
    match api.patch(&claim.name_any(), &PatchParams::default(), &volume).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(()),
        other => other.map(|_| ())?,
    }
    let requested = spec.resources.and_then(|resources| resources.requests);
    let status = json!({"phase": "Bound", "accessModes": spec.access_modes, "capacity": requested});
    owned::write_status(settings, claim, status).await
}

/// Removes the folders of claims that are gone, once no pod has them.
pub fn sweep(settings: &Settings, claims: &[PersistentVolumeClaim], pods: &[Pod]) -> Result<()> {
    let known: BTreeSet<_> = claims.iter().filter_map(ResourceExt::uid).collect();
    let in_use = || {
        let volumes = pods.iter().flat_map(|pod| pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()));
        volumes.into_iter().any(|volume| volume.persistent_volume_claim.is_some())
    };
    for entry in fs::read_dir(folder(settings)).into_iter().flatten().flatten() {
        let gone = entry.file_name().to_str().is_some_and(|uid| !known.contains(uid));
        // A pod names its claim, not the folder: while any pod has one, what is gone may be the one that it has.
        if gone && !in_use() {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// The claim's folder, as a pod's volume.
pub async fn mount(sources: &Sources<'_>, name: &str, volume: &Path) -> Result<()> {
    let claim = sources.settings.api_in::<PersistentVolumeClaim>(&sources.namespace).get_opt(name).await?;
    let claim = claim.with_context(|| format!("persistentvolumeclaim \"{name}\" not found"))?;
    if claim.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Bound") {
        bail!("persistentvolumeclaim \"{name}\" is not bound yet");
    }
    let folder = folder(sources.settings).join(claim.uid().unwrap_or_default());
    if fs::read_link(volume).is_ok_and(|known| known == folder) {
        return Ok(());
    }
    if let Some(parent) = volume.parent() {
        fs::create_dir_all(parent)?;
    }
    Ok(symlink(folder, volume)?)
}
