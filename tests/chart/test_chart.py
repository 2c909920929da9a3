"""The chart: what it renders, what it refuses, what it lets the operator do."""

import re
import tarfile

import cel
import helm_python
import pytest

from schemas import VERSIONS, complaints, restricted
from support import (CHART, GENERATED_CRDS, KINDS, NAMESPACE, ROOT, VALUE_FILES, chart, kinds, made_by_the_operator, only, parse, pod_specs, read, render,
                     render_texts, rendered, values)

every_values_file = pytest.mark.parametrize("name", VALUE_FILES)


@every_values_file
def test_lint_is_clean(name):
    report = helm_python.lint(CHART, values(name), strict=True, namespace=NAMESPACE, kube_version="v1.32.0")
    assert report["errors"] == []
    assert [m for m in report["messages"] if m["severity"] > 1] == []


def test_the_package_holds_all_that_is_needed(tmp_path):
    archive = helm_python.package(CHART, destination=tmp_path)
    names = {name.removeprefix("tenantry/") for name in tarfile.open(archive).getnames()}
    assert {"Chart.yaml", "README.md", "values.schema.json"} <= names
    assert {f"files/crds/{path.name}" for path in GENERATED_CRDS.glob("*.yaml")} <= names


def test_the_chart_speaks_of_the_version_in_the_workspace():
    version = re.search(r'^version = "(.+)"$', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
    assert chart().metadata["appVersion"] == version


def test_the_platform_pulls_its_images_with_the_same_secrets_unless_it_names_others():
    spec = {"postgres": {"managed": {"storage": {"size": "1Gi"}}}, "redis": {"managed": {}}}
    platform = {"enabled": True, "spec": spec}
    mine = {"imagePullSecrets": [{"name": "mine"}], "global": {"imagePullSecrets": [{"name": "all"}, {"name": "mine"}]}}
    made = only(render(mine | {"platform": platform}, is_install=False, is_upgrade=True), "Platform", "main")
    assert made["spec"]["imagePullSecrets"] == [{"name": "mine"}, {"name": "all"}]
    named = {"enabled": True, "spec": spec | {"imagePullSecrets": [{"name": "theirs"}]}}
    assert only(render(mine | {"platform": named}, is_install=False, is_upgrade=True), "Platform", "main")["spec"]["imagePullSecrets"] == [{"name": "theirs"}]
    assert "imagePullSecrets" not in only(render({"platform": platform}, is_install=False, is_upgrade=True), "Platform", "main")["spec"]


@every_values_file
def test_every_object_is_valid_kubernetes_1_32_to_1_37(name):
    objects = [o for o in rendered(name) if not o["apiVersion"].startswith("monitoring.coreos.com/")]
    assert [why for version in VERSIONS for o in objects for why in complaints(o, version)] == []


@every_values_file
def test_every_pod_passes_the_restricted_standard(name):
    pods = list(pod_specs(rendered(name)))
    assert pods
    assert [why for who, pod in pods for why in restricted(who, pod)] == []


@every_values_file
def test_every_object_says_where_it_belongs(name):
    """Names fit their limits, and namespaced objects name their namespace, so that the output can be applied as it is."""
    cluster_wide = {"CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding", "ValidatingAdmissionPolicy",
                    "ValidatingAdmissionPolicyBinding"}
    for obj in rendered(name):
        assert len(obj["metadata"]["name"]) <= 63, obj["metadata"]["name"]
        assert ("namespace" in obj["metadata"]) == (obj["kind"] not in cluster_wide), obj["kind"]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"replicas": 3}, "additional properties 'replicas' not allowed"),
        ({"replicaCount": "two"}, "at '/replicaCount': got string, want integer"),
        ({"replicaCount": -1}, "at '/replicaCount': minimum: got -1, want 0"),
        ({"image": {"digest": "latest"}}, "at '/image/digest': 'latest' does not match pattern"),
        ({"image": {"repository": ""}}, "at '/image/repository': minLength: got 0, want 1"),
        ({"image": {"tags": "1"}}, "at '/image': additional properties 'tags' not allowed"),
        ({"crds": {"install": True}}, "at '/crds': additional properties 'install' not allowed"),
        ({"watchNamespaces": "payments"}, "at '/watchNamespaces': got string, want array"),
        ({"watchNamespaces": ["Payments"]}, "at '/watchNamespaces/0': 'Payments' does not match pattern"),
        ({"watchNamespaces": ["a", "a"]}, "at '/watchNamespaces': items at 0 and 1 are equal"),
        ({"leaderElection": {"leaseDurationSeconds": 1}}, "at '/leaderElection/leaseDurationSeconds': minimum: got 1, want 2"),
        ({"logFormat": "xml"}, "at '/logFormat': value must be one of 'json', 'text'"),
        ({"tracing": {"otlpEndpoint": "collector:4318"}}, "at '/tracing/otlpEndpoint': 'collector:4318' does not match pattern"),
        ({"podLabels": {"tier": 1}}, "at '/podLabels/tier': got number, want string"),
        ({"platform": {"enabled": True}}, "at '/platform/spec': missing properties 'postgres', 'redis'"),
        ({"platform": {"name": ""}}, "at '/platform/name': '' does not match pattern"),
        ({"monitoring": {"prometheusRule": {"thresholds": {"apiErrorRatio": 2}}}}, "at '/monitoring/prometheusRule/thresholds/apiErrorRatio': maximum"),
        ({"monitoring": {"prometheusRule": {"thresholds": {"errors": 2}}}}, "at '/monitoring/prometheusRule/thresholds': additional properties"),
        ({"monitoring": {"serviceMonitor": {"interval": "soon"}}}, "at '/monitoring/serviceMonitor/interval': 'soon' does not match"),
    ],
)
def test_wrong_values_are_refused_with_a_sentence(wrong, sentence):
    with pytest.raises(helm_python.errors.HelmValuesError) as refused:
        chart().validate_schema(wrong)
    assert sentence in str(refused.value)


