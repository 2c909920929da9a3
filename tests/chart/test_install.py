"""The chart and the manifests on a Kubernetes API: installed, upgraded, applied, refused, uninstalled.

The API is the stand-in of tests/apiserver; it and the operator are made by `cargo build --workspace --bins`.
"""

import contextlib
import json
import os
import re
import socket
import subprocess
import threading
from pathlib import Path

import helm_python
import pytest

from support import CHART, KINDS, NAMESPACE, RELEASE, ROOT, chart, render, values

BINARIES = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"
APISERVER, OPERATOR = BINARIES / "apiserver", BINARIES / "tenantry-operator"
# The charts as they were released, to upgrade from.
RELEASES = Path(__file__).parent / "releases"


class Cluster:
    """An empty cluster with kubectl and Helm for it."""

    def __init__(self, kubeconfig):
        self.kubeconfig = kubeconfig
        self.operator_url = None
        self.helm = helm_python.Config(kubeconfig_path=kubeconfig, namespace=NAMESPACE)

    def kubectl(self, *args, stdin=None):
        return subprocess.run(["kubectl", "--kubeconfig", self.kubeconfig, *args], input=stdin, capture_output=True, text=True, cwd=ROOT)

    def does(self, *args, stdin=None):
        done = self.kubectl(*args, stdin=stdin)
        assert done.returncode == 0, f"kubectl {' '.join(args)}: {done.stderr}"
        return done.stdout

    def namespace(self, name):
        self.does("apply", "--filename", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))

    @contextlib.contextmanager
    def operator(self, folder):
        """The operator as a process; the check itself waits until it is ready."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.operator_url = f"http://127.0.0.1:{port}"
        env = {"PATH": os.environ["PATH"], "KUBECONFIG": str(self.kubeconfig), "POD_NAMESPACE": NAMESPACE, "LISTEN": f"127.0.0.1:{port}"}
        with open(folder / "operator.log", "w") as log, subprocess.Popen([OPERATOR, "run"], env=env, stdout=log, stderr=log) as process:
            try:
                yield
            finally:
                process.terminate()

    def names(self, kind, namespace=NAMESPACE):
        return set(self.does("get", kind, "--namespace", namespace, "--output", "jsonpath={.items[*].metadata.name}").split())


@pytest.fixture
def cluster(tmp_path):
    for program in (APISERVER, OPERATOR):
        if not program.exists():
            pytest.fail(f"{program} is not built: cargo build --workspace --bins")
    kubeconfig = tmp_path / "kubeconfig"
    server = subprocess.Popen([APISERVER, "--addr", "127.0.0.1:0", "--kubeconfig", kubeconfig], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for line in server.stdout:
        if "serving" in line:
            break
    else:
        pytest.fail(f"{APISERVER} ended with {server.wait()} before it served")
    try:
        yield Cluster(kubeconfig)
    finally:
        server.terminate()
        server.wait()


def test_a_release_is_installed_upgraded_with_a_platform_and_uninstalled_without_harm(cluster):
    cluster.namespace(NAMESPACE)
    cluster.namespace("payments")
    cluster.helm.install(CHART, RELEASE, {})
    assert {name.split(".")[0] for name in cluster.names("crd")} == {f"{kind.lower()}s".replace("policys", "policies") for kind in KINDS}
    assert cluster.names("deployment") == {"tenantry-operator"}

    platform = values("full")["platform"]
    cluster.helm.upgrade(CHART, RELEASE, {"platform": platform})
    assert cluster.names("platform", "payments") == {"main"}

    cluster.helm.uninstall(RELEASE)
    assert cluster.names("deployment") == set()
    assert cluster.names("platform", "payments") == {"main"}, "the API of all tenants goes on"
    assert len(cluster.names("crd")) == len(KINDS)


class Kubelet(threading.Thread):
    """Runs the Jobs and test pods of hooks as processes of the operator's binary, with the cluster's kubeconfig for the account."""

    def __init__(self, cluster):
        super().__init__(daemon=True)
        self.cluster, self.ran, self.done, self.failure = cluster, {}, threading.Event(), None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.join()
        assert self.failure is None, self.failure

    def run(self):
        while not self.done.wait(0.2):
            try:
                for kind in ("job", "pod"):
                    self.look(kind)
            except Exception as error:  # told by the test, not by the thread
                self.failure = error
                return

    def look(self, kind):
        for obj in json.loads(self.cluster.does("get", kind, "--namespace", NAMESPACE, "--output", "json"))["items"]:
            name = obj["metadata"]["name"]
            if (kind, obj["metadata"]["uid"]) in self.ran:
                continue
            pod = obj["spec"] if kind == "pod" else obj["spec"]["template"]["spec"]
            done = self.execute(pod)
            self.ran[kind, obj["metadata"]["uid"]] = (name, done)
            well = done.returncode == 0
            if kind == "job":
                status = {"succeeded": 1, "conditions": [{"type": "SuccessCriteriaMet", "status": "True"}, {"type": "Complete", "status": "True"}]} if well else {
                    "failed": 1, "conditions": [{"type": "FailureTarget", "status": "True"}, {"type": "Failed", "status": "True"}]}
            else:
                status = {"phase": "Succeeded" if well else "Failed"}
            self.cluster.does("patch", kind, name, "--namespace", NAMESPACE, "--subresource=status", "--type=merge", "--patch", json.dumps({"status": status}))

    def execute(self, pod):
        container, = pod["containers"]
        # Services have no addresses here: the operator's is where this test runs it.
        args = [re.sub(r"http://[^/]*", self.cluster.operator_url or "http://127.0.0.1:1", arg) for arg in container["args"]]
        env = {"PATH": os.environ["PATH"], "KUBECONFIG": str(self.cluster.kubeconfig)}
        env |= {e["name"]: e["value"] for e in container.get("env", [])}
        return subprocess.run([OPERATOR, *args], env=env, capture_output=True, text=True)

    def said(self):
        return "".join(done.stdout + done.stderr for _, done in self.ran.values())


def test_one_command_installs_the_operator_and_a_platform(cluster):
    cluster.namespace(NAMESPACE)
    cluster.namespace("payments")
    wished = {"platform": values("full")["platform"]}
    with Kubelet(cluster) as kubelet:
        cluster.helm.install(CHART, RELEASE, wished, timeout=60)
        assert "platform payments/main is applied" in kubelet.said()
    assert cluster.names("platform", "payments") == {"main"}
    assert cluster.names("job") == cluster.names("job", "payments") == set(), "hooks that succeeded leave nothing"
    uid = cluster.does("get", "platform", "main", "--namespace", "payments", "--output", "jsonpath={.metadata.uid}")

    # From now on it is an object of the release like any other.
    wished["platform"]["spec"]["replicas"] = 5
    cluster.helm.upgrade(CHART, RELEASE, wished)
    now = json.loads(cluster.does("get", "platform", "main", "--namespace", "payments", "--output", "json"))
    assert (now["metadata"]["uid"], now["spec"]["replicas"]) == (uid, 5)
    cluster.helm.uninstall(RELEASE)
    assert cluster.names("platform", "payments") == {"main"}


def test_helm_test_proves_that_the_installation_works(cluster, tmp_path):
    cluster.namespace(NAMESPACE)
    cluster.helm.install(CHART, RELEASE, {})
    with cluster.operator(tmp_path), Kubelet(cluster) as kubelet:
        cluster.helm.test(RELEASE, timeout=120)
        said = kubelet.said()
    assert "the operator is ready" in said and "a Tenant that is well is accepted, and one with a wrong hostname is refused" in said
    assert cluster.names("tenant") == set(), "a dry run leaves nothing"


def test_helm_test_fails_where_the_crds_are_of_another_version(cluster, tmp_path):
    cluster.namespace(NAMESPACE)
    cluster.helm.install(CHART, RELEASE, {})
    loose = {"spec": {"versions": [{"name": "v1alpha1", "served": True, "storage": True, "subresources": {"status": {}},
                                    "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}}]}}
    cluster.does("patch", "crd", "tenants.tenantry.dev", "--type=merge", "--patch", json.dumps(loose))
    with cluster.operator(tmp_path), Kubelet(cluster) as kubelet:
        with pytest.raises(helm_python.errors.HelmError):
            cluster.helm.test(RELEASE, timeout=120)
        assert "the CRDs are not those of this version" in kubelet.said()


def test_an_upgrade_from_0_1_0_brings_the_new_kinds_and_keeps_every_object(cluster):
    """What was installed by the chart before this one, from its package."""
    cluster.namespace(NAMESPACE)
    cluster.namespace("payments")
    cluster.helm.install(RELEASES / "tenantry-0.1.0.tgz", RELEASE, {})
    platform = values("full")["platform"]
    cluster.helm.upgrade(RELEASES / "tenantry-0.1.0.tgz", RELEASE, {"platform": platform})
    tenant = {"apiVersion": "tenantry.dev/v1alpha1", "kind": "Tenant", "metadata": {"name": "acme"}, "spec": {"hostnames": ["acme.example"]}}
    cluster.does("apply", "--namespace", "payments", "--filename", "-", stdin=json.dumps(tenant))
    cluster.does("patch", "tenant", "acme", "--namespace", "payments", "--subresource=status", "--type=merge", "--patch", '{"status":{"tenantId":"1f0a"}}')

    def seen(*what):
        return cluster.does("get", *what, "--output", "jsonpath={.metadata.uid} {.metadata.creationTimestamp} {.status.tenantId}")

    kept = [("crd", "tenants.tenantry.dev"), ("tenant", "acme", "--namespace", "payments"), ("platform", "main", "--namespace", "payments"),
            ("deployment", "tenantry-operator", "--namespace", NAMESPACE)]
    before = [seen(*what) for what in kept]
    cluster.helm.upgrade(CHART, RELEASE, {"platform": platform})
    assert [seen(*what) for what in kept] == before
    for crd in (o for o in render() if o["kind"] == "CustomResourceDefinition"):
        served = json.loads(cluster.does("get", "crd", crd["metadata"]["name"], "--output", "json"))
        assert served["spec"]["versions"][0]["schema"] == crd["spec"]["versions"][0]["schema"], crd["metadata"]["name"]
        assert served["metadata"]["labels"]["helm.sh/chart"] == f"tenantry-{chart().version}"
    image = cluster.does("get", "deployment", "tenantry-operator", "--namespace", NAMESPACE, "--output", "jsonpath={.spec.template.spec.containers[0].image}")
    assert image.endswith(f":{chart().metadata['appVersion']}")

    cluster.helm.uninstall(RELEASE)
    assert cluster.names("deployment") == set()
    assert [seen(*what) for what in kept[:3]] == before[:3]


def test_what_a_release_adds_goes_with_a_rollback_to_0_1_0(cluster):
    cluster.namespace(NAMESPACE)
    cluster.helm.install(RELEASES / "tenantry-0.1.0.tgz", RELEASE, {})
    cluster.helm.upgrade(CHART, RELEASE, {"networkPolicy": {"enabled": True}})
    assert cluster.names("networkpolicy") == {"tenantry-operator"}
    cluster.helm.rollback(RELEASE, version=1)
    assert cluster.names("networkpolicy") == set()
    assert len(cluster.names("crd")) == len(KINDS)


def test_a_protected_tenant_is_deleted_only_when_it_is_released(cluster):
    cluster.namespace(NAMESPACE)
    cluster.helm.install(CHART, RELEASE, {})
    tenant = {"apiVersion": "tenantry.dev/v1alpha1", "kind": "Tenant", "metadata": {"name": "acme"}, "spec": {"deletionProtection": True}}
    cluster.does("apply", "--filename", "-", stdin=json.dumps(tenant))
    refused = cluster.kubectl("delete", "tenant", "acme")
    assert refused.returncode != 0
    assert "tenant acme is protected from deletion; set spec.deletionProtection to false first" in refused.stderr
    cluster.does("patch", "tenant", "acme", "--type=merge", "--patch", '{"spec":{"deletionProtection":false}}')
    cluster.does("delete", "tenant", "acme")


def test_kustomize_takes_over_from_helm_without_a_conflict(cluster):
    """The same objects with the same values: who changes the tool need not force anything."""
    cluster.namespace(NAMESPACE)
    cluster.helm.install(CHART, RELEASE, {})
    cluster.does("apply", "--server-side", "--kustomize", "manifests/base")


def test_the_dev_overlay_and_the_examples_are_accepted(cluster):
    cluster.does("apply", "--server-side", "--kustomize", "crds")
    cluster.does("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
    cluster.does("apply", "--server-side", "--kustomize", "manifests/overlays/dev")
    assert cluster.names("platform") == {"main"}
    cluster.does("apply", "--namespace", NAMESPACE, "--filename", "manifests/examples")
    assert cluster.names("tenant") == {"acme"}
