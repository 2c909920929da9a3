//! Keys and passwords, replaced while everything goes on: asked for by an annotation, carried out by the operator, recorded
//! in the status.

use std::cell::RefCell;

use anyhow::{Context, Result, bail};
use contract::names::ANNOTATION_ROTATE_SIGNING_KEY;
use crds::{Platform, Tenant, conditions};
use kube::{
    Api, Resource, ResourceExt,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    Outcome,
    cli::{self, Rotated},
    connect::Connection,
    output::Output,
    rollout::FIELD_MANAGER,
    watching,
};

const ANNOTATION_CREDENTIALS: &str = "tenantry.dev/rotate-credentials";

pub async fn run(connection: &Connection, asked: &cli::Rotate, out: Output) -> Result<Outcome> {
    // Every rotation says something new; a time tells people when it was asked for.
    let asked_at = connection.now.to_string();
    match &asked.what {
        Rotated::SigningKey { tenant } => signing_key(connection, asked, tenant, &asked_at, out).await,
        Rotated::Credentials { platform } => credentials(connection, asked, platform.as_deref(), &asked_at, out).await,
    }
}

async fn signing_key(
    connection: &Connection,
    asked: &cli::Rotate,
    name: &str,
    at: &str,
    out: Output,
) -> Result<Outcome> {
    let tenant = connection.tenant(name).await?;
    if let Some(reference) = &tenant.spec.auth.signing.secret_ref {
        bail!(
            "Tenant {name:?} brings its own key: put the new one into Secret {:?}, or remove spec.auth.signing.secretRef",
            reference.name
        );
    }
    annotate::<Tenant>(connection, name, ANNOTATION_ROTATE_SIGNING_KEY, at).await?;
    if asked.no_wait {
        out.say(format!("tenant/{name}: a new signing key was asked for; status.signingKey will say when it signs"))?;
        return Ok(Outcome::Good);
    }
    let told = RefCell::new(String::new());
    let done = watching::until(dynamic::<Tenant>(connection), name, Some(asked.timeout), |object| {
        let status = &object.data["status"];
        let key = &status["signingKey"];
        if key["rotation"] == json!(at) {
            return Ok(Some(key["secretName"].as_str().unwrap_or_default().to_owned()));
        }
        progress(out, &told, &format!("tenant/{name}"), condition(status, conditions::PROGRAMMED))?;
        Ok(None)
    });
    match done.await? {
        Some(secret) => {
            out.say(format!(
                "tenant/{name}: the key in Secret {secret} signs on every replica; tokens of the one before are good until they expire"
            ))?;
            Ok(Outcome::Good)
        }
        None => bail!(
            "tenant/{name}: the new key does not sign yet. It does as soon as every ready replica has it: \
             kubectl tenantry status tenant {name} says what stands in the way"
        ),
    }
}

async fn credentials(
    connection: &Connection,
    asked: &cli::Rotate,
    platform: Option<&str>,
    at: &str,
    out: Output,
) -> Result<Outcome> {
    let platform = connection.platform(platform).await?;
    let (name, spec) = (platform.name_any(), &platform.spec);
    if spec.postgres.managed.is_none() && spec.redis.managed.is_none() {
        bail!(
            "Platform {name:?} runs on a PostgreSQL and a Redis of others: change the passwords there and put them into the \
             Secrets of spec.postgres.external and spec.redis.external; its pods follow"
        );
    }
    annotate::<Platform>(connection, &name, ANNOTATION_CREDENTIALS, at).await?;
    if asked.no_wait {
        out.say(format!(
            "platform/{name}: new passwords were asked for; status.credentials will say when they are in use"
        ))?;
        return Ok(Outcome::Good);
    }
    let told = RefCell::new(String::new());
    let done = watching::until(dynamic::<Platform>(connection), &name, Some(asked.timeout), |object| {
        let credentials = &object.data["status"]["credentials"];
        if credentials["rotated"] == json!(at) {
            return Ok(Some(()));
        }
        let waits = credentials["rotating"].as_str().unwrap_or("the operator has yet to begin").to_owned();
        progress(out, &told, &format!("platform/{name}"), Some(waits))?;
        Ok(None)
    });
    match done.await? {
        Some(()) => {
            out.say(format!("platform/{name}: the new passwords are in use, and the former ones are refused"))?;
            Ok(Outcome::Good)
        }
        None => bail!(
            "platform/{name}: the rotation has not come to its end in time; it goes on. Last said: {}",
            told.borrow()
        ),
    }
}

/// Tells people what it waits for, each thing once.
fn progress(out: Output, told: &RefCell<String>, object: &str, waits: Option<String>) -> Result<()> {
    let Some(waits) = waits.filter(|waits| *waits != *told.borrow()) else { return Ok(()) };
    if out.format.is_none() {
        out.say(format!("{object}: {waits}"))?;
    }
    told.replace(waits);
    Ok(())
}

fn condition(status: &Value, type_: &str) -> Option<String> {
    let found = status["conditions"].as_array()?.iter().find(|condition| condition["type"] == json!(type_))?;
    found["message"].as_str().map(str::to_owned)
}

fn dynamic<K>(connection: &Connection) -> Api<DynamicObject>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
{
    Api::namespaced_with(connection.client.clone(), &connection.namespace, &ApiResource::erase::<K>(&()))
}

async fn annotate<K>(connection: &Connection, name: &str, annotation: &str, value: &str) -> Result<()>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
{
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
    let patch = json!({"metadata": {"annotations": {annotation: value}}});
    let done = dynamic::<K>(connection).patch(name, &params, &Patch::Merge(patch)).await;
    done.map(drop).with_context(|| format!("cannot change {} {name}", K::kind(&())))
}