def test_the_schema_knows_exactly_the_values_there_are():
    schema = chart().schema

    def compare(path, value, node):
        while "$ref" in node:
            node = schema["definitions"][node["$ref"].rsplit("/", 1)[1]]
        if isinstance(value, dict) and "properties" in node:
            known = set(node["properties"])
            # The API's image is pulled by the Platform, which has its own policy.
            assert set(value) == known - ({"pullPolicy"} if path == ".apiImage" else set()), path
            for key in value:
                compare(f"{path}.{key}", value[key], node["properties"][key])

    compare("", chart().values, schema)


def test_the_crds_are_those_of_the_types():
    generated = {crd["metadata"]["name"]: crd["spec"] for path in GENERATED_CRDS.glob("*.yaml") for crd in read(path)}
    installed = {o["metadata"]["name"]: o["spec"] for o in rendered("default") if o["kind"] == "CustomResourceDefinition"}
    assert installed == generated
    assert {spec["names"]["kind"] for spec in installed.values()} == set(KINDS)


def test_crds_outlive_the_release_unless_told_otherwise():
    def policies(name):
        crds = [o for o in rendered(name) if o["kind"] == "CustomResourceDefinition"]
        return {o["metadata"].get("annotations", {}).get("helm.sh/resource-policy") for o in crds}

    assert policies("default") == policies("full") == {"keep"}
    assert policies("odd-empty") == {None}
    assert policies("odd-borrowed") == set()


def roles(objects):
    return [o for o in objects if o["kind"] in ("Role", "ClusterRole")]


@every_values_file
def test_no_rule_has_a_wildcard(name):
    for role in roles(rendered(name)):
        for rule in role["rules"]:
            assert not any("*" in item for field in rule.values() for item in field), role["metadata"]["name"]


