"""The Tiltfile, executed as Starlark with Tilt's builtins stubbed: what it declares, and that all it names exists."""

import json
import re
import subprocess
from collections import defaultdict

import pytest
import starlark

from support import ROOT, kustomize, made_by_the_operator, only, render

BUILTINS = ["allow_k8s_contexts", "docker_build", "helm", "k8s_kind", "k8s_resource", "k8s_yaml", "kustomize", "local_resource", "read_file"]
# Starlark allows top-level `if` only as an extension; Tilt allows it.
DIALECT = starlark.Dialect.extended()
PRELUDE = """
TRIGGER_MODE_MANUAL = 1
def _define(*args, **kwargs):
    pass
def _settings():
    return json.decode(_settings_json())
config = struct(define_string=_define, define_bool=_define, parse=_settings)
"""


def run(**settings):
    """Executes the Tiltfile; builtin → list of (args, kwargs) in the order of calls."""
    calls = defaultdict(list)

    def recorder(name):
        def record(*args, **kwargs):
            calls[name].append((args, kwargs))
            return f"<{name} {args[0] if args else ''}>"
        return record

    module = starlark.Module()
    module.add_callable("_settings_json", lambda: json.dumps(settings))
    for name in BUILTINS:
        module.add_callable(name, recorder(name))
    extensions = [starlark.LibraryExtension.Json, starlark.LibraryExtension.StructType]
    source = PRELUDE + (ROOT / "Tiltfile").read_text()
    starlark.eval(module, starlark.parse("Tiltfile", source, dialect=DIALECT), starlark.Globals.extended_by(extensions))
    return calls


@pytest.fixture(scope="module")
def calls():
    return run()


def declared(calls):
    return {args[0] for name in ("k8s_resource", "local_resource") for args, _ in calls[name]}


def test_it_declares_the_whole_platform(calls):
    assert declared(calls) == {"crds", "postgres", "redis", "tenantry-operator", "main", "tenants", "check", "test"}


def test_it_works_on_local_clusters_and_on_one_that_is_named(calls):
    assert not calls["allow_k8s_contexts"]
    assert run(context="my-dev")["allow_k8s_contexts"] == [(("my-dev",), {})]


def test_tenants_can_be_left_out():
    assert "tenants" not in declared(run(tenants=False))


def test_every_dependency_is_declared(calls):
    for name in ("k8s_resource", "local_resource"):
        for args, kwargs in calls[name]:
            assert set(kwargs.get("resource_deps", [])) <= declared(calls), args[0]


def test_every_file_it_names_exists(calls):
    paths = [args[0] for name in ("helm", "kustomize", "read_file") for args, _ in calls[name]]
    paths += [path for name in ("docker_build", "local_resource") for _, kwargs in calls[name]
              for path in [*kwargs.get("only", []), *kwargs.get("deps", [])]]
    assert len(paths) > 10
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_everything_that_is_built_is_deployed_and_the_kind_shows_where_its_image_is(calls):
    """What Tilt is handed, in this order: the namespace, the chart, the stores and the Platform; the kind before the first object of it."""
    assert [args[0].split()[0] for args, _ in calls["k8s_yaml"]] == ["<read_file", "<helm", "<kustomize"]
    (name,), kind = calls["k8s_kind"][0]
    platform = only(kustomize("manifests/dev"), name)
    image = platform
    for step in kind["image_object"]["json_path"].strip("{}").split(".")[1:]:
        image = image[step]
    assert {kind["image_object"]["repo_field"], kind["image_object"]["tag_field"]} <= image.keys()
    assert image["repository"] in {args[0] for args, _ in calls["docker_build"]}


def test_nothing_starts_before_what_it_stands_on(calls):
    after = {args[0]: set(kwargs.get("resource_deps", [])) for name in ("k8s_resource", "local_resource") for args, kwargs in calls[name]}
    assert after["tenantry-operator"] == {"crds"}
    assert after["main"] == {"tenantry-operator", "postgres", "redis"}
    assert after["tenants"] == {"main"}

    def before(name):
        return after[name] | {further for each in after[name] for further in before(each)}

    assert all(name not in before(name) for name in after), "nothing waits for itself"
    selectors = next(kwargs for args, kwargs in calls["k8s_resource"] if args[0] == "main")["extra_pod_selectors"]
    pod = next(o for o in made_by_the_operator() if o["kind"] == "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert selectors[0].items() <= pod.items()


def test_the_images_are_targets_of_the_dockerfile_and_all_of_what_it_copies_is_sent(calls):
    dockerfile = (ROOT / "Dockerfile").read_text()
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for _, kwargs in calls["docker_build"]:
        assert re.search(rf"^FROM .* AS {kwargs['target']}$", dockerfile, re.MULTILINE)
        assert set(kwargs["only"]) == sent


def test_the_chart_takes_the_values_and_runs_the_images(calls):
    (_, options), = calls["helm"]
    values = {}
    for setting in options["set"]:
        keys, value = setting.split("=")
        *path, last = keys.split(".")
        node = values
        for key in path:
            node = node.setdefault(key, {})
        node[last] = {"true": True, "false": False}.get(value, int(value) if value.isdigit() else value)
    objects = render(values, name=options["name"], namespace=options["namespace"])
    container = only(objects, "Deployment", "tenantry-operator")["spec"]["template"]["spec"]["containers"][0]
    operator, api = (args[0] for args, _ in calls["docker_build"])
    assert container["image"].startswith(operator + ":")
    assert next(e["value"] for e in container["env"] if e["name"] == "API_IMAGE").startswith(api + ":")
    assert only(kustomize("manifests/dev"), "Platform")["spec"]["image"]["repository"] == api


def test_what_it_forwards_and_waits_for_is_deployed(calls):
    workloads = {o["metadata"]["name"] for o in [*kustomize("manifests/dev"), *render()]}
    assert {args[0] for args, _ in calls["k8s_resource"]} <= workloads


def test_its_kubectl_commands_are_commands_of_kubectl(calls):
    for args, _ in calls["local_resource"]:
        for command in re.split(r" && | \| ", args[1]):
            words = command.split()
            if words[0] == "kubectl":
                help_text = subprocess.run(["kubectl", words[1], "--help"], capture_output=True, text=True).stdout
                for flag in (word.split("=")[0] for word in words if word.startswith("--")):
                    known = flag in help_text or flag == "--namespace"
                    assert known, f"kubectl {words[1]} has no {flag}"
