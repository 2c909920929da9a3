//! What the statuses of all objects say, counted when somebody asks.

use std::collections::BTreeMap;

use crds::{
    Platform,
    conditions::{READY, reasons::RECONCILING},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::labels::{PlatformVerdict, Unready, Verdict};
use crate::{
    context::Ctx,
    kube_ext::find,
    statuses::Judged,
    stores::{Kept, Shelf},
};

#[derive(Default)]
pub struct Census {
    pub(super) verdicts: BTreeMap<Verdict, i64>,
    pub(super) unready: BTreeMap<Unready, i64>,
    pub(super) platforms: Vec<PlatformVerdict>,
}

impl Census {
    pub fn take(ctx: &Ctx) -> Self {
        let (mut census, stores) = (Self::default(), &ctx.stores);
        census.count(&stores.platforms, |platform| ctx.platform_statuses.conditions(platform));
        census.count(&stores.tenants, |tenant| ctx.tenant_statuses.conditions(tenant));
        census.count(&stores.role_bindings, |binding| ctx.binding_statuses.conditions(binding));
        census.count(&stores.payment_providers, |provider| ctx.provider_statuses.conditions(provider));
        census.count(&stores.rate_limit_policies, |policy| ctx.policy_statuses.conditions(policy));
        census.name(&stores.platforms, |platform| ctx.platform_statuses.conditions(platform));
        census
    }

    pub(super) fn count<K: Judged + Kept>(&mut self, objects: &Shelf<K>, said: impl Fn(&K) -> Vec<Condition>) {
        objects.each(|object| {
            let (kind, conditions) = (K::kind_name(), said(object));
            for Condition { type_, status, .. } in &conditions {
                let (kind, condition, status) = (kind.as_ref().into(), type_.clone(), status.clone());
                *self.verdicts.entry(Verdict { kind, condition, status }).or_insert(0) += 1;
            }
            let reason = match find(&conditions, READY) {
                Some(ready) if ready.observed_generation != object.meta().generation => RECONCILING,
                Some(ready) if ready.status != "True" => &ready.reason,
                Some(_) => return,
                None => RECONCILING,
            };
            let unready = Unready { kind: kind.into_owned(), reason: reason.to_owned() };
            *self.unready.entry(unready).or_insert(0) += 1;
        });
    }

    pub(super) fn name(&mut self, platforms: &Shelf<Platform>, said: impl Fn(&Platform) -> Vec<Condition>) {
        for platform in platforms.all() {
            let (namespace, name) = platform.id();
            self.platforms.extend(said(&platform).into_iter().map(|condition| PlatformVerdict {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                condition: condition.type_,
                status: condition.status,
                reason: condition.reason,
            }));
        }
    }
}
