//! The cluster, as kubectl would reach it.

use std::ffi::OsString;

use anyhow::{Context, Result, bail};
use crds::{Platform, Tenant};
use jiff::Timestamp;
use kube::{
    Api, Client, Config, ResourceExt,
    api::ListParams,
    config::{KubeConfigOptions, Kubeconfig},
};

use operator::clock::{Clock, SystemClock};

use crate::cli::Global;

/// A client, and the namespace that was meant.
#[derive(Clone)]
pub struct Connection {
    pub client: Client,
    pub namespace: String,
    /// One moment for all of a command.
    pub now: Timestamp,
    /// Flags with which kubectl reaches the same place.
    pub kubectl: Vec<OsString>,
}

impl Connection {
    pub async fn open(global: &Global) -> Result<Self> {
        let config = config(global).await?;
        let namespace = config.default_namespace.clone();
        let client = Client::try_from(config).context("the kubeconfig cannot be used")?;
        let kubectl = kubectl(global, &namespace);
        Ok(Self { client, namespace, now: SystemClock.now(), kubectl })
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The Platform of this name, or the only one.
    pub async fn platform(&self, name: Option<&str>) -> Result<Platform> {
        if let Some(name) = name {
            let found = self.api::<Platform>().get_opt(name).await.context("cannot read the Platform")?;
            return found.with_context(|| {
                format!("there is no Platform {name:?} in namespace {:?}: see kubectl get platforms -A", self.namespace)
            });
        }
        let mut all = self.api::<Platform>().list(&ListParams::default()).await.context("cannot list Platforms")?.items;
        match (all.pop(), all.is_empty()) {
            (Some(only), true) => Ok(only),
            (None, _) => bail!("there is no Platform in namespace {:?}: name another with -n", self.namespace),
            (Some(last), false) => {
                all.push(last);
                let names: Vec<_> = all.iter().map(ResourceExt::name_any).collect();
                bail!(
                    "there are several Platforms in namespace {:?}: name one of {} with --platform",
                    self.namespace,
                    names.join(", ")
                )
            }
        }
    }

    pub async fn tenant(&self, name: &str) -> Result<Tenant> {
        let found = self.api::<Tenant>().get_opt(name).await.context("cannot read the Tenant")?;
        found.with_context(|| {
            format!("there is no Tenant {name:?} in namespace {:?}: see kubectl get tenants -A", self.namespace)
        })
    }
}

fn kubectl(global: &Global, namespace: &str) -> Vec<OsString> {
    let mut flags: Vec<OsString> = vec!["--namespace".into(), namespace.into()];
    let mut add = |flag: &str, value: Option<OsString>| flags.extend(value.into_iter().flat_map(|v| [flag.into(), v]));
    add("--kubeconfig", global.kubeconfig.clone().map(Into::into));
    add("--context", global.context.clone().map(Into::into));
    add("--cluster", global.cluster.clone().map(Into::into));
    add("--as", global.impersonate.clone().map(Into::into));
    for group in &global.impersonate_groups {
        add("--as-group", Some(group.into()));
    }
    flags
}

async fn config(global: &Global) -> Result<Config> {
    let options = KubeConfigOptions { context: global.context.clone(), cluster: global.cluster.clone(), user: None };
    let chosen = global.context.is_some() || global.cluster.is_some();
    let mut config = match &global.kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path)
                .with_context(|| format!("--kubeconfig: {} cannot be read", path.display()))?;
            Config::from_custom_kubeconfig(file, &options).await.context("the kubeconfig cannot be used")?
        }
        None => match Config::from_kubeconfig(&options).await {
            Ok(config) => config,
            Err(error) if chosen => return Err(error).context("the kubeconfig cannot be used"),
            // In a pod there is none, and the ServiceAccount speaks.
            Err(error) => Config::incluster().map_err(|_| error).context(
                "no cluster is known: name a kubeconfig with --kubeconfig or KUBECONFIG, and see kubectl config get-contexts",
            )?,
        },
    };
    if let Some(namespace) = &global.namespace {
        config.default_namespace.clone_from(namespace);
    }
    if let Some(user) = &global.impersonate {
        config.auth_info.impersonate = Some(user.clone());
    }
    if !global.impersonate_groups.is_empty() {
        config.auth_info.impersonate_groups = Some(global.impersonate_groups.clone());
    }
    if let Some(timeout) = global.request_timeout {
        config.connect_timeout = Some(timeout);
        config.read_timeout = Some(timeout);
    }
    Ok(config)
}
