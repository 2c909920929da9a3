//! The Kubernetes API of a world, in the order of honesty:
//!
//! 1. a cluster that was named explicitly (`TENANTRY_TEST_CLUSTER=<kubeconfig context>`, or `--cluster`);
//! 2. a real `etcd` + `kube-apiserver` from `KUBEBUILDER_ASSETS` or envtest's default folder;
//! 3. the stand-in of this repository.
//!
//! What ran is always printed: it decides what a green test means.

use std::{
    env, fmt, fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use aws_lc_rs::{encoding::AsDer, signature::EcdsaKeyPair};
use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client, Config,
    api::ListParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use uuid::Uuid;

use crate::{
    kubectl,
    process::{Launch, Process, Signal, free_port},
    rights, wait,
};

pub const CLUSTER_VARIABLE: &str = "TENANTRY_TEST_CLUSTER";
const ASSETS_VARIABLE: &str = "KUBEBUILDER_ASSETS";
const DEFAULT_ASSETS: &str = "/usr/local/kubebuilder/bin";

#[derive(Debug)]
struct Real {
    etcd: Process,
    apiserver: Process,
}

/// What answers.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a world has one of it")]
enum Kind {
    Cluster,
    Real(Box<Real>),
    StandIn { server: Option<apiserver::Handle>, options: apiserver::Options },
}

pub struct ControlPlane {
    kind: Kind,
    pub origin: String,
    /// Whoever holds it may do anything.
    pub kubeconfig: PathBuf,
    pub client: Client,
    /// Something else runs pods here: a kubelet.
    pub has_nodes: bool,
}

impl ControlPlane {
    /// `folder` keeps its state and the kubeconfig, whose context has `namespace` as default.
    pub async fn start(folder: &Path, namespace: &str, cluster: Option<&str>) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let named = cluster.map(str::to_owned).or_else(|| env::var(CLUSTER_VARIABLE).ok());
        let (kind, kubeconfig, origin) = match (named, assets()) {
            (Some(context), _) => cluster_named(&context).await?,
            (None, Some(assets)) => real(&assets, folder).await?,
            (None, None) => stand_in(folder).await?,
        };
        let path = folder.join("kubeconfig");
        fs::write(&path, with_namespace(&kubeconfig, namespace)?)?;
        let client = client(&path).await?;
        let mut plane = Self { kind, origin, kubeconfig: path, client, has_nodes: false };
        plane.until_it_answers().await?;
        plane.has_nodes = plane.nodes().await;
        Ok(plane)
    }

    async fn until_it_answers(&mut self) -> Result<()> {
        let client = self.client.clone();
        wait::until("the Kubernetes API to answer", async || {
            if let Kind::Real(real) = &mut self.kind {
                real.etcd.check_alive()?;
                real.apiserver.check_alive()?;
            }
            let ready = client.request_text(http::Request::get("/readyz").body(Vec::new())?).await;
            Ok(ready.ok())
        })
        .await?;
        Ok(())
    }

    async fn nodes(&self) -> bool {
        // The stand-in and a bare kube-apiserver have none.
        Api::<Node>::all(self.client.clone())
            .list(&ListParams::default())
            .await
            .is_ok_and(|nodes| !nodes.items.is_empty())
    }

    /// The control plane goes away; what it knows stays for [`Self::restart`].
    pub async fn halt(&mut self) -> Result<()> {
        match &mut self.kind {
            Kind::Cluster => bail!("a cluster that others use is not halted"),
            Kind::Real(real) => real.apiserver.signal(Signal::STOP),
            Kind::StandIn { server, .. } => {
                if let Some(server) = server.take() {
                    server.shutdown().await;
                }
            }
        }
        Ok(())
    }

    /// Back at the same address.
    pub async fn restart(&mut self) -> Result<()> {
        match &mut self.kind {
            Kind::Cluster => {}
            Kind::Real(real) => real.apiserver.signal(Signal::CONT),
            Kind::StandIn { server, options } => *server = Some(apiserver::Server::start(options.clone()).await?),
        }
        self.until_it_answers().await
    }

    /// Others go on using it after us.
    pub fn is_shared(&self) -> bool {
        matches!(self.kind, Kind::Cluster)
    }

    pub async fn stop(self) -> Result<()> {
        match self.kind {
            Kind::Cluster | Kind::StandIn { server: None, .. } => {}
            Kind::StandIn { server: Some(server), .. } => server.shutdown().await,
            Kind::Real(mut real) => {
                real.apiserver.stop(Signal::TERM, Duration::from_secs(5)).await?;
                real.etcd.stop(Signal::TERM, Duration::from_secs(5)).await?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for ControlPlane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControlPlane")
            .field("kind", &self.kind)
            .field("kubeconfig", &self.kubeconfig)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for ControlPlane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin)
    }
}

async fn client(kubeconfig: &Path) -> Result<Client> {
    // The harness's own client: no proxy stands between us and a loopback address.
    let config =
        Config::from_custom_kubeconfig(Kubeconfig::read_from(kubeconfig)?, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

fn with_namespace(kubeconfig: &str, namespace: &str) -> Result<String> {
    let mut config = Kubeconfig::from_yaml(kubeconfig)?;
    for context in config.contexts.iter_mut().filter_map(|named| named.context.as_mut()) {
        context.namespace = Some(namespace.into());
    }
    Ok(serde_json::to_string_pretty(&config)?) // JSON is YAML
}

async fn cluster_named(context: &str) -> Result<(Kind, String, String)> {
    let output = tokio::process::Command::new(kubectl::program()?)
        .args(["config", "view", "--minify", "--flatten", "--context", context])
        .output()
        .await?;
    if !output.status.success() {
        bail!("the cluster `{context}`: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let mut config = Kubeconfig::from_yaml(&String::from_utf8(output.stdout)?)?;
    config.current_context = Some(context.into());
    Ok((Kind::Cluster, serde_json::to_string(&config)?, format!("the cluster `{context}`")))
}

/// What [`ControlPlane::start`] would take, in words.
pub fn plan() -> String {
    match (env::var(CLUSTER_VARIABLE), assets()) {
        (Ok(context), _) => format!("the cluster `{context}` ({CLUSTER_VARIABLE})"),
        (_, Some(assets)) => format!("real etcd and kube-apiserver from {}", assets.display()),
        (_, None) => format!("the stand-in of tests/apiserver (no {ASSETS_VARIABLE})"),
    }
}

/// Where etcd and kube-apiserver are, as envtest looks for them.
fn assets() -> Option<PathBuf> {
    let folder = env::var_os(ASSETS_VARIABLE).map_or_else(|| DEFAULT_ASSETS.into(), PathBuf::from);
    (folder.join("kube-apiserver").is_file() && folder.join("etcd").is_file()).then_some(folder)
}

async fn stand_in(folder: &Path) -> Result<(Kind, String, String)> {
    if let Some(folder) = env::var_os(ASSETS_VARIABLE) {
        bail!("{ASSETS_VARIABLE} is {}, where there is no etcd and kube-apiserver", folder.display());
    }
    let mut options = apiserver::Options {
        data_dir: Some(folder.join("objects")),
        audit: rights::audit_file(),
        // Where the world's node keeps them.
        logs: folder.parent().map(|world| world.join("node/logs")),
        ..Default::default()
    };
    let server = apiserver::Server::start(options.clone()).await.context("the stand-in API server does not start")?;
    // After a restart it must be found where it was.
    options.addr = server.url().trim_start_matches("http://").parse()?;
    let kubeconfig = server.kubeconfig();
    let origin = format!("the stand-in of tests/apiserver at {} (no {ASSETS_VARIABLE})", server.url());
    Ok((Kind::StandIn { server: Some(server), options }, kubeconfig, origin))
}

/// As envtest starts them, plus RBAC for ServiceAccounts' tokens.
async fn real(assets: &Path, folder: &Path) -> Result<(Kind, String, String)> {
    let (etcd_port, port) = (free_port()?, free_port()?);
    let etcd_url = format!("http://127.0.0.1:{etcd_port}");
    let etcd = Launch::new("etcd", assets.join("etcd"), folder.join("etcd.log"))
        .args(["--unsafe-no-fsync", "--listen-peer-urls=http://127.0.0.1:0", "--log-level=warn"])
        .args([format!("--listen-client-urls={etcd_url}"), format!("--advertise-client-urls={etcd_url}")])
        .args([format!("--data-dir={}", folder.join("etcd").display())])
        .start()
        .await?;

    let token = Uuid::new_v4().simple().to_string();
    let (tokens, key, certificates) =
        (folder.join("tokens.csv"), folder.join("service-account.pem"), folder.join("certificates"));
    fs::write(&tokens, format!("{token},admin,admin,\"system:masters\"\n"))?;
    if !key.exists() {
        fs::write(&key, service_account_key()?)?;
    }
    let apiserver = Launch::new("kube-apiserver", assets.join("kube-apiserver"), folder.join("kube-apiserver.log"))
        .args([
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--authorization-mode=RBAC",
            // Pods here have no kubelet to mount a token for.
            "--disable-admission-plugins=ServiceAccount",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--api-audiences=https://kubernetes.default.svc",
            "--allow-privileged=true",
        ])
        .args([
            format!("--secure-port={port}"),
            format!("--etcd-servers={etcd_url}"),
            format!("--cert-dir={}", certificates.display()),
            format!("--token-auth-file={}", tokens.display()),
            format!("--service-account-key-file={}", key.display()),
            format!("--service-account-signing-key-file={}", key.display()),
        ])
        .start()
        .await?;
    // Self-signed at its first start.
    let certificate = certificates.join("apiserver.crt");
    let authority = wait::until("kube-apiserver's certificate", async || Ok(fs::read(&certificate).ok())).await?;

    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let kubeconfig = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "tenantry",
        "clusters": [{"name": "tenantry", "cluster": {
            "server": format!("https://{address}"), "certificate-authority-data": STANDARD.encode(authority),
        }}],
        "users": [{"name": "tenantry", "user": {"token": token}}],
        "contexts": [{"name": "tenantry", "context": {"cluster": "tenantry", "user": "tenantry"}}],
    });
    let origin = format!("a real kube-apiserver with etcd from {} at https://{address}", assets.display());
    Ok((Kind::Real(Box::new(Real { etcd, apiserver })), kubeconfig.to_string(), origin))
}

/// Signs ServiceAccounts' tokens; a private key serves for verifying too.
fn service_account_key() -> Result<String> {
    let key = EcdsaKeyPair::generate(&aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1_SIGNING)?;
    let der: aws_lc_rs::encoding::EcPrivateKeyRfc5915Der<'_> = key.private_key().as_der()?;
    Ok(format!("-----BEGIN EC PRIVATE KEY-----\n{}\n-----END EC PRIVATE KEY-----\n", STANDARD.encode(der.as_ref())))
}