def granted(role):
    """Every (group, resource, verb) that a role allows on any object."""
    return {(g, r, v) for rule in role["rules"] if "resourceNames" not in rule
            for g in rule["apiGroups"] for r in rule["resources"] for v in rule["verbs"]}


def test_the_operator_asks_for_no_more_than_it_uses():
    allowed = granted(only(rendered("default"), "ClusterRole", "tenantry-operator"))
    for kind in ("platforms", "tenants", "rolebindings", "paymentproviders", "ratelimitpolicies"):
        assert ("tenantry.dev", kind, "delete") not in allowed, "a wish is a person's to withdraw"
        assert ("tenantry.dev", kind, "create") not in allowed
    ours = {a for a in allowed if not a[0].endswith("cnpg.io")}
    assert not {a for a in ours if a[1].startswith("cluster") or a[1] in ("nodes", "namespaces", "pods/exec")}
    assert not {a for a in allowed if a[2] in ("escalate", "bind", "impersonate", "deletecollection")}
    assert ("", "secrets", "patch") not in allowed, "a key is never overwritten"


# Made once and looked at by name when they are needed.
UNWATCHED = {"persistentvolumeclaims"}


def test_the_operator_may_make_what_it_makes_and_hand_out_what_it_hands_out():
    """RBAC lets nobody hand out more than they have."""
    allowed = granted(only(rendered("default"), "ClusterRole", "tenantry-operator"))
    made = made_by_the_operator()
    assert {"Deployment", "Service", "Role", "Job"} <= kinds(made)
    for obj in made:
        group = obj["apiVersion"].split("/")[0] if "/" in obj["apiVersion"] else ""
        plural = obj["kind"].lower() + ("es" if obj["kind"].endswith("s") else "s")
        needed = {"create", "update" if obj["kind"] == "Secret" else "patch"}
        if not group.endswith("cnpg.io") and plural not in UNWATCHED:
            needed |= {"list", "watch"}
        assert {(group, plural, verb) for verb in needed} <= allowed, obj["kind"]
        if obj["kind"] == "Role":
            assert granted(obj) <= allowed


def test_what_the_operator_makes_is_valid_and_passes_the_restricted_standard():
    made = made_by_the_operator()
    assert [why for version in VERSIONS for o in made for why in complaints(o, version)] == []
    assert [why for who, pod in pod_specs(made) for why in restricted(who, pod)] == []


def test_with_watch_namespaces_the_operator_has_nothing_cluster_wide():
    objects = rendered("full")
    assert "ClusterRoleBinding" not in kinds(objects)
    watched = values("full")["watchNamespaces"]
    bound = {o["metadata"]["namespace"] for o in objects if o["kind"] == "RoleBinding" and o["roleRef"]["name"] == "pay-operator"}
    assert bound == set(watched)
    everywhere = granted(only(rendered("default"), "ClusterRole", "tenantry-operator"))
    for namespace in watched:
        role = next(o for o in roles(objects) if o["metadata"].get("namespace") == namespace and o["metadata"]["name"] == "pay-operator")
        assert granted(role) == everywhere


