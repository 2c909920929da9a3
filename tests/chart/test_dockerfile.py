"""The Dockerfile, as far as it can be checked without an engine: names, paths, versions, the user."""

import fnmatch
import re
import tomllib

import pytest

from support import ROOT, kustomize, only, rendered

TARGETS = {"operator": "tenantry-operator", "api": "tenantry-api", "kubectl": "kubectl-tenantry"}


def instructions():
    """(instruction, rest) in order, continuation lines joined, comments dropped."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line.strip()]


def stages():
    """Stage name → its base and its own instructions."""
    out, current = {}, None
    for name, rest in instructions():
        if name == "FROM":
            base, _, current = rest.partition(" AS ")
            out[current] = (base, [])
        else:
            out[current][1].append((name, rest))
    return out


def of(stage, instruction):
    """What a stage says, its bases' words first."""
    base, own = stages()[stage]
    inherited = of(base, instruction) if base in stages() else []
    return inherited + [rest for name, rest in own if name == instruction]


def packages():
    return {tomllib.loads(path.read_text())["package"]["name"]: tomllib.loads(path.read_text()) for path in
            (ROOT / member / "Cargo.toml" for member in workspace()["workspace"]["members"])}


def workspace():
    return tomllib.loads((ROOT / "Cargo.toml").read_text())


def cargo():
    return next(rest for rest in of("build", "RUN") if "cargo build" in rest).split("cargo build ")[1].split(" && ")[0].split()


def test_rust_is_the_version_that_the_workspace_asks_for():
    assert stages()["build"][0] == f"docker.io/library/rust:{workspace()['workspace']['package']['rust-version']}-alpine"


def test_cargo_builds_the_binaries_of_packages_that_have_them():
    words = cargo()
    assert "--locked" in words and "--release" in words
    bins = {bin["name"] for package in packages().values() for bin in package.get("bin", [])}
    assert {words[i + 1] for i, word in enumerate(words) if word == "--package"} <= set(packages())
    assert {words[i + 1] for i, word in enumerate(words) if word == "--bin"} == set(TARGETS.values()) <= bins


def test_the_lock_file_and_the_queries_come_along():
    assert (ROOT / "Cargo.lock").exists()
    assert "SQLX_OFFLINE=true" in " ".join(of("build", "ENV"))


def ignored(path):
    """Docker's rule: the last pattern that matches decides."""
    out = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip().lstrip("!")
        if not pattern or pattern.startswith("#"):
            continue
        parts = path.split("/")
        parents = ["/".join(parts[:i + 1]) for i in range(len(parts))]
        names = parts if pattern.startswith("**/") else parents
        if any(fnmatch.fnmatchcase(name, pattern.removeprefix("**/")) for name in names):
            out = not line.startswith("!")
    return out


def test_the_build_gets_every_package_and_no_litter():
    for member in workspace()["workspace"]["members"]:
        assert not ignored(f"{member}/Cargo.toml")
        assert not ignored(f"{member}/src/lib.rs")
    assert not ignored("api-server/.sqlx/query-1.json") and not ignored("api-server/migrations/1.sql")
    for litter in ("target/debug/x", ".git/HEAD", "helm/tenantry/Chart.yaml", "README.md", "tests/e2e/node_modules/x", ".dev/x"):
        assert ignored(litter), litter


def test_every_file_that_the_sources_include_is_sent():
    included = [(path, file) for package in ("api-server", "operator", "crds") for path in (ROOT / package).rglob("*.rs")
                for file in re.findall(r'include_(?:str|bytes)!\("([^"]+)"\)', path.read_text())]
    for path, file in included:
        target = (path.parent / file).resolve()
        assert target.exists(), f"{path} includes {file}"
        assert not ignored(target.relative_to(ROOT).as_posix()), f"{path} includes {file}, which .dockerignore leaves out"


def test_the_binaries_are_static_reproducible_and_told_their_commit():
    """On musl everything is static unless told otherwise; told so outright, cargo could not build macros any more."""
    env = " ".join(of("build", "ENV"))
    assert "crt-static" not in env
    assert "--remap-path-prefix=/src=" in env and "--remap-path-prefix=/usr/local/cargo=" in env
    assert "TENANTRY_COMMIT=${REVISION}" in env and "SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH}" in env
    assert 'option_env!("TENANTRY_COMMIT")' in (ROOT / "crds/contract/src/version.rs").read_text()
    assert 'rerun-if-env-changed=TENANTRY_COMMIT' in (ROOT / "crds/contract/build/main.rs").read_text()
    assert "BUILDKIT_SBOM_SCAN_STAGE=true" in of("build", "ARG"), "the images alone have no list of crates"
    assert {"lto", "codegen-units", "strip"} <= workspace()["profile"]["release"].keys()


def test_the_images_are_of_the_version_of_the_workspace():
    version = workspace()["workspace"]["package"]["version"]
    assert f"VERSION={version}" in of("base", "ARG")
    assert set(re.findall(r"--tag \S+:(\S+)", (ROOT / "Dockerfile").read_text())) == {version}
    for path in ("manifests/overlays/production/kustomization.yaml", "manifests/dev/platform.yaml"):
        assert set(re.findall(r"(?:newTag|tag): ([\d.]+)", (ROOT / path).read_text())) == {version}, path


@pytest.mark.parametrize(("stage", "binary"), TARGETS.items())
def test_each_image_is_one_static_binary_for_a_user_that_is_nobody(stage, binary):
    base, _ = stages()[stages()[stage][0]]
    assert base == "scratch"
    assert of(stage, "USER") == ["65532:65532"]
    assert of(stage, "ENTRYPOINT") == [f'["/{binary}"]']
    assert f"--from=build /out/{binary} /{binary}" in of(stage, "COPY")
    assert not of(stage, "RUN"), "scratch has no shell"
    labels = " ".join(of(stage, "LABEL"))
    assert all(f"org.opencontainers.image.{key}=" in labels for key in ("source", "licenses", "version", "revision", "title", "description"))


def test_the_chart_runs_the_operators_image_as_it_is_made():
    pod = only(rendered("default"), "Deployment")["spec"]["template"]["spec"]
    container, = pod["containers"]
    assert "command" not in container and container["args"] == ["run"]
    assert f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}" == of("operator", "USER")[0]
    ports = {str(port["containerPort"]) for port in container["ports"]}
    assert ports == set(of("operator", "EXPOSE")[0].split())
    assert container["image"].split(":")[0].endswith("/tenantry-operator")
    assert only(kustomize("manifests/dev"), "Platform")["spec"]["image"]["repository"].endswith("/tenantry-api")
