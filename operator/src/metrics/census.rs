//! What the statuses of all objects say, counted when somebody asks.

use std::collections::BTreeMap;

use crds::conditions::{READY, reasons::RECONCILING};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::labels::{Unready, Verdict};
use crate::{
    kube_ext::find,
    statuses::Judged,
    stores::{Kept, Shelf},
};

/// What the statuses of all objects say.
#[derive(Default)]
pub(super) struct Census {
    pub(super) verdicts: BTreeMap<Verdict, i64>,
    pub(super) unready: BTreeMap<Unready, i64>,
}

impl Census {
    pub(super) fn count<K: Judged + Kept>(&mut self, objects: &Shelf<K>) {
        objects.each(|object| {
            let kind = K::kind_name();
            let conditions = object.status().map(K::conditions).unwrap_or_default();
            for Condition { type_, status, .. } in conditions {
                let (kind, condition, status) = (kind.as_ref().into(), type_.clone(), status.clone());
                *self.verdicts.entry(Verdict { kind, condition, status }).or_insert(0) += 1;
            }
            let ready = find(conditions, READY);
            let reason = match ready {
                Some(ready) if ready.observed_generation != object.meta().generation => RECONCILING,
                Some(ready) if ready.status != "True" => &ready.reason,
                Some(_) => return,
                None => RECONCILING,
            };
            let unready = Unready { kind: kind.into_owned(), reason: reason.to_owned() };
            *self.unready.entry(unready).or_insert(0) += 1;
        });
    }
}
