//! The node and the ingress with real processes, against the stand-in Kubernetes API.

mod scaling;
mod stores;

use http::{StatusCode, header};
use k8s_openapi::api::{apps::v1::Deployment, batch::v1::Job, core::v1::Pod};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::*;
use crate::{
    ingress::Ingress,
    objects::{Objects, secret},
    wait,
    workdir::Workdir,
};

const NAMESPACE: &str = "default";

struct Machine {
    objects: Objects,
    client: Client,
    ingress: Ingress,
    node: Node,
    server: apiserver::Handle,
    workdir: Workdir,
}

impl Machine {
    async fn start() -> Self {
        let workdir = Workdir::temporary().unwrap();
        let server = apiserver::Server::start(apiserver::Options::default()).await.unwrap();
        let mut config = kube::Config::new(server.url().parse().unwrap());
        config.auth_info.token = Some(server.token().to_owned().into());
        let client = Client::try_from(config).unwrap();
        std::fs::write(workdir.join("kubeconfig"), server.kubeconfig()).unwrap();
        let node = Node::start(Settings {
            client: client.clone(),
            namespace: Some(NAMESPACE.into()),
            images: Images::new().with("shell", "/bin/sh"),
            kubeconfig: workdir.join("kubeconfig"),
            folder: workdir.join("node"),
        });
        let ingress = Ingress::start(&client, Some(NAMESPACE), 0).await.unwrap();
        Self { objects: Objects::new(client.clone(), NAMESPACE), client, ingress, node, server, workdir }
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    async fn pods(&self) -> Vec<Pod> {
        self.api::<Pod>().list(&ListParams::default()).await.unwrap().items
    }

    /// Looks at all pods until they are as wanted.
    async fn until_pods(&self, wanted: impl Fn(&[Pod]) -> bool) -> Vec<Pod> {
        wait::until_value("the pods", async || Ok(self.pods().await), |pods| wanted(pods)).await.unwrap()
    }

    async fn until_complete(&self, name: &str) -> Deployment {
        let look = async || Ok(self.api::<Deployment>().get(name).await?);
        wait::until_value("the rollout", look, |deployment| {
            let progress = deployment.status.iter().flat_map(|status| status.conditions.iter().flatten());
            deployment.status.as_ref().and_then(|status| status.observed_generation) == deployment.metadata.generation
                && progress.into_iter().any(|condition| condition.reason.as_deref() == Some("NewReplicaSetAvailable"))
        })
        .await
        .unwrap()
    }

    async fn get(&self, host: &str, path: &str) -> (StatusCode, String) {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("http://{}{path}", self.ingress.address);
        let response = client.get(url).header(header::HOST, host).send().await.unwrap();
        (response.status(), response.text().await.unwrap())
    }

    async fn stop(self) {
        self.node.stop().await;
        self.server.shutdown().await;
        drop(self.workdir);
    }
}

/// Serves a folder with one file, `greeting`, made of what the template says.
const SERVE: &str = r#"cd "$SITE"; echo "$GREETING from $NAME with $(cat "$SECRET_FILE")" > greeting
exec python3 -m http.server 8080 --bind "$TENANTRY_BIND_ADDRESS""#;

fn web(replicas: u32, greeting: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {
                    "terminationGracePeriodSeconds": 5,
                    "containers": [{
                        "name": "web", "image": "registry.example/tools/shell:1.0",
                        "args": ["-c", SERVE],
                        "env": [
                            {"name": "GREETING", "value": greeting},
                            {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                            {"name": "SITE", "value": "/site"},
                            {"name": "SECRET_FILE", "value": "/etc/web/word"},
                        ],
                        "ports": [{"name": "http", "containerPort": 8080}],
                        "readinessProbe": {"httpGet": {"path": "/greeting", "port": "http"}, "periodSeconds": 1},
                        "volumeMounts": [{"name": "site", "mountPath": "/site"}, {"name": "word", "mountPath": "/etc/web"}],
                    }],
                    "volumes": [{"name": "site", "emptyDir": {}}, {"name": "word", "secret": {"secretName": "word"}}],
                },
            },
        },
    })
}

fn script(restart: &str, script: &str) -> Value {
    json!({
        "restartPolicy": restart, "terminationGracePeriodSeconds": 5,
        "containers": [{"name": "main", "image": "shell", "args": ["-c", script]}],
    })
}

fn ready(pods: &[Pod]) -> usize {
    pods.iter().filter(|pod| owned::is_ready(pod)).count()
}

#[tokio::test]
async fn a_deployment_is_reached_through_the_ingress_by_its_host() {
    let machine = Machine::start().await;
    machine.objects.apply(&secret("word", &[("word", "love")])).await.unwrap();
    machine.objects.apply(&web(2, "hello")).await.unwrap();
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]}});
    let backend = json!({"service": {"name": "web", "port": {"name": "http"}}});
    let ingress = json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "web"},
        "spec": {"rules": [{"host": "web.test", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}]}});
    machine.objects.apply(&service).await.unwrap();
    machine.objects.apply(&ingress).await.unwrap();

    let deployment = machine.until_complete("web").await;
    assert_eq!(deployment.status.unwrap().ready_replicas, Some(2));
    let (status, text) = machine.get("web.test", "/greeting").await;
    assert_eq!(status, StatusCode::OK, "{text}");
    assert!(text.starts_with("hello from web-") && text.ends_with("with love\n"), "{text}");
    let (status, text) = machine.get("other.test", "/").await;
    assert_eq!(
        (status, text.contains("no Ingress names the host `other.test`; known: web.test")),
        (StatusCode::NOT_FOUND, true)
    );

    // A new template arrives without one failed request.
    machine.objects.apply(&web(2, "goodbye")).await.unwrap();
    let mut seen = Vec::new();
    while !seen.last().is_some_and(|text: &String| text.starts_with("goodbye")) {
        let (status, text) = machine.get("web.test", "/greeting").await;
        assert_eq!(status, StatusCode::OK, "{text}");
        seen.push(text);
    }
    machine.until_complete("web").await;

    machine.api::<Deployment>().delete("web", &DeleteParams::default()).await.unwrap();
    machine.until_pods(<[Pod]>::is_empty).await;
    let (status, text) = machine.get("web.test", "/").await;
    assert_eq!((status, text.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "ingress: Service web has no ready pod\n"));
    machine.stop().await;
}

