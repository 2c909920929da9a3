//! A Tenant's status, worked out from what was found, applied and answered. Pure.

use crds::{
    Tenant, TenantStatus,
    conditions::{
        ACCEPTED, DATABASE_READY, PROGRAMMED, READY, RESOLVED_REFS, SUSPENDED, of,
        reasons::{self, NO_READY_REPLICAS, PARTIALLY_PROGRAMMED, REJECTED_BY_REPLICA},
    },
    tenant::{DatabaseIsolation, LoadedConfig, TenantDatabase},
};
use jiff::Timestamp;

use super::{
    database::Own,
    outcome::{Serving, Standing},
    signing_key,
    validate::ValidatedTenant,
};
use crate::{
    kube_ext::{Conditions, State},
    render::{
        problem::{Problem, summary},
        verdict::Verdict,
    },
    replicas::Loaded,
};

/// What `Ready` needs.
const NEEDED: &[&str] = &[ACCEPTED, RESOLVED_REFS, DATABASE_READY, PROGRAMMED];

/// The status as it should be, and what is new about it.
pub fn status<'a>(
    tenant: &Tenant,
    before: &'a TenantStatus,
    validated: &ValidatedTenant,
    now: Timestamp,
) -> (TenantStatus, Conditions<'a>) {
    let outcome = &validated.outcome;
    let serving = outcome.serving.as_ref();
    let mut conditions = Conditions::new(of::TENANT, &before.conditions, tenant.metadata.generation, now);
    verdict(&mut conditions, ACCEPTED, &validated.problems, (reasons::ACCEPTED, "the spec is in force"));
    verdict(
        &mut conditions,
        RESOLVED_REFS,
        &validated.problems,
        (reasons::RESOLVED_REFS, "everything that is referred to was found"),
    );
    database(&mut conditions, tenant, &validated.database);
    programmed(&mut conditions, serving);
    if tenant.spec.suspended {
        conditions.set(
            SUSPENDED,
            State::True,
            reasons::SUSPENDED,
            "every request is refused with 403, as spec.suspended asks",
        );
    } else {
        conditions.set(SUSPENDED, State::False, reasons::ACTIVE, "the tenant is served");
    }
    roll_up(&mut conditions, NEEDED);

    let config = validated.config.as_ref().map(|(_, config)| config);
    let status = TenantStatus {
        observed_generation: tenant.metadata.generation,
        tenant_id: Some(validated.id.to_string()),
        hostnames: match config {
            Some(config) => config.hostnames.iter().map(ToString::to_string).collect(),
            None => before.hostnames.clone(),
        },
        database: Some(match &validated.database {
            Own::Ready { name, .. } => TenantDatabase { mode: DatabaseIsolation::Database, name: Some(name.clone()) },
            Own::Shared => TenantDatabase { mode: DatabaseIsolation::RowLevelSecurity, name: None },
            Own::Waiting { .. } => before.database.clone().unwrap_or_default(),
        }),
        config: match serving {
            Some(serving) => Some(loaded_config(serving)),
            None => before.config.clone(),
        },
        signing_key: match config.and_then(|config| config.auth.signing_keys.first()) {
            Some(key) => Some(signing_key::in_use(tenant, before.signing_key.as_ref(), &key.id, now)),
            None => before.signing_key.clone(),
        },
        bindings: included(outcome.bindings.values().map(|verdict| verdict.included)),
        policies: included(outcome.policies.values().map(|verdict| verdict.included)),
        providers: included(outcome.providers.values().map(|verdict| verdict.included)),
        conditions: conditions.clone().into_vec(),
    };
    (status, conditions)
}

/// The same verdicts, with what the replicas say now.
pub fn answered<'a>(
    tenant: &Tenant,
    before: &'a TenantStatus,
    serving: &Serving,
    now: Timestamp,
) -> (TenantStatus, Conditions<'a>) {
    let mut conditions = Conditions::again(&before.conditions, tenant.metadata.generation, now);
    programmed(&mut conditions, Some(serving));
    roll_up(&mut conditions, NEEDED);
    let list = conditions.clone().into_vec();
    (TenantStatus { config: Some(loaded_config(serving)), conditions: list, ..before.clone() }, conditions)
}

fn loaded_config(Serving { revision, loaded, .. }: &Serving) -> LoadedConfig {
    LoadedConfig { revision: revision.to_string(), loaded_replicas: loaded.loaded, ready_replicas: loaded.ready }
}

/// The status of a Tenant that is on its way out.
pub fn deleting(tenant: &Tenant, before: TenantStatus, message: &str, now: Timestamp) -> TenantStatus {
    let generation = tenant.metadata.generation;
    let mut conditions = Conditions::new(of::TENANT, &before.conditions, generation, now);
    for type_ in of::TENANT {
        conditions.set(type_, State::False, reasons::DELETING, message);
    }
    let conditions = conditions.into_vec();
    TenantStatus { observed_generation: generation, hostnames: Vec::new(), config: None, conditions, ..before }
}

fn included(verdicts: impl Iterator<Item = bool>) -> u32 {
    u32::try_from(verdicts.filter(|included| *included).count()).unwrap_or(u32::MAX)
}

