//! What a pod's template says about a container, resolved: program, arguments and environment.

use std::{
    collections::{BTreeMap, VecDeque},
    env,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVar, EnvVarSource, Pod, Secret};
use kube::ResourceExt;

use super::{Settings, identity, images::Image, names, volumes::Mounts};
use crate::process::{Launch, find_program};

pub type Bytes = BTreeMap<String, Vec<u8>>;

/// Where a pod's values come from.
pub struct Sources<'a> {
    pub settings: &'a Settings,
    pub namespace: String,
    pub address: Ipv4Addr,
}

impl Sources<'_> {
    pub async fn secret(&self, name: &str, optional: bool) -> Result<Bytes> {
        match self.settings.api_in::<Secret>(&self.namespace).get_opt(name).await? {
            Some(secret) => Ok(secret.data.into_iter().flatten().map(|(key, value)| (key, value.0)).collect()),
            None if optional => Ok(Bytes::new()),
            None => bail!("secret \"{name}\" not found"),
        }
    }

    pub async fn config_map(&self, name: &str, optional: bool) -> Result<Bytes> {
        match self.settings.api_in::<ConfigMap>(&self.namespace).get_opt(name).await? {
            Some(map) => {
                let text = map.data.into_iter().flatten().map(|(key, value)| (key, value.into_bytes()));
                let binary = map.binary_data.into_iter().flatten().map(|(key, value)| (key, value.0));
                Ok(text.chain(binary).collect())
            }
            None if optional => Ok(Bytes::new()),
            None => bail!("configmap \"{name}\" not found"),
        }
    }
}

/// The container as a process; not yet started.
pub async fn launch(pod: &Pod, container: &Container, sources: &Sources<'_>, mounts: &Mounts) -> Result<Launch> {
    let settings = sources.settings;
    let image = settings.images.find(container.image.as_deref().unwrap_or_default())?;
    let environment = environment(pod, container, image, sources).await?;
    let words = |list: &Option<Vec<String>>| -> Vec<String> {
        list.iter().flatten().map(|word| mounts.translate(&expand(word, &environment))).collect()
    };
    let mut command = words(&container.command);
    let program =
        if command.is_empty() { image.program.clone() } else { program(settings, image, &command.remove(0))? };

    let log = settings.log(&sources.namespace, &pod.name_any(), &container.name);
    let mut launch = Launch::new(format!("pod {}/{}", pod.name_any(), container.name), program, log)
        .args(command)
        .args(words(&container.args))
        .clean_environment()
        .env("KUBECONFIG", identity::kubeconfig(settings, pod).await?)
        .envs(names::environment(settings, &sources.namespace));
    if let Some(folder) = mounts.folder_of("/tmp") {
        launch = launch.env("TMPDIR", folder);
    }
    if !image.path.is_empty() {
        let machine = env::var_os("PATH").unwrap_or_default();
        let folders = image.path.iter().cloned().chain(env::split_paths(&machine));
        launch = launch.env("PATH", env::join_paths(folders)?);
    }
    for (name, value) in &environment {
        launch = launch.env(name, mounts.translate(value));
    }
    Ok(launch)
}

/// Another command in a running container: an exec probe. Where it says 127.0.0.1 it means its pod.
pub fn beside(launch: &Launch, container: &Container, command: &[String], within: &Within<'_>) -> Result<Launch> {
    let image = within.settings.images.find(container.image.as_deref().unwrap_or_default())?;
    let address = within.address.to_string();
    let word = |word: &String| within.mounts.translate(word).replace("127.0.0.1", &address);
    let mut words: VecDeque<_> = command.iter().map(word).collect();
    let first = words.pop_front().context("an exec probe needs a command")?;
    Ok(launch.clone().instead(program(within.settings, image, &first)?, words))
}

/// Where a container runs.
#[derive(Clone, Copy)]
pub struct Within<'a> {
    pub settings: &'a Settings,
    pub mounts: &'a Mounts,
    pub address: Ipv4Addr,
}

fn program(settings: &Settings, image: &Image, command: &str) -> Result<PathBuf> {
    let name = command.rsplit('/').next().unwrap_or(command);
    let known = settings.images.program(name).map(Path::to_owned);
    known
        .or_else(|| find_program(name, &image.path))
        .with_context(|| format!("exec: \"{command}\": no such program on this machine"))
}

