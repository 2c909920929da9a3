//! A pod's volumes as folders, and its mount paths as a translation into them.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{Container, KeyToPath, Pod, Volume};
use kube::ResourceExt;

use super::{
    claims,
    images::Image,
    template::{Bytes, Sources, field},
};

/// Makes the folder of every volume anew. (An emptyDir outlives its container, not its pod: this runs once per pod.)
pub async fn materialise(pod: &Pod, sources: &Sources<'_>, folder: &Path) -> Result<()> {
    for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        let path = folder.join(&volume.name);
        if let Some(claim) = &volume.persistent_volume_claim {
            claims::mount(sources, &claim.claim_name, &path).await?;
            continue;
        }
        fs::create_dir_all(&path)?;
        // An emptyDir is everyone's, be it a program that gives up root; a Secret is not.
        let mode = if volume.empty_dir.is_some() { 0o777 } else { 0o700 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        fill(pod, volume, sources, &path).await.with_context(|| format!("volume {}", volume.name))?;
    }
    Ok(())
}

async fn fill(pod: &Pod, volume: &Volume, sources: &Sources<'_>, path: &Path) -> Result<()> {
    if let Some(secret) = &volume.secret {
        let name = secret.secret_name.as_deref().unwrap_or_default();
        let data = sources.secret(name, secret.optional == Some(true)).await?;
        write(path, &data, secret.items.as_deref())
    } else if let Some(map) = &volume.config_map {
        let data = sources.config_map(&map.name, map.optional == Some(true)).await?;
        write(path, &data, map.items.as_deref())
    } else if let Some(projected) = &volume.projected {
        for source in projected.sources.iter().flatten() {
            if let Some(secret) = &source.secret {
                let data = sources.secret(&secret.name, secret.optional == Some(true)).await?;
                write(path, &data, secret.items.as_deref())?;
            } else if let Some(map) = &source.config_map {
                let data = sources.config_map(&map.name, map.optional == Some(true)).await?;
                write(path, &data, map.items.as_deref())?;
            } else if let Some(downward) = &source.downward_api {
                downward_api(pod, sources, path, downward.items.iter().flatten())?;
            } else {
                bail!("the local node projects secret, configMap and downwardAPI sources only");
            }
        }
        Ok(())
    } else if let Some(downward) = &volume.downward_api {
        downward_api(pod, sources, path, downward.items.iter().flatten())
    } else if volume.empty_dir.is_some() {
        Ok(())
    } else {
        bail!(
            "the local node makes secret, configMap, projected, downwardAPI, emptyDir and persistentVolumeClaim volumes only"
        )
    }
}

fn downward_api<'a>(
    pod: &Pod,
    sources: &Sources<'_>,
    path: &Path,
    items: impl Iterator<Item = &'a k8s_openapi::api::core::v1::DownwardAPIVolumeFile>,
) -> Result<()> {
    for item in items {
        let reference = item.field_ref.as_ref().context("only fieldRef items are known")?;
        fs::write(inside(path, &item.path)?, field(pod, sources.address, &reference.field_path)?)?;
    }
    Ok(())
}

fn write(path: &Path, data: &Bytes, items: Option<&[KeyToPath]>) -> Result<()> {
    let Some(items) = items else {
        return data.iter().try_for_each(|(key, value)| Ok(fs::write(inside(path, key)?, value)?));
    };
    for item in items {
        let value = data.get(&item.key).with_context(|| format!("there is no key {}", item.key))?;
        fs::write(inside(path, &item.path)?, value)?;
    }
    Ok(())
}

fn inside(folder: &Path, name: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    if Path::new(name).components().any(|part| !matches!(part, std::path::Component::Normal(_))) {
        bail!("the path {name} leaves its volume");
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    Ok(path)
}

/// Mount paths of one container, and where they are on this machine.
#[derive(Debug, Default)]
pub struct Mounts(Vec<(String, PathBuf)>);

impl Mounts {
    pub fn new(container: &Container, image: &Image, volumes: &Path) -> Result<Self> {
        let mut mounts = Vec::new();
        for path in &image.volumes {
            let folder = volumes.join(".image").join(&container.name).join(path.trim_start_matches('/'));
            fs::create_dir_all(&folder)?;
            mounts.push(((*path).to_owned(), folder));
        }
        let declared = container.volume_mounts.iter().flatten().map(|mount| {
            let folder = volumes.join(&mount.name).join(mount.sub_path.as_deref().unwrap_or_default());
            (mount.mount_path.trim_end_matches('/').to_owned(), folder)
        });
        // Of two for one path the later counts: what the pod mounts.
        mounts.extend(declared);
        Ok(Self(mounts))
    }

    /// `/etc/tenantry/key` and `--key=/etc/tenantry/key`, where `/etc/tenantry` is mounted; anything else stays as it is.
    pub fn translate(&self, text: &str) -> String {
        let (option, path) = match text.split_once('=') {
            Some((option, path)) if option.starts_with('-') => (Some(option), path),
            _ => (None, text),
        };
        let below = |mount: &str| path.strip_prefix(mount).filter(|rest| rest.is_empty() || rest.starts_with('/'));
        let fitting = self.0.iter().filter_map(|(mount, folder)| Some((mount.len(), folder, below(mount)?)));
        let best = fitting.max_by_key(|(length, ..)| *length);
        match (best, option) {
            (None, _) => text.into(),
            (Some((_, folder, rest)), None) => format!("{}{rest}", folder.display()),
            (Some((_, folder, rest)), Some(option)) => format!("{option}={}{rest}", folder.display()),
        }
    }

    pub fn folder_of(&self, mount: &str) -> Option<&Path> {
        self.0.iter().find(|(path, _)| path == mount).map(|(_, folder)| folder.as_path())
    }
}

/// Of all pods' files, those of one.
pub fn folder(settings: &super::Settings, pod: &Pod) -> PathBuf {
    settings.folder.join("pods").join(pod.uid().unwrap_or_default()).join("volumes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_below_a_mount_are_translated_and_others_left() {
        let mounts = Mounts(vec![("/etc/a".into(), "/host/a".into()), ("/etc/a/b".into(), "/host/b".into())]);
        assert_eq!(mounts.translate("/etc/a/x"), "/host/a/x");
        assert_eq!(mounts.translate("/etc/a/b/x"), "/host/b/x");
        assert_eq!(mounts.translate("--file=/etc/a"), "--file=/host/a");
        assert_eq!(mounts.translate("/etc/ab"), "/etc/ab");
    }
}
