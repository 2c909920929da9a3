"""The plugin's manifest for krew, filled as krew-release-bot fills it, by the rules of krew's own validation.

https://krew.sigs.k8s.io/docs/developer-guide/plugin-manifest/
"""

import re
import tomllib

import pytest
import yaml

from support import ROOT

MANIFEST = ROOT / "manifests/krew/tenantry.yaml"
TAG = "v" + tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
PLATFORM_FIELDS = {"selector", "uri", "sha256", "files", "bin"}


def filled(text):
    """`addURIAndSha` writes two lines: the address, with the tag in it, and the checksum of what is there."""
    text = re.sub(r'\{\{ *addURIAndSha "(.+?)" \.TagName \| indent 6 *\}\}', r"uri: \1\n      sha256: " + "ab" * 32, text)
    return yaml.safe_load(text.replace("{{ .TagName }}", TAG))


def complaints(plugin):
    spec = plugin["spec"]
    if plugin["apiVersion"] != "krew.googlecontainertools.github.com/v1alpha2" or plugin["kind"] != "Plugin":
        yield "neither group nor kind are krew's"
    if not re.fullmatch(r"[a-z][a-z0-9-]*", plugin["metadata"]["name"]):
        yield "name: krew installs names of small letters, digits and dashes"
    if unknown := set(spec) - {"version", "homepage", "shortDescription", "description", "caveats", "platforms"}:
        yield f"spec: krew knows no {unknown}"
    if not re.fullmatch(r"v\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?", spec["version"]):
        yield "version: krew takes a semantic version with a v"
    if not spec["shortDescription"] or "\n" in spec["shortDescription"] or len(spec["shortDescription"]) > 50:
        yield "shortDescription: one line of at most 50 characters"
    if not spec["platforms"]:
        yield "platforms: at least one"
    for platform in spec["platforms"]:
        if unknown := set(platform) - PLATFORM_FIELDS:
            yield f"platforms: krew knows no {unknown}"
        if not platform["uri"].startswith("https://") or not platform["uri"].endswith((".tar.gz", ".zip")):
            yield "uri: an archive by https"
        if not re.fullmatch(r"[0-9a-f]{64}", platform["sha256"]):
            yield "sha256: 64 hexadecimal digits"
        if set(platform["selector"]["matchLabels"]) != {"os", "arch"}:
            yield "selector: os and arch"
        if not platform["bin"] or platform["bin"].startswith("/"):
            yield "bin: a path inside of the archive"


def test_krew_takes_the_manifest():
    plugin = filled(MANIFEST.read_text())
    assert list(complaints(plugin)) == []
    assert plugin["spec"]["version"] == TAG
    assert all(f"/{TAG}/" in platform["uri"] for platform in plugin["spec"]["platforms"])
    assert "{{" not in str(plugin)


@pytest.mark.parametrize(
    ("field", "value", "word"),
    [("version", "0.2.0", "version"), ("shortDescription", "", "shortDescription"), ("platforms", [], "platforms"), ("files", [], "spec")],
)
def test_a_wrong_manifest_is_noticed(field, value, word):
    plugin = filled(MANIFEST.read_text())
    plugin["spec"][field] = value
    assert any(complaint.startswith(word) for complaint in complaints(plugin))


def test_the_program_is_the_one_that_is_built():
    bins = tomllib.loads((ROOT / "operator/plugin/Cargo.toml").read_text())
    name = bins.get("bin", [{"name": bins["package"]["name"]}])[0]["name"]
    plugin = filled(MANIFEST.read_text())
    assert {platform["bin"] for platform in plugin["spec"]["platforms"]} == {name}
    assert name == f"kubectl-{plugin['metadata']['name']}"


def test_a_release_has_the_archives_that_the_manifest_names():
    jobs = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())["jobs"]
    script = next(step["run"] for step in jobs["plugin"]["steps"] if "run" in step)
    architectures = re.search(r"for arch in (.+?);", script)[1].split()
    archives = {f"kubectl-tenantry_linux_{arch}.tar.gz" for arch in architectures}
    assert "kubectl-tenantry_linux_$arch.tar.gz" in script and " kubectl-tenantry LICENSE" in script
    assert {platform["uri"].rsplit("/", 1)[1] for platform in filled(MANIFEST.read_text())["spec"]["platforms"]} == archives
    assert (ROOT / "LICENSE").is_file(), "krew installs nothing without one"