async fn environment(
    pod: &Pod,
    container: &Container,
    image: &Image,
    sources: &Sources<'_>,
) -> Result<Vec<(String, String)>> {
    let mut environment =
        vec![("HOSTNAME".into(), pod.name_any()), ("TENANTRY_BIND_ADDRESS".into(), sources.address.to_string())];
    for (name, value) in &image.env {
        environment.push(((*name).to_owned(), expand(value, &environment)));
    }
    for source in container.env_from.iter().flatten() {
        let data = match (&source.secret_ref, &source.config_map_ref) {
            (Some(secret), _) => sources.secret(&secret.name, secret.optional == Some(true)).await?,
            (_, Some(map)) => sources.config_map(&map.name, map.optional == Some(true)).await?,
            _ => Bytes::new(),
        };
        let prefix = source.prefix.as_deref().unwrap_or_default();
        for (key, value) in data {
            environment.push((format!("{prefix}{key}"), String::from_utf8_lossy(&value).into_owned()));
        }
    }
    for EnvVar { name, value, value_from } in container.env.iter().flatten() {
        let value = match value_from {
            None => Some(expand(value.as_deref().unwrap_or_default(), &environment)),
            Some(source) => resolve(pod, container, source, sources).await.with_context(|| format!("env {name}"))?,
        };
        environment.extend(value.map(|value| (name.clone(), value)));
    }
    Ok(environment)
}

async fn resolve(
    pod: &Pod,
    container: &Container,
    source: &EnvVarSource,
    sources: &Sources<'_>,
) -> Result<Option<String>> {
    let pick = |mut data: Bytes, key: &str, owner: String, optional: bool| match data.remove(key) {
        Some(value) => Ok(Some(String::from_utf8(value).with_context(|| format!("key {key} of {owner} is no text"))?)),
        None if optional => Ok(None),
        None => bail!("couldn't find key {key} in {owner}"),
    };
    if let Some(reference) = &source.secret_key_ref {
        let optional = reference.optional == Some(true);
        let data = sources.secret(&reference.name, optional).await?;
        pick(data, &reference.key, format!("Secret {}", reference.name), optional)
    } else if let Some(reference) = &source.config_map_key_ref {
        let optional = reference.optional == Some(true);
        let data = sources.config_map(&reference.name, optional).await?;
        pick(data, &reference.key, format!("ConfigMap {}", reference.name), optional)
    } else if let Some(reference) = &source.field_ref {
        field(pod, sources.address, &reference.field_path).map(Some)
    } else if let Some(reference) = &source.resource_field_ref {
        let resources = container.resources.clone().unwrap_or_default();
        let (list, name) = match reference.resource.split_once('.') {
            Some(("limits", name)) => (resources.limits, name),
            Some(("requests", name)) => (resources.requests, name),
            _ => bail!("resourceFieldRef {} is neither limits nor requests", reference.resource),
        };
        Ok(list.and_then(|list| Some(list.get(name)?.0.clone())))
    } else {
        bail!("the local node knows secretKeyRef, configMapKeyRef, fieldRef and resourceFieldRef only")
    }
}

/// A value of the downward API.
pub fn field(pod: &Pod, address: Ipv4Addr, path: &str) -> Result<String> {
    let quoted = |prefix: &str| path.strip_prefix(prefix)?.strip_suffix("']").map(str::to_owned);
    if let Some(key) = quoted("metadata.labels['") {
        return Ok(pod.labels().get(&key).cloned().unwrap_or_default());
    }
    if let Some(key) = quoted("metadata.annotations['") {
        return Ok(pod.annotations().get(&key).cloned().unwrap_or_default());
    }
    let account = || pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone());
    Ok(match path {
        "metadata.name" => pod.name_any(),
        "metadata.namespace" => pod.namespace().unwrap_or_default(),
        "metadata.uid" => pod.uid().unwrap_or_default(),
        "spec.nodeName" => "local".into(),
        "spec.serviceAccountName" => account().unwrap_or_else(|| "default".into()),
        "status.podIP" | "status.podIPs" | "status.hostIP" => address.to_string(),
        _ => bail!("the local node knows no field {path}"),
    })
}

/// `$(NAME)` of what was said before; `$$(NAME)` is an escape; an unknown name stays as written.
fn expand(text: &str, environment: &[(String, String)]) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('$') {
        result.push_str(&rest[..start]);
        rest = &rest[start..];
        let name = rest.strip_prefix("$(").and_then(|inner| Some(&inner[..inner.find(')')?]));
        let value = name.and_then(|name| environment.iter().rev().find(|(known, _)| known == name));
        match (value, name) {
            (Some((name, value)), _) => {
                result.push_str(value);
                rest = &rest[name.len() + 3..];
            }
            (None, _) if rest.starts_with("$$") => {
                result.push('$');
                rest = &rest[2..];
            }
            _ => {
                result.push('$');
                rest = &rest[1..];
            }
        }
    }
    result + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_to_earlier_variables_are_expanded_as_kubernetes_does() {
        let environment = [("A".to_owned(), "1".to_owned())];
        assert_eq!(expand("x$(A)y$(B)z$$(A)$", &environment), "x1y$(B)z$(A)$");
    }
}
