"""Where things are, and how the tests see them: charts and kustomizations as lists of objects."""

import functools
import subprocess
from pathlib import Path

import helm_python
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm/tenantry"
GENERATED_CRDS = ROOT / "crds/generated"
VALUES = Path(__file__).parent / "values"
RELEASE, NAMESPACE = "tenantry", "tenantry-system"
KINDS = ["Platform", "Tenant", "RoleBinding", "PaymentProvider", "RateLimitPolicy"]


# A component's file → the values with which the chart renders the same, and the templates that it is made of.
COMPONENTS = {
    "monitoring/monitoring.yaml": (
        {"monitoring": {"serviceMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}, "grafanaDashboard": {"enabled": True}}},
        "monitoring/",
    ),
    "network-policy/networkpolicy.yaml": ({"networkPolicy": {"enabled": True}}, "operator/networkpolicy"),
    "namespaced/rbac.yaml": ({"watchNamespaces": [NAMESPACE]}, "rbac/operator"),
}


# The loader of the C library where PyYAML has it: the CRDs are long.
class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """Refuses a key that is there twice, as the API server does; PyYAML would take the last one."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        assert not twice, f"{node.start_mark}: twice in one map: {sorted(twice)}"
        return super().construct_mapping(node, deep)



def parse(text):
    """The objects of a YAML stream, without its empty documents."""
    return [document for document in yaml.load_all(text, Loader) if document]


def read(path):
    """The objects of a YAML file."""
    return parse(Path(path).read_text())


def values(name):
    """A values file of these tests; `default` is the chart as it is."""
    return {} if name == "default" else read(VALUES / f"{name}.yaml")[0]


VALUE_FILES = ["default", *sorted(path.stem for path in VALUES.glob("*.yaml"))]


@functools.cache
def chart():
    return helm_python.Chart.load(CHART)


def render_texts(values=None, name=RELEASE, namespace=NAMESPACE, **options):
    """Template path inside the chart → rendered text, in the order of paths, without the empty ones."""
    rendered = chart().render(values or {}, name=name, namespace=namespace, **options)
    texts = {path.removeprefix("tenantry/"): text for path, text in sorted(rendered.items())}
    return {path: text for path, text in texts.items() if path.endswith("NOTES.txt") or parse(text)}


def render(values=None, **options):
    """The objects that an install would create, hooks included."""
    texts = render_texts(values, **options)
    return [obj for path, text in texts.items() if not path.endswith("NOTES.txt") for obj in parse(text)]


@functools.cache
def rendered(name):
    """The objects of a values file of these tests. Shared: do not change them."""
    return render(values(name))


def kustomize(path):
    """The objects that `kubectl kustomize` builds from a folder."""
    built = subprocess.run(["kubectl", "kustomize", ROOT / path], capture_output=True, text=True)
    assert built.returncode == 0, f"kubectl kustomize {path}: {built.stderr}"
    return parse(built.stdout)


def only(objects, kind, name=None):
    """The one object of a kind (and name); more or fewer is an error that says what is there."""
    found = [o for o in objects if o["kind"] == kind and name in (None, o["metadata"]["name"])]
    assert len(found) == 1, f"wanted one {kind} {name or ''}, found {[ident(o) for o in objects if o['kind'] == kind]}"
    return found[0]


def kinds(objects):
    return {o["kind"] for o in objects}


def made_by_the_operator():
    """What its own tests say it makes for a Platform: the snapshots that are objects."""
    out = []
    for path in sorted((ROOT / "operator/src/platform").rglob("snapshots/*.snap")):
        body = path.read_text().split("---\n", 2)[2]
        out += [o for o in parse(body) if isinstance(o, dict) and {"apiVersion", "kind", "metadata"} <= o.keys()]
    for obj in out:
        # What a snapshot leaves out is a word in the place of a map.
        for field in [field for field in ("data", "binaryData", "stringData") if isinstance(obj.get(field), str)]:
            del obj[field]
    return out


def ident(obj):
    metadata = obj["metadata"]
    return f"{obj['kind']} {metadata.get('namespace', '')}/{metadata['name']}"


def pod_specs(objects):
    """(identity, pod spec) of everything that makes pods."""
    for obj in objects:
        if obj["kind"] == "Pod":
            yield ident(obj), obj["spec"]
        elif obj["kind"] == "CronJob":
            yield ident(obj), obj["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        elif "template" in (obj.get("spec") or {}):
            yield ident(obj), obj["spec"]["template"]["spec"]