/// One condition from the findings about it; `well` is its reason and message when there are none.
pub fn verdict(conditions: &mut Conditions<'_>, type_: &str, problems: &[Problem], well: (&str, &str)) {
    match summary(problems, type_) {
        None => conditions.set(type_, State::True, well.0, well.1),
        Some((reason, message)) => conditions.set(type_, State::False, reason, message),
    };
}

/// `Programmed`, from the answers of the replicas.
pub fn programmed(conditions: &mut Conditions<'_>, serving: Option<&Serving>) {
    let Some(Serving { revision, loaded, .. }) = serving else {
        let message = "nothing new is served: what stands in the way is said in the other conditions";
        conditions.set(PROGRAMMED, State::False, reasons::INVALID, message);
        return;
    };
    let Loaded { loaded: have, ready, rejected, silent } = loaded;
    let counted = format!("{have} of {ready} ready replicas serve revision {revision}");
    match rejected {
        _ if loaded.everywhere() => conditions.set(PROGRAMMED, State::True, reasons::PROGRAMMED, counted),
        Some(rejection) => conditions.set(
            PROGRAMMED,
            State::False,
            REJECTED_BY_REPLICA,
            format!("{counted}; pod {:?} refuses it and serves the one before: {}", rejection.pod, rejection.error),
        ),
        None if *ready == 0 => conditions.set(
            PROGRAMMED,
            State::False,
            NO_READY_REPLICAS,
            format!("no replica of the API is ready to serve revision {revision}: see the Platform's conditions"),
        ),
        None => {
            let silent = silent.iter().map(|pod| format!("; pod {pod:?} does not answer on its management port"));
            let message = format!("{counted}{}", silent.collect::<String>());
            conditions.set(PROGRAMMED, State::False, PARTIALLY_PROGRAMMED, message)
        }
    };
}

fn database(conditions: &mut Conditions<'_>, tenant: &Tenant, own: &Own) {
    match (tenant.spec.isolation.database, own) {
        (DatabaseIsolation::RowLevelSecurity, _) => conditions.set(
            DATABASE_READY,
            State::True,
            reasons::AS_DECLARED,
            "the tenant's rows are in the platform's tables, kept apart by row-level security",
        ),
        (DatabaseIsolation::Database, Own::Ready { name, .. }) => conditions.set(
            DATABASE_READY,
            State::True,
            reasons::AS_DECLARED,
            format!("the tenant's data is in its own database {name}"),
        ),
        (DatabaseIsolation::Database, Own::Waiting { reason, message }) => {
            conditions.set(DATABASE_READY, State::False, reason, message.as_str())
        }
        (DatabaseIsolation::Database, Own::Shared) => conditions.set(
            DATABASE_READY,
            State::False,
            reasons::NOT_SUPPORTED,
            "spec.isolation.database: the tenant's rows are in the platform's tables, and go on being served from there: they do not move by themselves. \
             For a database of its own create a Tenant of another name and move the data",
        ),
    };
}

/// `Ready`: the first of the others that is not well says why.
pub fn roll_up(conditions: &mut Conditions<'_>, needed: &[&str]) {
    let unwell = |status: &str| {
        needed.iter().find_map(|type_| conditions.get(type_).filter(|condition| condition.status == status).cloned())
    };
    match (unwell("False"), unwell("Unknown")) {
        (Some(why), _) => conditions.set(READY, State::False, &why.reason, why.message),
        (None, Some(why)) => conditions.set(READY, State::Unknown, &why.reason, why.message),
        (None, None) => conditions.set(READY, State::True, reasons::READY, "in force as declared"),
    };
}

/// `Accepted`, `ResolvedRefs` and `Programmed` of an object that belongs to `tenant`, from the verdict on it.
pub fn judged<T>(conditions: &mut Conditions<'_>, standing: &Standing<'_, T>, tenant: &str) {
    match standing {
        Standing::NoTenant => {
            let message = format!(
                "spec.tenantRef.name: there is no Tenant {tenant:?} in this namespace: create it, or name another"
            );
            conditions.set(RESOLVED_REFS, State::False, reasons::TENANT_NOT_FOUND, message.as_str());
            conditions.set(ACCEPTED, State::Unknown, reasons::TENANT_NOT_FOUND, "judged together with its Tenant");
            conditions.set(PROGRAMMED, State::False, reasons::TENANT_NOT_FOUND, message);
        }
        Standing::Pending => {}
        Standing::Judged { verdict: Verdict { problems, included, .. }, serving } => {
            verdict(conditions, ACCEPTED, problems, (reasons::ACCEPTED, "the spec is in force"));
            let found = (reasons::RESOLVED_REFS, "everything that is referred to was found");
            verdict(conditions, RESOLVED_REFS, problems, found);
            match (included, problems.first(), serving) {
                (true, None, Some(serving)) => programmed(conditions, Some(serving)),
                (_, None, None) => {
                    let message = format!("Tenant {tenant:?} has no configuration to serve: see its conditions");
                    conditions.set(PROGRAMMED, State::False, reasons::INVALID, message);
                }
                (true, Some(problem), _) => {
                    let message = "the API has it, but not as declared: see the other conditions";
                    conditions.set(PROGRAMMED, State::False, problem.reason, message);
                }
                (false, problem, _) => {
                    let reason = problem.map_or(reasons::DISABLED, |problem| problem.reason);
                    conditions.set(PROGRAMMED, State::False, reason, "the API does not have it");
                }
            }
        }
    }
}
