//! This machine's real kubectl. <https://kubernetes.io/docs/reference/kubectl/>

use std::process::Stdio;

use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, Command},
};

use crate::world::{World, deployment, widget, widgets};
use serde_json::{Value, json};

struct Shell {
    world: World,
    home: TempDir,
}

impl Shell {
    async fn start() -> Self {
        let (world, home) = (World::start().await, tempfile::tempdir().unwrap());
        std::fs::write(home.path().join("config"), world.server.kubeconfig()).unwrap();
        let shell = Self { world, home };
        shell.apply(&widgets()).await;
        shell
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new("kubectl");
        command.args(arguments.split_whitespace()).env("KUBECONFIG", self.home.path().join("config"));
        command.env("HOME", self.home.path()).env("KUBE_EDITOR", "sed -i s/green/blue/");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// What kubectl says, on either stream, and whether it is content.
    async fn run(&self, arguments: &str, input: &str) -> (bool, String) {
        let mut child = self.command(arguments).spawn().expect("kubectl is installed");
        child.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
        let output = child.wait_with_output().await.unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), text)
    }

    async fn ok(&self, arguments: &str) -> String {
        let (success, text) = self.run(arguments, "").await;
        assert!(success, "kubectl {arguments}: {text}");
        text
    }

    async fn apply(&self, body: &Value) -> String {
        let (success, text) = self.run("apply -f -", &body.to_string()).await;
        assert!(success, "{text}");
        text
    }
}

fn green(name: &str) -> Value {
    widget(name, json!({ "color": "green" }))
}

#[tokio::test]
async fn apply_creates_then_configures_then_leaves_alone() {
    let shell = Shell::start().await;
    assert_eq!(shell.apply(&green("a")).await, "widget.shop.example.com/a created\n");
    assert_eq!(shell.apply(&green("a")).await, "widget.shop.example.com/a unchanged\n");
    let change = widget("a", json!({ "color": "red", "note": "x" }));
    assert_eq!(shell.apply(&change).await, "widget.shop.example.com/a configured\n");
    shell.apply(&widget("a", json!({ "color": "red" }))).await;
    assert_eq!(
        shell.ok("get wd a -o jsonpath={.spec}").await,
        r#"{"color":"red","replicas":1}"#,
        "what is no longer said is gone"
    );
    let mut web = deployment("web");
    assert_eq!(shell.apply(&web).await, "deployment.apps/web created\n");
    web["spec"]["template"]["spec"]["containers"][0]["image"] = json!("nginx:2");
    assert_eq!(shell.apply(&web).await, "deployment.apps/web configured\n");
    assert_eq!(shell.apply(&web).await, "deployment.apps/web unchanged\n");
}

#[tokio::test]
async fn server_side_apply_conflicts_with_an_edit_until_forced() {
    let shell = Shell::start().await;
    let (_, text) = shell.run("apply --server-side -f -", &green("a").to_string()).await;
    assert_eq!(text, "widget.shop.example.com/a serverside-applied\n");
    assert_eq!(shell.ok("edit wd a").await, "widget.shop.example.com/a edited\n");
    let (success, text) = shell.run("apply --server-side -f -", &green("a").to_string()).await;
    assert!(
        !success
            && text.contains("Apply failed with 1 conflict: conflict with \"kubectl-edit\" using shop.example.com/v1"),
        "{text}"
    );
    let (success, text) = shell.run("apply --server-side --force-conflicts -f -", &green("a").to_string()).await;
    assert!(success, "{text}");
    // From client-side to server-side apply kubectl moves the owner over.
    shell.apply(&green("b")).await;
    let (success, text) =
        shell.run("apply --server-side -f -", &widget("b", json!({ "color": "red" })).to_string()).await;
    assert!(success, "{text}");
}

