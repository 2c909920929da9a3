//! Kinds of other projects, as far as they are written or read here. They are used only where they are installed
//! ([`Installed`](crate::kube_ext::Installed)); their schemas are theirs, and a test holds what is made against the published ones.

mod http_route;
mod pod_monitor;
mod scaled_object;

pub use self::{
    http_route::{
        BackendRef, HttpRoute, HttpRouteSpec, HttpRouteStatus, ParentReference, RouteParentStatus, RouteRule,
    },
    pod_monitor::{PodMetricsEndpoint, PodMonitor, PodMonitorSpec, Relabeling},
    scaled_object::{
        Advanced, Fallback, HorizontalPodAutoscalerConfig, ScaleTarget, ScaledObject, ScaledObjectCondition,
        ScaledObjectSpec, ScaledObjectStatus, Trigger,
    },
};
use crate::kube_ext::Peer;

/// Every kind that is looked for.
pub fn all() -> Vec<Peer> {
    vec![Peer::of::<HttpRoute>(), Peer::of::<PodMonitor>(), Peer::of::<ScaledObject>()]
}