#[tokio::test]
async fn replicas_follow_the_spec_each_on_an_address_of_its_own() {
    let machine = Machine::start().await;
    machine.objects.apply(&secret("word", &[("word", "love")])).await.unwrap();
    machine.objects.apply(&web(3, "hello")).await.unwrap();
    let pods = machine.until_pods(|pods| ready(pods) == 3).await;
    let mut addresses: Vec<_> = pods.iter().filter_map(|pod| pod.status.as_ref()?.pod_ip.clone()).collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 3);

    let scale = Patch::Merge(json!({"spec": {"replicas": 1}}));
    machine.api::<Deployment>().patch("web", &PatchParams::default(), &scale).await.unwrap();
    machine.until_pods(|pods| pods.len() == 1 && ready(pods) == 1).await;
    machine.stop().await;
}

#[tokio::test]
async fn a_missing_secret_is_named_and_waited_for() {
    let machine = Machine::start().await;
    machine.objects.apply(&web(1, "hello")).await.unwrap();
    machine
        .until_pods(|pods| {
            let status = serde_json::to_string(&pods.first().and_then(|pod| pod.status.clone())).unwrap();
            status.contains("CreateContainerConfigError") && status.contains(r#"secret \"word\" not found"#)
        })
        .await;
    machine.objects.apply(&secret("word", &[("word", "love")])).await.unwrap();
    machine.until_pods(|pods| ready(pods) == 1).await;
    machine.stop().await;
}

#[tokio::test]
async fn a_crashed_container_is_restarted_and_counted() {
    let machine = Machine::start().await;
    let out = machine.workdir.join("pids");
    let mut crash = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "crash"}});
    crash["spec"] = script("Always", &format!("echo $$ >> {}; exit 3", out.display()));
    machine.objects.apply(&crash).await.unwrap();
    machine
        .until_pods(|pods| {
            let crash = pods.iter().find(|pod| pod.metadata.name.as_deref() == Some("crash"));
            let statuses = crash.and_then(|pod| pod.status.as_ref()?.container_statuses.as_ref());
            statuses.is_some_and(|statuses| statuses[0].restart_count >= 2)
        })
        .await;
    assert!(std::fs::read_to_string(out).unwrap().lines().count() >= 2);
    machine.stop().await;
}

#[tokio::test]
async fn a_job_succeeds_or_fails_as_its_command_does() {
    let machine = Machine::start().await;
    for (name, command) in [("good", "exit 0"), ("bad", "exit 1")] {
        let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
            "spec": {"backoffLimit": 1, "template": {"spec": script("Never", command)}}});
        machine.objects.apply(&job).await.unwrap();
    }
    for (name, verdict, failed) in [("good", "Complete", None), ("bad", "Failed", Some(2))] {
        let look = async || Ok(machine.api::<Job>().get(name).await?.status.unwrap_or_default());
        let status = wait::until_value("the job", look, |status| {
            status.conditions.iter().flatten().any(|condition| condition.type_ == verdict && condition.status == "True")
        });
        assert_eq!(status.await.unwrap().failed.filter(|failed| *failed > 0), failed);
    }
    machine.stop().await;
}

#[tokio::test]
async fn a_deleted_pod_may_finish_its_work() {
    let machine = Machine::start().await;
    let (began, out) = (machine.workdir.join("began"), machine.workdir.join("last-words"));
    let trap = format!("trap 'echo done > {}; exit 0' TERM; echo > {}", out.display(), began.display());
    let mut spec = script("Always", &format!("{trap}; while :; do sleep 0.05; done"));
    // A pod that no node has is deleted at once.
    spec["nodeName"] = json!("local");
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "worker"}, "spec": spec});
    machine.objects.apply(&pod).await.unwrap();
    machine.until_pods(|pods| ready(pods) == 1).await;
    wait::until("the trap", async || Ok(began.exists().then_some(()))).await.unwrap();
    machine.api::<Pod>().delete("worker", &DeleteParams::default()).await.unwrap();
    machine.until_pods(<[Pod]>::is_empty).await;
    assert_eq!(std::fs::read_to_string(out).unwrap(), "done\n");
    machine.stop().await;
}

#[tokio::test]
async fn an_ingress_answers_for_a_wildcard_host_and_the_longest_path() {
    let machine = Machine::start().await;
    let backend = |name: &str| json!({"service": {"name": name, "port": {"number": 80}}});
    let path = |path: &str, name: &str| json!({"path": path, "pathType": "Prefix", "backend": backend(name)});
    let ingress = json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "web"},
        "spec": {"rules": [{"host": "*.web.test", "http": {"paths": [path("/", "root"), path("/api", "api")]}}]}});
    machine.objects.apply(&ingress).await.unwrap();
    for (asked, service) in [("/", "root"), ("/api/x", "api"), ("/apix", "root")] {
        let expected = format!("ingress: there is no Service {service}\n");
        wait::until_value(
            "the route",
            async || Ok(machine.get("a.web.test:80", asked).await.1),
            |text| *text == expected,
        )
        .await
        .unwrap();
    }
    machine.stop().await;
}
