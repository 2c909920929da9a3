"""What a cluster would say to an object: Kubernetes' own schemas for its kinds, the CRDs' schemas for the others."""

import functools
import warnings

import jsonschema
from kubernetes_validate import utils as kubernetes

from support import GENERATED_CRDS, ROOT, ident, read

# From the oldest Kubernetes that the chart accepts to the newest whose schemas are published.
VERSIONS = ["1.32", "1.33", "1.34", "1.35", "1.36", "1.37"]
PEER_CRDS = ROOT.parent / "shared/peer-crds"
PEERS = {"gateway.networking.k8s.io", "keda.sh", "monitoring.coreos.com", "postgresql.cnpg.io"}

# Each call would read and parse a megabyte of schema again.
kubernetes.schema_contents = functools.cache(kubernetes.schema_contents)


def closed(schema):
    """A CRD's schema as JSON Schema that refuses unknown fields, which is what `kubectl apply --validate=strict` does."""
    if not isinstance(schema, dict):
        return schema
    out = {key: value for key, value in schema.items() if not key.startswith("x-kubernetes-") and key not in ("format", "nullable")}
    if "properties" in out:
        out["properties"] = {name: closed(child) for name, child in out["properties"].items()}
        if "additionalProperties" not in out and not schema.get("x-kubernetes-preserve-unknown-fields"):
            out["additionalProperties"] = False
    for key in ("items", "additionalProperties", "not"):
        if key in out:
            out[key] = closed(out[key])
    # Inside these the fields are already named outside; closing them would refuse every object.
    if schema.get("x-kubernetes-int-or-string"):
        out.pop("type", None)
        out.setdefault("anyOf", [{"type": "integer"}, {"type": "string"}])
    if schema.get("nullable"):
        out = {"anyOf": [out, {"type": "null"}]}
    return out


@functools.cache
def custom_validators():
    """(group, kind, version) → validator, for our kinds and for those that Tenantry hands to others."""
    paths = [*GENERATED_CRDS.glob("*.yaml"), *PEER_CRDS.glob("*.yaml")]
    validators = {}
    for crd in (crd for path in paths for crd in read(path)):
        for version in crd["spec"]["versions"]:
            schema = closed(version["schema"]["openAPIV3Schema"])
            schema["properties"] |= {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}}
            key = f"{crd['spec']['group']}/{version['name']}", crd["spec"]["names"]["kind"]
            validators[key] = jsonschema.Draft202012Validator(schema)
    return validators


def complaints(obj, version):
    """Why a cluster of this version would refuse the object: a list of sentences, empty when it would not."""
    key, group = (obj["apiVersion"], obj["kind"]), obj["apiVersion"].split("/")[0]
    if group in PEERS and not PEER_CRDS.exists():
        warnings.warn(f"{ident(obj)} is not checked against its operator's schema: {PEER_CRDS} is not there", stacklevel=1)
        return []
    if key in custom_validators() or group in PEERS or group == "tenantry.dev":
        if key not in custom_validators():
            return [f"{ident(obj)}: no schema for {obj['apiVersion']} {obj['kind']}"]
        errors = custom_validators()[key].iter_errors(obj)
        return [f"{ident(obj)}: {error.json_path}: {error.message}" for error in errors]
    try:
        kubernetes.validate(obj, version, strict=True)
    except (kubernetes.ValidationError, kubernetes.SchemaNotFoundError) as error:
        return [f"{ident(obj)} on {version}: {error.message}"]
    return []


def restricted(who, pod):
    """What the `restricted` Pod Security Standard (and we: a read-only root) would object to in a pod spec."""
    context = pod.get("securityContext", {})
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(field):
            yield f"{who}: {field}"
    for volume in pod.get("volumes", []):
        kinds = set(volume) - {"name"}
        if not kinds <= {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}:
            yield f"{who}: volume {volume['name']} is a {kinds}"
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        own = container.get("securityContext", {})
        capabilities = own.get("capabilities", {})
        wanted = {
            "privileged": not own.get("privileged"),
            "allowPrivilegeEscalation: false": own.get("allowPrivilegeEscalation") is False,
            "readOnlyRootFilesystem: true": own.get("readOnlyRootFilesystem") is True,
            "runAsNonRoot: true": own.get("runAsNonRoot", context.get("runAsNonRoot")) is True,
            "runAsUser of a number above 0": own.get("runAsUser", context.get("runAsUser", 0)) > 0,
            "a seccomp profile": (own.get("seccompProfile") or context.get("seccompProfile") or {}).get("type") in ("RuntimeDefault", "Localhost"),
            "all capabilities dropped": "ALL" in capabilities.get("drop", []) and set(capabilities.get("add", [])) <= {"NET_BIND_SERVICE"},
            "no host ports": not any("hostPort" in port for port in container.get("ports", [])),
        }
        yield from (f"{who}: container {container['name']} needs {what}" for what, holds in wanted.items() if not holds)