#[tokio::test]
async fn a_bad_object_is_refused_with_a_sentence() {
    let shell = Shell::start().await;
    let (success, text) =
        shell.run("apply -f -", &widget("a", json!({ "color": "blue", "replicas": 9 })).to_string()).await;
    assert!(!success);
    assert_eq!(text, "The Widget \"a\" is invalid: spec: Invalid value: only red widgets may have more than five\n");
    let (success, text) =
        shell.run("apply -f -", &widget("a", json!({ "color": "blue", "colour": "red" })).to_string()).await;
    assert!(!success && text.contains("strict decoding error: unknown field \"spec.colour\""), "{text}");
    let stranger = json!({ "apiVersion": "none.example.com/v1", "kind": "Stranger", "metadata": { "name": "a" } });
    let (success, text) = shell.run("apply -f -", &stranger.to_string()).await;
    assert!(!success && text.contains("no matches for kind \"Stranger\" in version \"none.example.com/v1\""), "{text}");
}

#[tokio::test]
async fn get_prints_tables_by_name_short_name_and_category() {
    let shell = Shell::start().await;
    shell.apply(&green("a")).await;
    for kind in ["widgets", "wd", "shop", "widgets.shop.example.com"] {
        let table = shell.ok(&format!("get {kind}")).await;
        let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[0], ["NAME", "COLOR", "READY", "AGE"], "{table}");
        assert_eq!(rows[1][..2], ["a", "green"], "{table}");
    }
    shell.apply(&deployment("web")).await;
    let table = shell.ok("get all -A").await;
    assert!(
        table.contains("deployment.apps/web") && table.contains("0/1") && table.contains("service/kubernetes"),
        "{table}"
    );
    assert!(shell.ok("get deploy web -o yaml").await.contains("progressDeadlineSeconds: 600"));
    assert_eq!(shell.ok("get wd -l none=such").await, "No resources found in default namespace.\n");
    assert_eq!(shell.ok("get wd --field-selector spec.color=green -o name").await, "widget.shop.example.com/a\n");
}

#[tokio::test]
async fn get_watch_prints_each_change() {
    let shell = Shell::start().await;
    shell.apply(&green("a")).await;
    let mut watch: Child = shell.command("get wd -w --no-headers").spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    assert!(lines.next_line().await.unwrap().unwrap().contains("green"));
    shell.ok("patch wd a --type merge -p {\"spec\":{\"color\":\"red\"}}").await;
    assert!(lines.next_line().await.unwrap().unwrap().contains("red"));
    watch.kill().await.unwrap();
}

#[tokio::test]
async fn patch_wait_scale_label_and_delete_work() {
    let shell = Shell::start().await;
    shell.apply(&green("a")).await;
    shell.ok("patch wd a --subresource=status --type merge -p {\"status\":{\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\"}]}}").await;
    assert_eq!(
        shell.ok("wait --for=condition=Ready wd/a --timeout=5s").await,
        "widget.shop.example.com/a condition met\n"
    );
    assert_eq!(shell.ok("scale wd a --replicas=3").await, "widget.shop.example.com/a scaled\n");
    shell.ok("label wd a tier=x").await;
    shell.ok("annotate wd a why=because").await;
    let shown =
        shell.ok("get wd a -o jsonpath={.spec.replicas}{.metadata.labels.tier}{.metadata.annotations.why}").await;
    assert_eq!(shown, "3xbecause");
    assert_eq!(
        shell.ok("patch wd a --type json -p [{\"op\":\"remove\",\"path\":\"/spec/replicas\"}]").await,
        "widget.shop.example.com/a patched\n"
    );
    assert_eq!(shell.ok("delete wd a").await, "widget.shop.example.com \"a\" deleted\n");
    let (success, text) = shell.run("get wd a", "").await;
    assert!(!success && text == "Error from server (NotFound): widgets.shop.example.com \"a\" not found\n", "{text}");
}

