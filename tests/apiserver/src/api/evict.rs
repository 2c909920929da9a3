//! Eviction: a deletion that asks the disruption budgets first, as `kubectl drain` does.
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/>

use serde_json::{Value, json};

use super::{Api, Context, DeleteOptions, Target};
use crate::{
    clock, object, selectors,
    status::{Result, Status},
};

const BUDGETS: &str = "policy/poddisruptionbudgets";

impl Api {
    pub fn evict(&self, target: Target<'_>, eviction: &Value, context: &mut Context) -> Result<()> {
        let pod = self.get(target)?;
        let named = object::name(eviction);
        if !named.is_empty() && named != target.name {
            return Err(Status::bad_request("name in URL does not match name in Eviction object"));
        }
        let mut options = DeleteOptions::parse(&eviction["deleteOptions"])?;
        options.dry_run |= context.dry_run;
        let finished = matches!(pod.value["status"]["phase"].as_str(), Some("Succeeded" | "Failed" | "Pending"));
        if !finished && !object::deleting(&pod.value) {
            self.spend_budget(target, &pod.value, options.dry_run, context)?;
        }
        self.delete(Target { subresource: "", ..target }, &options, context).map(drop)
    }

    /// Takes one disruption off the budget that covers the pod, or refuses.
    fn spend_budget(&self, target: Target<'_>, pod: &Value, dry_run: bool, context: &mut Context) -> Result<()> {
        let budgets = self.store.collection(BUDGETS).list(&self.store, target.namespace).items;
        let mut covering =
            budgets.into_iter().filter(|(_, budget)| selectors::label_selector(&budget.value["spec"]["selector"], pod));
        let Some((key, budget)) = covering.next() else { return Ok(()) };
        if covering.next().is_some() {
            let why =
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
            return Err(Status::internal(why));
        }
        let (spec, status) = (&budget.value["spec"], &budget.value["status"]);
        let number = |field: &str| status[field].as_i64().unwrap_or(0);
        let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
        let ready =
            conditions.into_iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
        let healthy = number("currentHealthy") >= number("desiredHealthy") && number("desiredHealthy") > 0;
        // A pod that serves nobody costs nothing.
        if !ready && (spec["unhealthyPodEvictionPolicy"] == "AlwaysAllow" || healthy) {
            return Ok(());
        }
        let name = &key.1;
        if number("observedGeneration") < budget.value["metadata"]["generation"].as_i64().unwrap_or(0) {
            return Err(refused(&format!("The disruption budget {name} is still being processed by the server.")));
        }
        if number("disruptionsAllowed") <= 0 {
            let (wanted, there) = (number("desiredHealthy"), number("currentHealthy"));
            return Err(refused(&format!(
                "The disruption budget {name} needs {wanted} healthy pods and has {there} currently"
            )));
        }
        if dry_run {
            return Ok(());
        }
        let kinds = self.registry.kinds();
        let Some(kind) = kinds.by_storage(BUDGETS) else { return Ok(()) };
        let door = Target { kind: &kind, namespace: target.namespace, name, subresource: "status" };
        let spent = json!({ "status": {
            "disruptionsAllowed": number("disruptionsAllowed") - 1,
            "disruptedPods": { target.name: clock::stamp() },
        } });
        let mut internal = Context { user: context.user.clone(), ..Context::internal() };
        self.patch(door, &crate::patch::Patch::Merge(spent), &mut internal).map(drop)
    }
}

fn refused(why: &str) -> Status {
    Status::too_many_requests(
        "Cannot evict pod as it would violate the pod's disruption budget.",
        "DisruptionBudget",
        why,
    )
}
