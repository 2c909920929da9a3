//! The cluster's DNS: a hosts file for each namespace, which nss_wrapper makes the C library of every process read.
//!
//! `main-redis`, `main-redis.ns`, `main-redis.ns.svc` and `main-redis.ns.svc.cluster.local` are the Service's address; those of a
//! headless Service are its pods', and `db-0.db.ns.svc` is one of them. So pods, and the operator, find Services under the names that
//! they have in a cluster, wherever the name comes from: a variable, a Secret, or what the operator itself put together.

use std::{
    collections::BTreeSet,
    fmt::Write,
    fs,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::Result;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;

use super::{Settings, endpoints};
use crate::process::find_program;

/// What must be preloaded, where it is on this machine.
pub fn library() -> Option<PathBuf> {
    let folders = ["/usr/lib", "/usr/lib64", "/usr/local/lib"].map(PathBuf::from);
    let below = folders.iter().flat_map(|folder| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.to_string_lossy().ends_with("-linux-gnu"))
    });
    let folders: Vec<_> = below.chain(folders.iter().cloned()).collect();
    find_program("libnss_wrapper.so", &folders)
}

fn file(settings: &Settings, namespace: &str) -> PathBuf {
    settings.folder.join("names").join(namespace)
}

/// What a process needs in its environment to know the names. Without the library it knows none.
pub fn environment(settings: &Settings, namespace: &str) -> Vec<(String, PathBuf)> {
    let variables =
        |library| vec![("LD_PRELOAD".into(), library), ("NSS_WRAPPER_HOSTS".into(), file(settings, namespace))];
    library().map(variables).unwrap_or_default()
}

/// Writes the files, where they changed.
pub fn write(
    settings: &Settings,
    services: &[Service],
    addresses: &[(&Service, Ipv4Addr)],
    pods: &[Pod],
) -> Result<()> {
    let mut entries = Vec::new();
    for (service, address) in addresses {
        entries.push((IpAddr::from(*address), service.name_any(), service.namespace().unwrap_or_default()));
    }
    let headless =
        |service: &&Service| service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None");
    for service in services.iter().filter(headless) {
        let (name, namespace) = (service.name_any(), service.namespace().unwrap_or_default());
        for (pod, address) in endpoints::published(service, pods) {
            entries.push((address, name.clone(), namespace.clone()));
            let spec = pod.spec.as_ref();
            let own = spec.and_then(|spec| spec.hostname.as_ref().filter(|_| spec.subdomain.as_ref() == Some(&name)));
            entries.extend(own.map(|own| (address, format!("{own}.{name}"), namespace.clone())));
        }
    }
    let ours = settings.namespace.clone();
    let namespaces: BTreeSet<_> = ours.into_iter().chain(services.iter().filter_map(ResourceExt::namespace)).collect();
    for namespace in namespaces {
        let mut text = String::new();
        for (address, name, home) in &entries {
            let bare = if *home == namespace { name.as_str() } else { "" };
            let _ = writeln!(text, "{address} {bare} {name}.{home} {name}.{home}.svc {name}.{home}.svc.cluster.local");
        }
        replace(&file(settings, &namespace), &text)?;
    }
    Ok(())
}

/// In one step, and with a time in whole seconds that was never there before: by that alone nss_wrapper sees that it changed.
fn replace(path: &Path, text: &str) -> Result<()> {
    let known = fs::read_to_string(path).ok();
    if known.as_deref() == Some(text) {
        return Ok(());
    }
    let before = fs::metadata(path).and_then(|metadata| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let new = path.with_extension("new");
    fs::write(&new, text)?;
    let file = fs::File::options().append(true).open(&new)?;
    let written = file.metadata()?.modified()?;
    file.set_modified(written.max(before + Duration::from_secs(1)))?;
    Ok(fs::rename(new, path)?)
}
