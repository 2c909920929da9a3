//! The world itself: what a test or `cargo dev up` holds in its hands.

use std::{fmt::Write, net::Ipv4Addr, path::PathBuf, sync::Arc};

use anyhow::{Context, Result, anyhow, bail};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, api::DeleteParams};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use url::Url;
use uuid::Uuid;

use crate::{
    Kubectl, Tenant,
    binaries::{Binaries, repository},
    control_plane::ControlPlane,
    ingress::Ingress,
    node::{self, Image, Images, Node, names},
    objects::{Objects, secret},
    operator::{self, Operator},
    postgres::{self, Durability, Postgres},
    process::tail,
    prometheus::Prometheus,
    provider::Provider,
    redis::{self, Redis},
    rights,
    smtp::Smtp,
    workdir::Workdir,
};

/// Name of the one Platform of a world, and of its Secrets' prefix; as in `manifests/examples`.
pub const PLATFORM: &str = "main";
/// Tags of bad releases.
pub const FAULTS: [&str; 6] = ["errors", "slow", "never-ready", "crashing", "stale-config", "failed-migration"];
/// For a cluster with nodes of its own: the API's image there, and this machine's address as its pods see it.
const IMAGE_VARIABLE: &str = "TENANTRY_TEST_IMAGE";
const ADDRESS_VARIABLE: &str = "TENANTRY_TEST_HOST_ADDRESS";

/// What may differ between worlds. The default is a private one for a test.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// A folder that outlives the world, with its own PostgreSQL; else everything is temporary.
    pub data: Option<PathBuf>,
    /// A fresh one where none is named.
    pub namespace: Option<String>,
    /// kubeconfig context of a cluster to use.
    pub cluster: Option<String>,
    /// 0 takes free ones.
    pub ingress_port: u16,
    pub provider_port: u16,
    /// Logs for people in place of JSON.
    pub readable_logs: bool,
    /// Told about each step.
    pub progress: Option<fn(&str)>,
}

/// Everything that is needed to run Tenantry, running.
pub struct Platform {
    pub namespace: String,
    pub control_plane: ControlPlane,
    pub objects: Objects,
    pub provider: Provider,
    pub ingress: Ingress,
    pub operators: Vec<Operator>,
    pub redis: Redis,
    /// Where a journey asked for one.
    pub prometheus: Option<Prometheus>,
    pub database: Url,
    database_name: Option<String>,
    operator: operator::Settings,
    node: Option<Node>,
    postgres: Arc<Postgres>,
    // Last: the others still write into it.
    workdir: Workdir,
}

impl Platform {
    /// A Platform with two replicas, ready.
    pub async fn start() -> Result<Self> {
        Self::with_replicas(2).await
    }

    pub async fn with_replicas(replicas: u32) -> Result<Self> {
        let world = Self::bare(Options::default()).await?;
        world.objects.apply(&world.manifest(replicas)).await?;
        let ready = world.objects.until(&format!("platform/{PLATFORM}"), "Ready", "True").await;
        match ready {
            Ok(_) => Ok(world),
            Err(error) => Err(world.explain(error).await),
        }
    }

    /// Owns a world for the length of one test: `Platform::run(async |platform| { … })`. A failure shows what the world
    /// looked like.
    pub async fn run(test: impl AsyncFnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let mut platform = Self::start().await?;
        let result = test(&mut platform).await;
        let result = match result {
            Ok(()) => Ok(()),
            Err(error) => Err(platform.explain(error).await),
        };
        platform.stop().await?;
        result
    }