#[tokio::test]
async fn describe_tells_the_object_and_its_events() {
    let shell = Shell::start().await;
    shell.apply(&green("a")).await;
    let uid = shell.ok("get wd a -o jsonpath={.metadata.uid}").await;
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": { "name": "a.1", "namespace": "default" }, "type": "Normal", "reason": "Painted",
        "message": "now it is green", "involvedObject": { "apiVersion": "shop.example.com/v1", "kind": "Widget", "name": "a", "namespace": "default", "uid": uid },
    });
    shell.apply(&event).await;
    let text = shell.ok("describe wd a").await;
    assert!(
        text.contains("Color:     green") && text.contains("Painted") && text.contains("now it is green"),
        "{text}"
    );
    assert!(shell.ok("events").await.contains("Painted"));
    assert!(shell.ok("get events --sort-by=.lastTimestamp").await.contains("Painted"));
    shell.apply(&deployment("web")).await;
    assert!(shell.ok("describe deployment web").await.contains("nginx:1"));
}

#[tokio::test]
async fn explain_and_api_resources_know_custom_and_built_in_kinds() {
    let shell = Shell::start().await;
    let text = shell.ok("explain widget.spec").await;
    assert!(
        text.contains("What is wished.")
            && text.contains("color\t<string> -required-")
            && text.contains("enum: red, green, blue"),
        "{text}"
    );
    assert!(shell.ok("explain deployment.spec.template.spec.containers.image").await.contains("Container image name"));
    assert!(
        shell.ok("explain widget.metadata.ownerReferences").await.contains("List of objects depended by this object")
    );
    let text = shell.ok("api-resources --api-group=shop.example.com --no-headers").await;
    assert_eq!(text.split_whitespace().collect::<Vec<_>>(), ["widgets", "wd", "shop.example.com/v1", "true", "Widget"]);
}

#[tokio::test]
async fn create_diff_and_auth_work() {
    let shell = Shell::start().await;
    assert_eq!(shell.ok("create namespace team").await, "namespace/team created\n");
    assert_eq!(shell.ok("create configmap settings --from-literal=a=b").await, "configmap/settings created\n");
    assert_eq!(shell.ok("create secret generic keys --from-literal=a=b").await, "secret/keys created\n");
    assert_eq!(shell.ok("get secret keys -o jsonpath={.data.a}").await, "Yg==");
    assert_eq!(shell.ok("create deployment web --image=nginx:1 --replicas=2").await, "deployment.apps/web created\n");
    assert_eq!(shell.ok("auth can-i delete pods").await, "yes\n");
    shell.apply(&green("a")).await;
    let (differs, text) = shell.run("diff -f -", &widget("a", json!({ "color": "red" })).to_string()).await;
    assert!(!differs && text.contains("-  color: green") && text.contains("+  color: red"), "{text}");
    assert_eq!(shell.ok("delete namespace team").await, "namespace \"team\" deleted\n");
    let _kept = &shell.world;
}

#[tokio::test]
async fn people_ask_who_they_are_and_what_they_may() {
    let shell = Shell::start().await;
    assert!(shell.ok("auth whoami -o jsonpath={.status.userInfo.username}").await.contains("tenantry:admin"));
    shell.ok("create serviceaccount robot").await;
    shell.ok("create role reader --verb=get,list --resource=pods").await;
    shell.ok("create rolebinding reader --role=reader --serviceaccount=default:robot").await;
    let robot = "--as=system:serviceaccount:default:robot";
    assert_eq!(shell.ok(&format!("auth can-i list pods {robot}")).await, "yes\n");
    assert_eq!(shell.run(&format!("auth can-i delete pods {robot}"), "").await, (false, "no\n".into()));
    assert!(shell.ok(&format!("auth can-i --list {robot}")).await.contains("pods"));
    let (_, text) = shell.run(&format!("delete pod web {robot}"), "").await;
    let refused = "Error from server (Forbidden): pods \"web\" is forbidden: User \"system:serviceaccount:default:robot\" cannot delete resource \"pods\" in API group \"\" in the namespace \"default\"\n";
    assert_eq!(text, refused);
    let token = shell.ok("create token robot --duration=20m").await;
    let shown = shell.run("auth whoami -o jsonpath={.status.userInfo.username}", "").await;
    assert!(shown.0);
    assert_eq!(shell.world.user(token.trim()).get("/api/v1/namespaces/default/pods").await.0, 200);
}

