//! What a pod's template says about a container, resolved: program, arguments and environment.

use std::{collections::BTreeMap, net::Ipv4Addr, path::PathBuf};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVar, EnvVarSource, Pod, Secret};
use kube::ResourceExt;

use super::{Settings, identity, volumes::Mounts};
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
    let environment = environment(pod, container, sources).await?;
    let words = |list: &Option<Vec<String>>| -> Vec<String> {
        list.iter().flatten().map(|word| mounts.translate(&expand(word, &environment))).collect()
    };
    let mut command = words(&container.command);
    let image = program_of(settings, container)?;
    let program = if command.is_empty() { image } else { program(settings, &command.remove(0))? };

    let log = settings.logs().join(&sources.namespace).join(pod.name_any()).join(format!("{}.log", container.name));
    let mut launch = Launch::new(format!("pod {}/{}", pod.name_any(), container.name), program, log)
        .args(command)
        .args(words(&container.args))
        .clean_environment()
        .env("KUBECONFIG", identity::kubeconfig(settings, pod).await?)
        .env("HOSTNAME", pod.name_any())
        .env("TENANTRY_BIND_ADDRESS", sources.address.to_string());
    if let Some(folder) = mounts.folder_of("/tmp") {
        launch = launch.env("TMPDIR", folder);
    }
    for (name, value) in &environment {
        launch = launch.env(name, mounts.translate(value));
    }
    Ok(launch)
}

/// The program that stands for the image: by the last element of its repository.
fn program_of(settings: &Settings, container: &Container) -> Result<PathBuf> {
    let image = container.image.as_deref().unwrap_or_default();
    let repository = image.split('@').next().unwrap_or_default();
    let last = repository.rsplit('/').next().unwrap_or_default();
    let name = last.split(':').next().unwrap_or_default();
    settings.images.get(name).cloned().with_context(|| {
        let known: Vec<_> = settings.images.keys().map(String::as_str).collect();
        format!("the image \"{image}\" is unknown to the local node, which runs: {}", known.join(", "))
    })
}

fn program(settings: &Settings, command: &str) -> Result<PathBuf> {
    let name = command.rsplit('/').next().unwrap_or(command);
    let known = settings.images.get(name).cloned();
    known
        .or_else(|| find_program(name, &[]))
        .with_context(|| format!("exec: \"{command}\": no such program on this machine"))
}

async fn environment(pod: &Pod, container: &Container, sources: &Sources<'_>) -> Result<Vec<(String, String)>> {
    let mut environment = Vec::new();
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