    /// All services, CRDs and the operator; no object of ours yet.
    pub async fn bare(options: Options) -> Result<Self> {
        let say = |text: String| match options.progress {
            Some(progress) => progress(&text),
            None => eprintln!("harness: {text}"),
        };
        let workdir = match &options.data {
            Some(folder) => Workdir::lasting(folder)?,
            None => Workdir::temporary()?,
        };
        let namespace =
            options.namespace.clone().unwrap_or_else(|| format!("test-{}", &Uuid::new_v4().simple().to_string()[..8]));
        let binaries = Binaries::built().await?;

        let postgres = match &options.data {
            Some(_) => Arc::new(Postgres::borrow_or_start(&workdir.join("postgres"), Durability::Full).await?),
            None => Postgres::shared().await?,
        };
        let database_name = namespace.replace('-', "_");
        let database = postgres.database(&database_name).await?;
        say(format!("PostgreSQL: {}", postgres.origin));
        let address = match std::env::var(ADDRESS_VARIABLE) {
            Ok(address) => address.parse().with_context(|| format!("{ADDRESS_VARIABLE} is no address"))?,
            Err(_) => Ipv4Addr::LOCALHOST.into(),
        };
        let provider = Provider::start(address, options.provider_port).await?;
        let control_plane =
            ControlPlane::start(&workdir.join("control-plane"), &namespace, options.cluster.as_deref()).await?;
        say(format!("Kubernetes API: {control_plane}"));
        let image = std::env::var(IMAGE_VARIABLE);
        if control_plane.has_nodes && image.is_err() {
            bail!(
                "this cluster has nodes that run its pods: name an image that they can pull with {IMAGE_VARIABLE}, this machine's \
                 address with {ADDRESS_VARIABLE}, and services that pods reach with {} and {}",
                postgres::URL_VARIABLE,
                redis::URL_VARIABLE
            );
        }
        // Private wherever pods run here: a journey may take it away, and others must not notice.
        let redis =
            if control_plane.has_nodes { Redis::borrow()? } else { Redis::start(&workdir.join("redis")).await? };
        say(format!("Redis: {}", redis.origin));

        let objects = Objects::new(control_plane.client.clone(), &namespace);
        // Whatever runs in a world could run in a namespace of the strictest kind.
        let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
        let home = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}});
        objects.apply(&home).await?;
        objects.install_crds(&repository().join("crds/generated")).await?;
        for (service, uri) in [("postgres", &database), ("redis", &redis.url)] {
            objects.apply(&secret(&format!("{PLATFORM}-{service}"), &[("uri", uri.as_str())])).await?;
        }

        let image = image.unwrap_or_else(|_| "ghcr.io/tenantry/tenantry-api:dev".into());
        let node_settings = node::Settings {
            client: control_plane.client.clone(),
            namespace: Some(namespace.clone()),
            images: api_images(&binaries),
            kubeconfig: control_plane.kubeconfig.clone(),
            folder: workdir.join("node"),
        };
        let node = (!control_plane.has_nodes).then(|| Node::start(node_settings.clone()));
        say(format!(
            "pods: run by {}",
            if node.is_some() { "the local node, as processes" } else { "the cluster's nodes" }
        ));
        let ingress = Ingress::start(&control_plane.client, Some(&namespace), options.ingress_port).await?;
        say(format!("ingress: http://{}", ingress.address));
        for object in rights::of_the_operator(&namespace)?.into_iter().chain(rights::policies()?) {
            objects.apply(&object).await?;
        }
        let kubeconfig = workdir.join("operator/kubeconfig");
        rights::kubeconfig_of_the_operator(&control_plane.client, &control_plane.kubeconfig, &namespace, &kubeconfig)
            .await?;
        let operator = operator::Settings {
            program: binaries.operator,
            kubeconfig,
            namespace: namespace.clone(),
            image,
            folder: workdir.join("operator"),
            names: names::environment(&node_settings, &namespace),
            log_format: if options.readable_logs { "text" } else { "json" },
        };
        let mut world = Self {
            namespace,
            control_plane,
            objects,
            provider,
            ingress,
            operators: Vec::new(),
            redis,
            prometheus: None,
            database,
            database_name: options.data.is_none().then_some(database_name),
            operator,
            node,
            postgres,
            workdir,
        };
        world.add_operator().await?;
        say(format!("operator: ready, process {}", world.operators[0].pid()));
        Ok(world)
    }

    /// The Platform object of a test: as small as a person would write it.
    pub fn manifest(&self, replicas: u32) -> Value {
        let (repository, tag) = self.operator.image.rsplit_once(':').unwrap_or((&self.operator.image, "latest"));
        json!({
            "apiVersion": "tenantry.dev/v1alpha1",
            "kind": "Platform",
            "metadata": {"name": PLATFORM},
            "spec": {
                "image": {"repository": repository, "tag": tag},
                "replicas": replicas,
                "api": {"trustedProxies": ["127.0.0.0/8"]},
                "postgres": {"external": {"secretRef": {"name": format!("{PLATFORM}-postgres")}}},
                "redis": {"external": {"secretRef": {"name": format!("{PLATFORM}-redis")}}},
                "ingress": {},
            },
        })
    }

    /// Starts one more operator, and waits until it is ready (not until it leads).
    pub async fn add_operator(&mut self) -> Result<()> {
        let mut operator = Operator::start(&self.operator).await?;
        operator.is_ready().await?;
        self.operators.push(operator);
        self.prometheus.iter().try_for_each(|prometheus| prometheus.scrape(&self.operators))
    }

    /// A Prometheus that follows this world's pods and operators; yields its address.
    pub async fn start_prometheus(&mut self) -> Result<Url> {
        let (folder, client) = (self.workdir.join("prometheus"), &self.control_plane.client);
        let prometheus = Prometheus::start(&folder, client, &self.namespace, &self.operators).await?;
        Ok(self.prometheus.insert(prometheus).url.clone())
    }

    /// `kill -9` of all operators.
    pub async fn kill_operators(&mut self) -> Result<()> {
        for operator in self.operators.drain(..) {
            operator.kill().await?;
        }
        Ok(())
    }

    pub fn kubectl(&self) -> Result<Kubectl> {
        Kubectl::new(self.control_plane.kubeconfig.clone(), self.workdir.join("kubectl"))
    }

    /// A tenant that takes payments with the fake provider, served by every replica.
    pub async fn tenant(&self, name: &str) -> Result<Tenant> {
        Tenant::create(self, name).await
    }

    /// Every API process of this world, whoever started it.
    pub fn pod_processes(&self) -> Result<Vec<i32>> {
        let mine = format!("TENANTRY_NAMESPACE={}", self.namespace);
        let processes =
            std::fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let of_this_world = processes.filter(|pid: &i32| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == mine.as_bytes())
        });
        Ok(of_this_world.collect())
    }

    /// `kill -9` of every API process of this world; yields how many there were.
    pub fn kill_pods(&self) -> Result<usize> {
        let ended = |pid: &i32| Pid::from_raw(*pid).is_some_and(|pid| kill_process(pid, Signal::KILL).is_ok());
        Ok(self.pod_processes()?.iter().filter(|pid| ended(pid)).count())
    }

    /// A mail server of this world; its Platform sends through it when the object says so.
    pub async fn start_mail_server(&self) -> Result<Smtp> {
        Smtp::start(self.workdir.join("mail")).await
    }

    /// `logs/<namespace>/<pod>/<container>.log`.
    pub fn pod_logs(&self) -> PathBuf {
        self.workdir.join("node/logs")
    }

    /// A failure, with what the world looked like.
    pub async fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        anyhow!("{error:?}\n\n{}", self.diagnosis().await)
    }

    /// What the objects say, and the last words of everyone.
    pub async fn diagnosis(&self) -> String {
        let mut text = format!("--- Kubernetes API: {}\n{}", self.control_plane, self.objects.describe().await);
        for operator in &self.operators {
            let _ = writeln!(text, "--- {}\n{}", operator.name, operator.log_tail(25));
        }
        for log in files_below(&self.pod_logs()) {
            let _ = writeln!(text, "--- {}\n{}", log.display(), tail(&log, 25));
        }
        text
    }

    /// Ends everything in the order of dependence, politely. Dropping does it at once and by force.
    pub async fn stop(mut self) -> Result<()> {
        if let Some(prometheus) = self.prometheus.take() {
            prometheus.stop().await?;
        }
        for operator in self.operators.drain(..) {
            operator.stop().await?;
        }
        if let Some(node) = self.node.take() {
            node.stop().await;
        }
        if self.control_plane.is_shared() && self.database_name.is_some() {
            let namespaces: Api<Namespace> = Api::all(self.control_plane.client.clone());
            namespaces.delete(&self.namespace, &DeleteParams::background()).await?;
        }
        self.control_plane.stop().await.context("the control plane does not stop")?;
        self.redis.stop().await?;
        if let Some(name) = &self.database_name {
            self.postgres.drop_database(name).await?;
        }
        if let Ok(mut own) = Arc::try_unwrap(self.postgres) {
            own.stop().await?;
        }
        drop(self.workdir);
        Ok(())
    }
}

/// Any tag is the release that was built here, but those that name a fault.
fn api_images(binaries: &Binaries) -> Images {
    let good = Images::new().with("tenantry-api", binaries.api.clone());
    FAULTS.iter().fold(good, |images, fault| {
        let program = binaries.faulty.clone();
        let image = Image { program, env: [("TENANTRY_FAULT", (*fault).to_owned())].into(), ..Image::default() };
        images.with(&format!("tenantry-api:{fault}"), image)
    })
}

fn files_below(folder: &std::path::Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<_> =
        entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect();
    files.sort();
    files
}
