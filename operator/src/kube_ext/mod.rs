//! What Kubernetes asks of every reconciler, said once: apply, conditions, labels, owners, what is installed.

mod apply;
mod conditions;
mod installed;
mod labels;
mod owner;
mod standing;
mod uid;

pub use apply::{Applied, Namespaced, Prepared, apply, delete};
pub use conditions::{Conditions, State, Transition, find};
pub use installed::{Installed, Peer, is_not_served};
pub use labels::{platform_labels, tenant_labels};
pub use owner::{owned_by, owner};
pub use standing::{ANEW, Standing};
pub use uid::Uid;