#[tokio::test]
async fn a_job_is_made_from_a_cron_job_as_it_is_written_there() {
    let shell = Shell::start().await;
    let template = json!({ "spec": { "template": { "spec": {
        "restartPolicy": "Never",
        "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
        "volumes": [{ "name": "data", "persistentVolumeClaim": { "claimName": "data" } }, { "name": "tmp", "emptyDir": { "sizeLimit": "1Gi" } }],
        "containers": [{
            "name": "dump", "image": "postgres:17", "command": ["pg_dump"],
            "env": [{ "name": "PGPASSWORD", "valueFrom": { "secretKeyRef": { "name": "main-postgres-app", "key": "password" } } }],
            "envFrom": [{ "configMapRef": { "name": "settings" } }],
            "volumeMounts": [{ "name": "data", "mountPath": "/backup" }],
            "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
            "resources": { "requests": { "memory": "64Mi" } },
        }],
    } } } });
    let cron = json!({ "apiVersion": "batch/v1", "kind": "CronJob", "metadata": { "name": "backup" }, "spec": { "schedule": "0 3 * * *", "jobTemplate": template } });
    shell.apply(&cron).await;
    assert_eq!(shell.ok("create job now --from=cronjob/backup").await, "job.batch/now created\n");
    let cron: Value = serde_json::from_str(&shell.ok("get cronjob backup -o json").await).unwrap();
    let job: Value = serde_json::from_str(&shell.ok("get job now -o json").await).unwrap();
    assert_eq!(job["spec"]["template"]["spec"], cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]);
    assert_eq!(job["metadata"]["ownerReferences"][0]["kind"], "CronJob");
}

#[tokio::test]
async fn a_rollout_is_told_until_it_is_done() {
    let shell = Shell::start().await;
    shell.apply(&deployment("web")).await;
    let done = r#"{"status":{"observedGeneration":1,"replicas":1,"updatedReplicas":1,"readyReplicas":1,"availableReplicas":1}}"#;
    shell.ok(&format!("patch deployment web --subresource=status --type=merge -p {done}")).await;
    assert_eq!(
        shell.ok("rollout status deployment/web --timeout=10s").await,
        "deployment \"web\" successfully rolled out\n"
    );
    let set = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": { "name": "db" },
        "spec": {
            "serviceName": "db", "selector": { "matchLabels": { "app": "db" } },
            "template": { "metadata": { "labels": { "app": "db" } }, "spec": { "containers": [{ "name": "main", "image": "postgres:17" }] } },
            "volumeClaimTemplates": [{ "metadata": { "name": "data" }, "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } } }],
        },
    });
    shell.apply(&set).await;
    let done = r#"{"status":{"observedGeneration":1,"replicas":1,"updatedReplicas":1,"readyReplicas":1,"availableReplicas":1,"currentRevision":"a","updateRevision":"a"}}"#;
    shell.ok(&format!("patch statefulset db --subresource=status --type=merge -p {done}")).await;
    assert!(shell.ok("rollout status statefulset/db --timeout=10s").await.contains("complete"));
    assert_eq!(shell.ok("scale statefulset db --replicas=2").await, "statefulset.apps/db scaled\n");
}

#[tokio::test]
async fn logs_and_drain_reach_the_pods_of_a_node() {
    let shell = Shell::start().await;
    shell.apply(&json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "one" } })).await;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "web" },
        "spec": { "nodeName": "one", "terminationGracePeriodSeconds": 0, "containers": [{ "name": "main", "image": "nginx:1" }] },
    });
    shell.apply(&pod).await;
    let (_, text) = shell.run("logs web", "").await;
    assert!(text.contains("no node keeps logs here"), "{text}");
    assert!(shell.ok("drain one --force --timeout=10s").await.contains("pod/web evicted"));
    assert!(shell.run("get pod web", "").await.1.contains("not found"));
}
