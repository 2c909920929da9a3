//! What pods need before they start, into the cluster: who they are, the sealing key, how they are reached from outside.
//! The pods themselves, and the Services in front of them, are the [rollout's](super::rollout).

use contract::{
    names::{SEALING_KEY, sealing_key_secret},
    seal::KEY_BYTES,
};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api,
    api::{ObjectMeta, PostParams},
};

use super::{
    around,
    build::{self, Workload},
    dereference::Dereferenced,
    managed::{self, Refused},
    rollout::carry_out::unserializable,
    validate::{SealingKey, ValidatedPlatform},
};
use crate::{
    context::Ctx,
    error::{Doing, ReconcileError},
    kube_ext::platform_labels,
};

/// What came of it.
#[derive(Debug, Default)]
pub struct Surroundings {
    /// `None` while there is nothing to run: something to connect to is missing.
    pub workload: Option<Workload>,
    /// What could not be had for PostgreSQL and Redis.
    pub refused: Refused,
}

/// Applies what pods need before they start. A paused Platform is left alone.
pub async fn surroundings(
    ctx: &Ctx,
    found: &Dereferenced,
    validated: &ValidatedPlatform,
) -> Result<Surroundings, ReconcileError> {
    let paused = found.platform.spec.paused;
    if validated.sealing_key == Ok(SealingKey::Missing) {
        if !paused {
            create_sealing_key(ctx, found).await?;
        }
        // Its digest is part of what is built below; the watch tells of it at once.
        return Ok(Surroundings::default());
    }
    let refused = if paused { Refused::default() } else { Box::pin(managed::apply(ctx, found, validated)).await? };
    let resources = build::build(found, validated).map_err(|error| unserializable(&error))?;
    if !paused {
        let Ctx { client, standing, stores, .. } = ctx;
        // Who binds a Role without the verb `bind` is asked whether they hold all that it grants: it has to be there first.
        standing.apply(client, &stores.roles, resources.role).await?;
        tokio::try_join!(
            standing.apply(client, &stores.service_accounts, resources.service_account),
            standing.apply(client, &stores.grants, resources.role_binding),
            standing.apply(client, &stores.disruption_budgets, resources.disruption_budget),
        )?;
        around::apply(ctx, found, resources.around).await?;
    }
    let workload = resources.workload.filter(|_| validated.sealing_key.is_ok());
    Ok(Surroundings { workload, refused })
}

/// Made once and never overwritten: whatever is sealed under it would be lost. It has no owner for the same reason.
async fn create_sealing_key(ctx: &Ctx, found: &Dereferenced) -> Result<(), ReconcileError> {
    let name = sealing_key_secret(&found.name);
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(found.namespace.clone()),
            labels: Some(platform_labels(&found.name)),
            ..ObjectMeta::default()
        },
        data: Some([(SEALING_KEY.to_owned(), ByteString(rand::random::<[u8; KEY_BYTES]>().into()))].into()),
        type_: Some("Opaque".into()),
        ..Secret::default()
    };
    let secrets = Api::<Secret>::namespaced(ctx.client.clone(), &found.namespace);
    match secrets.create(&PostParams::default(), &secret).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        made => made.map(drop).doing(|| format!("create Secret {}/{name}", found.namespace)),
    }
}
