"""The chart and the manifests on a Kubernetes API: installed, upgraded, applied, refused, uninstalled.

The API is the stand-in of tests/apiserver, which `cargo build --package apiserver` makes.
"""

import json
import os
import subprocess
from pathlib import Path

import helm_python
import pytest

from support import CHART, KINDS, NAMESPACE, RELEASE, ROOT, values

APISERVER = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug/apiserver"


class Cluster:
    """An empty cluster with kubectl and Helm for it."""

    def __init__(self, kubeconfig):
        self.kubeconfig = kubeconfig
        self.helm = helm_python.Config(kubeconfig_path=kubeconfig, namespace=NAMESPACE)

    def kubectl(self, *args, stdin=None):
        return subprocess.run(["kubectl", "--kubeconfig", self.kubeconfig, *args], input=stdin, capture_output=True, text=True, cwd=ROOT)

    def does(self, *args, stdin=None):
        done = self.kubectl(*args, stdin=stdin)
        assert done.returncode == 0, f"kubectl {' '.join(args)}: {done.stderr}"
        return done.stdout

    def namespace(self, name):
        self.does("apply", "--filename", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))

    def names(self, kind, namespace=NAMESPACE):
        return set(self.does("get", kind, "--namespace", namespace, "--output", "jsonpath={.items[*].metadata.name}").split())


@pytest.fixture
def cluster(tmp_path):
    if not APISERVER.exists():
        pytest.fail(f"{APISERVER} is not built: cargo build --package apiserver")
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


def test_a_platform_in_the_first_install_is_refused_before_anything_is_done(cluster):
    cluster.namespace(NAMESPACE)
    with pytest.raises(helm_python.errors.HelmError):
        cluster.helm.install(CHART, RELEASE, {"platform": values("full")["platform"]})
    assert cluster.names("deployment") == cluster.names("crd") == set()


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
