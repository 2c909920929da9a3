"""The kustomize bases and overlays, the examples, and what is generated from elsewhere."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from schemas import VERSIONS, complaints, restricted
from support import COMPONENTS, GENERATED_CRDS, KINDS, ROOT, ident, kinds, kustomize, only, pod_specs, read, render

FOLDERS = ["manifests/base", "manifests/overlays/dev", "manifests/overlays/production", "manifests/dev"]
every_folder = pytest.mark.parametrize("folder", FOLDERS)


def test_generated_files_are_current():
    check = subprocess.run([sys.executable, Path(__file__).parent / "render.py", "--check"], capture_output=True, text=True)
    assert check.returncode == 0, check.stdout + check.stderr


@pytest.mark.parametrize("file", COMPONENTS)
def test_the_base_with_a_component_is_what_the_chart_installs_with_its_values(file, tmp_path):
    folder = os.path.relpath(ROOT / "manifests", tmp_path)
    (tmp_path / "kustomization.yaml").write_text(f"resources: [{folder}/base]\ncomponents: [{folder}/components/{file.split('/')[0]}]\n")
    built = by_ident(o for o in kustomize(tmp_path) if o["kind"] != "Namespace")
    installed = by_ident(o for o in render(COMPONENTS[file][0]) if "helm.sh/hook" not in o["metadata"].get("annotations", {}))
    assert built.keys() == installed.keys()
    for who, obj in installed.items():
        assert built[who] == obj, who
    assert installed != by_ident(o for o in render() if "helm.sh/hook" not in o["metadata"].get("annotations", {})), "it changes something"


def by_ident(objects):
    """Objects by identity, without what only one of the two ways of installing adds."""
    out = {}
    for obj in objects:
        metadata = obj["metadata"]
        pod = obj.get("spec", {}).get("template", {}).get("metadata", {}) if obj["kind"] == "Deployment" else {}
        for labels in (metadata.get("labels", {}), pod.get("labels", {})):
            for key in ("helm.sh/chart", "app.kubernetes.io/managed-by"):
                labels.pop(key, None)
        if obj["kind"] == "CustomResourceDefinition":
            obj = {key: obj[key] for key in ("apiVersion", "kind", "spec")} | {"metadata": {"name": metadata["name"]}}
        out[ident(obj)] = obj
    return out


def test_the_base_is_what_the_chart_installs():
    base = by_ident(o for o in kustomize("manifests/base") if o["kind"] != "Namespace")
    installed = by_ident(o for o in render() if "helm.sh/hook" not in o["metadata"].get("annotations", {}))
    assert base.keys() == installed.keys()
    for who, obj in installed.items():
        assert base[who] == obj, who


@every_folder
def test_every_object_is_valid_kubernetes_1_32_to_1_37(folder):
    objects = kustomize(folder)
    assert [why for version in VERSIONS for o in objects for why in complaints(o, version)] == []


@every_folder
def test_every_pod_passes_the_restricted_standard(folder):
    assert [why for who, pod in pod_specs(kustomize(folder)) for why in restricted(who, pod)] == []


@every_folder
def test_nothing_named_is_missing(folder):
    """Secrets, ConfigMaps and accounts that pods and Platforms name are there."""
    objects = kustomize(folder)
    here = {(o["kind"], o["metadata"]["name"]) for o in objects}
    for who, pod in pod_specs(objects):
        for volume in pod.get("volumes", []):
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in here, who
        for env in pod["containers"][0].get("env", []):
            if ref := env.get("valueFrom", {}).get("secretKeyRef"):
                secret = only(objects, "Secret", ref["name"])
                assert ref["key"] in secret["stringData"], who
        if "serviceAccountName" in pod:
            assert ("ServiceAccount", pod["serviceAccountName"]) in here, who
    for platform in (o for o in objects if o["kind"] == "Platform"):
        for store in ("postgres", "redis"):
            secret = only(objects, "Secret", platform["spec"][store]["external"]["secretRef"]["name"])
            host = secret["stringData"]["uri"].split("@")[-1].split("//")[-1].split(":")[0]
            assert ("Service", host) in here


def test_the_dev_overlay_runs_one_talkative_operator():
    objects = kustomize("manifests/overlays/dev")
    deployment = only(objects, "Deployment", "tenantry-operator")["spec"]
    env = {e["name"]: e.get("value") for e in deployment["template"]["spec"]["containers"][0]["env"]}
    assert (deployment["replicas"], env["LOG_LEVEL"]) == (1, "debug")
    assert "PodDisruptionBudget" not in kinds(objects)


def test_the_api_of_the_dev_overlay_is_nobodys_superuser():
    """Row-level security does not hold a superuser or a role with BYPASSRLS."""
    script = only(kustomize("manifests/dev"), "ConfigMap", "postgres-init")["data"]["tenantry.sql"]
    assert "CREATE ROLE tenantry LOGIN PASSWORD 'tenantry' NOSUPERUSER NOBYPASSRLS" in script
    assert only(kustomize("manifests/dev"), "Secret", "main-postgres")["stringData"]["uri"].startswith("postgres://tenantry:tenantry@")


def test_the_examples_fit_the_dev_overlay():
    """Tilt applies them there, except the Platform and the Secrets, which it has of its own."""
    objects = kustomize("manifests/dev")
    for path in examples():
        for obj in read(path):
            if obj["kind"] in ("Platform", "Secret"):
                mine = only(objects, obj["kind"], obj["metadata"]["name"])
                assert set(obj.get("stringData", {})) <= set(mine.get("stringData", {})), ident(obj)


def test_kubectl_applies_the_kinds_alone():
    assert {crd["spec"]["names"]["kind"] for crd in kustomize("crds")} == set(KINDS)


def examples():
    return sorted((ROOT / "manifests/examples").rglob("*.yaml"))


def test_there_is_an_example_of_every_kind():
    assert set(KINDS) <= {o["kind"] for path in examples() for o in read(path)}


@pytest.mark.parametrize("path", examples(), ids=lambda path: str(path.relative_to(ROOT / "manifests/examples")))
def test_every_example_is_accepted(path):
    assert [why for version in (VERSIONS[0], VERSIONS[-1]) for o in read(path) for why in complaints(o, version)] == []


def test_every_crd_is_valid_and_has_what_kubectl_shows():
    for path in GENERATED_CRDS.glob("*.yaml"):
        for crd in read(path):
            assert [why for version in VERSIONS for why in complaints(crd, version)] == []
            names = crd["spec"]["names"]
            assert names["categories"] == ["tenantry"] and names["shortNames"], names["kind"]
            for version in crd["spec"]["versions"]:
                assert "status" in version["subresources"] and version["additionalPrinterColumns"], names["kind"]