def test_every_binding_reaches_an_existing_role_and_account():
    for name in ("default", "full"):
        objects = rendered(name)
        accounts = {(o["metadata"]["namespace"], o["metadata"]["name"]) for o in objects if o["kind"] == "ServiceAccount"}
        named = {(o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"]) for o in roles(objects)}
        for binding in (o for o in objects if o["kind"] in ("RoleBinding", "ClusterRoleBinding")):
            where = binding["metadata"].get("namespace") if binding["roleRef"]["kind"] == "Role" else None
            assert (binding["roleRef"]["kind"], where, binding["roleRef"]["name"]) in named
            subject, = binding["subjects"]
            assert subject["kind"] == "ServiceAccount" and (subject["namespace"], subject["name"]) in accounts


def test_the_clusters_own_roles_learn_the_five_kinds():
    aggregated = {label.rsplit("-", 1)[1]: granted(o) for o in roles(rendered("default")) for label in o["metadata"]["labels"]
                  if label.startswith("rbac.authorization.k8s.io/aggregate-to-")}
    assert {r for _, r, _ in aggregated["view"]} == {"platforms", "tenants", "rolebindings", "paymentproviders", "ratelimitpolicies"}
    assert {v for _, _, v in aggregated["view"]} == {"get", "list", "watch"}
    # As in core RBAC, who edits does not thereby hand out roles.
    assert "rolebindings" not in {r for _, r, _ in aggregated["edit"]}
    assert "rolebindings" in {r for _, r, _ in aggregated["admin"]}


@every_values_file
def test_the_operator_is_told_only_what_it_listens_to(name):
    known = set(re.findall(r'env = "([A-Z_]+)"', (ROOT / "operator/src/cli.rs").read_text()))
    assert known, "operator/src/cli.rs names its environment"
    for _, pod in pod_specs(o for o in rendered(name) if o["kind"] == "Deployment"):
        given = {e["name"] for e in pod["containers"][0]["env"]} - {"RUST_BACKTRACE"}
        assert given <= known


def test_the_lease_is_the_one_the_role_names():
    role = only(rendered("default"), "Role", "tenantry-operator-leader-election")
    names = [name for rule in role["rules"] for name in rule.get("resourceNames", [])]
    sources = "".join(path.read_text() for path in (ROOT / "operator/src").rglob("*.rs"))
    assert names and all(f'"{name}"' in sources for name in names)


@every_values_file
def test_the_operators_service_finds_its_pods_and_no_other(name):
    objects = rendered(name)
    deployment, service = only(objects, "Deployment"), only(objects, "Service")
    pod = deployment["spec"]["template"]
    selector = service["spec"]["selector"].items()
    assert selector <= pod["metadata"]["labels"].items()
    assert not selector <= only(objects, "Pod")["metadata"]["labels"].items(), "the test pod is no operator"
    ports = {p["name"]: p["containerPort"] for p in pod["spec"]["containers"][0]["ports"]}
    listen = next(e["value"] for e in pod["spec"]["containers"][0]["env"] if e["name"] == "LISTEN")
    assert listen.endswith(f":{ports[service['spec']['ports'][0]['targetPort']]}")
    probes = [pod["spec"]["containers"][0][f"{probe}Probe"]["httpGet"] for probe in ("startup", "liveness", "readiness")]
    assert [p["path"] for p in probes] == ["/livez", "/livez", "/readyz"]


def test_the_network_policy_lets_through_what_the_operator_needs_and_nothing_else():
    policy = only(rendered("full"), "NetworkPolicy")
    pod = only(rendered("full"), "Deployment")["spec"]["template"]
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    inward, = policy["spec"]["ingress"]
    assert [p["port"] for p in inward["ports"]] == [p["name"] for p in pod["spec"]["containers"][0]["ports"]]
    test = only(rendered("full"), "Pod")["metadata"]["labels"]
    assert any(peer.get("podSelector", {}).get("matchLabels", {"": ""}).items() <= test.items() for peer in inward["from"]), "helm test"
    outward = [{p["port"] for p in rule["ports"]} for rule in policy["spec"]["egress"]]
    assert outward == [{53}, {443, 6443}, {9090}, {9090}, {4318}]
    api = next(o for o in made_by_the_operator() if o["kind"] == "Deployment")["spec"]["template"]
    asked = policy["spec"]["egress"][2]
    assert asked["to"][0]["podSelector"]["matchLabels"].items() <= api["metadata"]["labels"].items()
    assert {p["port"] for p in asked["ports"]} <= {p["containerPort"] for p in api["spec"]["containers"][0]["ports"]}


def test_a_digest_wins_over_a_tag():
    def image(name):
        return only(rendered(name), "Deployment")["spec"]["template"]["spec"]["containers"][0]["image"]

    assert image("default") == f"ghcr.io/tenantry/tenantry-operator:{chart().metadata['appVersion']}"
    assert image("full") == "registry.example.com/tenantry-operator:v1.2.3"
    assert image("odd-borrowed").endswith("@" + values("odd-borrowed")["image"]["digest"])


def test_a_lone_operator_blocks_no_drain():
    assert "PodDisruptionBudget" in kinds(rendered("default"))
    assert "PodDisruptionBudget" not in kinds(rendered("odd-borrowed"))


def test_the_platform_is_created_word_for_word_and_kept():
    platform = only(render(values("full") | {"imagePullSecrets": []}, is_install=False, is_upgrade=True), "Platform")
    assert platform["spec"] == values("full")["platform"]["spec"]
    assert platform["metadata"]["namespace"] == "payments"
    assert platform["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    for objects in (rendered("default"), render(is_install=False, is_upgrade=True)):
        assert "Platform" not in kinds(objects) and "Job" not in kinds(objects)


def test_on_the_first_install_a_job_applies_the_same_platform_as_helms_own():
    """Helm refuses an object whose kind is not served yet, and takes over one that bears its marks."""
    objects = rendered("full")
    assert "Platform" not in kinds(objects)
    job = only(objects, "Job")
    pod = job["spec"]["template"]["spec"]
    config = next(o for o in objects if o["kind"] == "ConfigMap" and "platform.yaml" in o["data"])
    assert pod["containers"][0]["args"] == ["apply-platform", f"--config-map={config['metadata']['name']}"]
    applied, = parse(config["data"]["platform.yaml"])
    upgraded = only(render(values("full"), is_install=False, is_upgrade=True), "Platform")
    marks = {"meta.helm.sh/release-name": "tenantry", "meta.helm.sh/release-namespace": NAMESPACE}
    assert marks.items() <= applied["metadata"]["annotations"].items()
    assert applied["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm"
    for mark in marks:
        del applied["metadata"]["annotations"][mark]
    assert applied == upgraded
    # The account comes before the Job, and may do this one thing.
    of_hook = [o for o in objects if o["metadata"].get("annotations", {}).get("helm.sh/hook") == "post-install"]
    weights = {o["kind"]: int(o["metadata"]["annotations"].get("helm.sh/hook-weight", 0)) for o in of_hook}
    assert weights == {"ServiceAccount": -1, "Role": -1, "RoleBinding": -1, "ConfigMap": -1, "Job": 0}
    rules = {o["metadata"]["namespace"]: o["rules"] for o in of_hook if o["kind"] == "Role"}
    assert {rule["verbs"][0]: (rule["resources"], rule.get("resourceNames")) for rules in rules.values() for rule in rules} == {
        "create": (["platforms"], None), "patch": (["platforms"], ["main"]), "get": (["configmaps"], [config["metadata"]["name"]])}
    assert rules.keys() == {"payments", NAMESPACE}


def test_pods_of_hooks_run_the_operators_own_image_with_commands_it_has():
    sources = (ROOT / "operator/src/cli.rs").read_text() + "".join(path.read_text() for path in (ROOT / "operator/src/hooks").glob("*.rs"))
    operator = only(rendered("full"), "Deployment")["spec"]["template"]["spec"]
    pods = {who: pod for who, pod in pod_specs(rendered("full")) if pod.get("restartPolicy") == "Never"}
    assert len(pods) == 2
    for pod in pods.values():
        container, = pod["containers"]
        assert container["image"] == operator["containers"][0]["image"]
        assert (pod["imagePullSecrets"], pod["securityContext"]) == (operator["imagePullSecrets"], operator["securityContext"])
        command, *flags = container["args"]
        assert f"{command.title().replace('-', '')}({command.title().replace('-', '')})" in sources
        assert all(f"pub {flag.removeprefix('--').split('=')[0].replace('-', '_')}:" in sources for flag in flags)


def test_a_mirror_takes_the_place_of_every_registry():
    objects = render({"global": {"imageRegistry": "mirror.example.com:5000/all/", "imagePullSecrets": [{"name": "mirror"}]}, "imagePullSecrets": [{"name": "own"}]})
    pod = only(objects, "Deployment")["spec"]["template"]["spec"]
    version = chart().metadata["appVersion"]
    assert pod["imagePullSecrets"] == [{"name": "own"}, {"name": "mirror"}]
    assert pod["containers"][0]["image"] == f"mirror.example.com:5000/all/tenantry/tenantry-operator:{version}"
    assert next(e["value"] for e in pod["containers"][0]["env"] if e["name"] == "API_IMAGE") == f"mirror.example.com:5000/all/tenantry/tenantry-api:{version}"
    local = render({"global": {"imageRegistry": "mirror"}, "image": {"repository": "tenantry-operator", "tag": "dev"}})
    assert only(local, "Deployment")["spec"]["template"]["spec"]["containers"][0]["image"] == "mirror/tenantry-operator:dev"


@pytest.mark.parametrize("kind", ["Tenant", "Platform"])
@pytest.mark.parametrize(("spec", "allowed"), [({}, True), ({"deletionProtection": False}, True), ({"deletionProtection": True}, False)])
def test_what_is_protected_is_not_deleted_and_says_how_it_could_be(kind, spec, allowed):
    rule, = only(rendered("default"), "ValidatingAdmissionPolicy")["spec"]["validations"]
    deleted = {"oldObject": {"kind": kind, "metadata": {"name": "acme"}, "spec": spec}}
    assert cel.evaluate(rule["expression"], deleted) is allowed
    assert cel.evaluate(rule["messageExpression"], deleted) == (
        f"{kind.lower()} acme is protected from deletion; set spec.deletionProtection to false first")


def test_deletion_protection_reads_a_field_that_exists_and_stays_where_the_operator_works():
    policy = only(rendered("full"), "ValidatingAdmissionPolicy")
    assert "oldObject.spec.deletionProtection" in policy["spec"]["validations"][0]["expression"]
    crds = {o["spec"]["names"]["plural"]: o for o in rendered("default") if o["kind"] == "CustomResourceDefinition"}
    protected, = policy["spec"]["matchConstraints"]["resourceRules"]
    assert protected["resources"] == ["tenants", "platforms"]
    for plural in ["tenants"]:
        fields = crds[plural]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
        assert fields["deletionProtection"]["type"] == "boolean", plural
    binding = only(rendered("full"), "ValidatingAdmissionPolicyBinding")
    assert binding["spec"]["policyName"] == policy["metadata"]["name"]
    assert binding["spec"]["matchResources"]["namespaceSelector"]["matchExpressions"][0]["values"] == ["payments", "payments-staging"]
    assert "ValidatingAdmissionPolicy" not in kinds(rendered("odd-borrowed"))


def test_extra_objects_may_be_maps_or_templates():
    notes = {o["metadata"]["name"] for o in rendered("full") if o["kind"] == "ConfigMap" and "text" in o["data"]}
    assert notes == {"tenantry-note", "pay-template"}


def test_two_releases_of_one_cluster_do_not_meet():
    """Nothing cluster-wide of one release bears a name of the other's, the CRDs apart."""
    one, two = (render({"crds": {"enabled": False}}, name=name, namespace=name) for name in ("blue", "green"))
    assert not {(o["kind"], o["metadata"]["name"]) for o in one} & {(o["kind"], o["metadata"]["name"]) for o in two}


@every_values_file
def test_the_notes_say_what_to_do_next(name):
    notes = render_texts(values(name))["templates/NOTES.txt"]
    assert "rollout status deployment/" + only(rendered(name), "Deployment")["metadata"]["name"] in notes
    assert ("wait --for=condition=Ready platform/main" in notes) == (name == "full")
    assert "\n\n\n" not in notes
