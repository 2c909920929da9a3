//! What stands around the API's pods and may be wished for or not: how it is reached, scaled and measured.

use k8s_openapi::api::{autoscaling::v2::HorizontalPodAutoscaler, networking::v1::Ingress};

use super::dereference::Dereferenced;
use crate::{
    context::Ctx,
    error::ReconcileError,
    kube_ext::{self, Namespaced, Prepared, owned_by},
    peers::{HttpRoute, PodMonitor, ScaledObject},
    stores::{Kept, Shelf},
};

/// The objects as they should be; `None` is to be removed where we made it.
#[derive(Debug)]
pub struct Around {
    pub ingress: Option<Prepared<Ingress>>,
    pub route: Option<Prepared<HttpRoute>>,
    pub scaler: Scaler,
    pub pod_monitor: Option<Prepared<PodMonitor>>,
}

/// Who decides the number of pods. Never two: they would fight over it.
#[derive(Debug)]
pub enum Scaler {
    Nobody,
    Horizontal(Box<Prepared<HorizontalPodAutoscaler>>),
    Keda(Box<Prepared<ScaledObject>>),
}

pub async fn apply(ctx: &Ctx, found: &Dereferenced, around: Around) -> Result<(), ReconcileError> {
    let stores = &ctx.stores;
    let Around { ingress, route, scaler, pod_monitor } = around;
    keep(ctx, found, &stores.ingresses, ingress).await?;
    keep(ctx, found, &stores.routes, route).await?;
    keep(ctx, found, &stores.pod_monitors, pod_monitor).await?;
    // The one that is no longer wanted goes first.
    match scaler {
        Scaler::Nobody => {
            keep::<HorizontalPodAutoscaler, _>(ctx, found, &stores.autoscalers, None).await?;
            keep::<ScaledObject, _>(ctx, found, &stores.scaled_objects, None).await
        }
        Scaler::Horizontal(autoscaler) => {
            keep::<ScaledObject, _>(ctx, found, &stores.scaled_objects, None).await?;
            keep(ctx, found, &stores.autoscalers, Some(*autoscaler)).await
        }
        Scaler::Keda(scaled) => {
            keep::<HorizontalPodAutoscaler, _>(ctx, found, &stores.autoscalers, None).await?;
            keep(ctx, found, &stores.scaled_objects, Some(*scaled)).await
        }
    }
}

/// Applies what is wished for, or removes what we made before.
async fn keep<K: Namespaced, S: Kept + kube::Resource<DynamicType = ()>>(
    ctx: &Ctx,
    found: &Dereferenced,
    shelf: &Shelf<S>,
    wished: Option<Prepared<K>>,
) -> Result<(), ReconcileError> {
    if let Some(wished) = wished {
        return ctx.standing.apply(&ctx.client, shelf, wished).await;
    }
    match shelf.get(&found.namespace, &contract::names::api(&found.name)) {
        Some(there) if owned_by(there.meta(), found.platform.as_ref()) => {
            kube_ext::delete::<K>(&ctx.client, there.as_ref()).await
        }
        _ => Ok(()),
    }
}
