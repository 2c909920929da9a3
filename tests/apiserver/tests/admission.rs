//! <https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/>

use serde_json::json;

use crate::world::{WIDGETS, World, widget};

const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
const BINDINGS: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings";

#[tokio::test]
async fn a_bound_policy_refuses_a_deletion_until_the_object_allows_it() {
    let world = World::with_widgets().await;
    let policy = json!({
        "metadata": { "name": "keep" },
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": { "resourceRules": [{
                "apiGroups": ["shop.example.com"], "apiVersions": ["*"], "operations": ["DELETE"], "resources": ["widgets"],
            }] },
            "variables": [{ "name": "labels", "expression": "has(oldObject.metadata.labels) ? oldObject.metadata.labels : {}" }],
            "validations": [{ "expression": "!('keep' in variables.labels)", "messageExpression": "'widget ' + oldObject.metadata.name + ' is kept'" }],
        },
    });
    world.post(POLICIES, policy).await;
    let mut kept = widget("kept", json!({ "color": "red" }));
    kept["metadata"]["labels"] = json!({ "keep": "yes" });
    world.post(WIDGETS, kept).await;
    world.post(WIDGETS, widget("loose", json!({ "color": "red" }))).await;

    let (code, _) = world.delete(&format!("{WIDGETS}/kept?dryRun=All")).await;
    assert_eq!(code, 200, "a policy without a binding does nothing");
    let binding =
        json!({ "metadata": { "name": "keep-all" }, "spec": { "policyName": "keep", "validationActions": ["Deny"] } });
    world.post(BINDINGS, binding).await;
    let (code, status) = world.delete(&format!("{WIDGETS}/kept")).await;
    assert_eq!((code, status["reason"].as_str()), (422, Some("Invalid")), "{status}");
    let message = "widgets.shop.example.com \"kept\" is forbidden: ValidatingAdmissionPolicy 'keep' with binding 'keep-all' denied request: widget kept is kept";
    assert_eq!(status["message"], message);
    assert_eq!(world.delete(&format!("{WIDGETS}/loose")).await.0, 200);
    world.merge(&format!("{WIDGETS}/kept"), json!({ "metadata": { "labels": null } })).await;
    assert_eq!(world.delete(&format!("{WIDGETS}/kept")).await.0, 200);
}
