//! Is it well, and if not, why: on one screen.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use crds::{Platform, Tenant, conditions};
use jiff::Timestamp;
use k8s_openapi::{
    api::{core::v1::Namespace, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::{Api, ResourceExt, api::ListParams};
use operator::{
    clock::{Clock, SystemClock},
    stores::{Kept, Key, Stores},
    tenant::dereference::shelved,
};
use serde::Serialize;

use crate::{
    Outcome,
    cli::{self, Looked},
    connect::Connection,
    live,
    output::{Failure, Output, Paint, Shown, age, print, wrapped},
    rollout,
};

/// Most unwell tenants, and most warnings, that are told one by one.
const TOLD: usize = 8;

/// Between two looks of somebody who goes on looking.
const LOOK: Duration = Duration::from_secs(1);

pub async fn run(connection: &Connection, asked: &cli::Status, out: Output) -> Result<Outcome> {
    if asked.watch {
        return follow(connection, asked, out).await;
    }
    let report = look(connection, asked, connection.now).await?;
    out.print(&Told { report: &report, now: connection.now })?;
    Ok(if report.well() { Outcome::Good } else { Outcome::Unwell })
}

/// Tells each state that differs from the one before, until it is interrupted or nobody reads any more.
async fn follow(connection: &Connection, asked: &cli::Status, out: Output) -> Result<Outcome> {
    let (mut last, mut failing) = (None, false);
    loop {
        let now = SystemClock.now();
        match look(connection, asked, now).await {
            Ok(report) => {
                let state = serde_json::to_value(&report)?;
                if failing || last.as_ref() != Some(&state) {
                    if out.format.is_none() {
                        print(&format!("{}\n", out.paint.dim(now.strftime("--- %H:%M:%S UTC"))))?;
                    }
                    out.print(&Told { report: &report, now })?;
                    last = Some(state);
                }
                failing = false;
            }
            // What never was there is a mistake in the question.
            Err(error) if last.is_none() => return Err(error),
            Err(error) => {
                if !failing {
                    eprintln!("error: {}", Failure(&error));
                }
                failing = true;
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn look(connection: &Connection, asked: &cli::Status, now: Timestamp) -> Result<Report> {
    let mut places = Vec::new();
    if asked.all_namespaces {
        for namespace in namespaces(connection).await? {
            places.push(Connection { namespace, ..connection.clone() });
        }
    } else {
        places.push(connection.clone());
    }
    let name = asked.name.as_deref();
    let report = gather(&places, asked.kind, name, now).await?;
    if report.platforms.is_empty() && report.tenants.is_empty() {
        let kind = if asked.kind == Some(Looked::Tenant) { "Tenant" } else { "Platform" };
        let place =
            if asked.all_namespaces { "any namespace".into() } else { format!("namespace {:?}", connection.namespace) };
        match name {
            Some(name) => bail!("there is no {kind} {name:?} in {place}: see kubectl get {}s -A", kind.to_lowercase()),
            None => bail!("there is no {kind} in {place}: name another with -n, or all with -A"),
        }
    }
    Ok(report)
}

/// What stands in these namespaces.
pub async fn gather(places: &[Connection], kind: Option<Looked>, name: Option<&str>, now: Timestamp) -> Result<Report> {
    let mut report = Report { platforms: Vec::new(), tenants: Vec::new(), warnings: Vec::new() };
    for place in places {
        let (stores, warnings) = tokio::try_join!(live::stores(place), warnings(place, now))?;
        match kind {
            Some(Looked::Tenant) => report.tenants.extend(tenants(&stores, &place.namespace, name)),
            _ => {
                for platform in stores.platforms.within(&place.namespace) {
                    if name.is_none_or(|name| platform.name_any() == name) {
                        let rollout = rollout::View::of(place, &platform.name_any()).await?;
                        report.platforms.push(of_platform(&stores, &platform, &rollout));
                    }
                }
            }
        }
        let about = |warning: &Warning| match (kind, name) {
            (Some(Looked::Tenant), Some(name)) => warning.object == format!("Tenant/{name}"),
            _ => true,
        };
        report.warnings.extend(warnings.into_iter().filter(about));
    }
    report.warnings.sort_by_key(|warning| std::cmp::Reverse(warning.time));
    report.warnings.truncate(TOLD);
    Ok(report)
}

async fn namespaces(connection: &Connection) -> Result<Vec<String>> {
    let api: Api<Namespace> = Api::all(connection.client.clone());
    let list = api.list(&ListParams::default()).await.context("cannot list namespaces")?;
    Ok(list.items.iter().map(ResourceExt::name_any).collect())
}

#[derive(Debug, Clone, Serialize)]
pub struct Report {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<PlatformReport>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tenants: Vec<TenantReport>,
    pub warnings: Vec<Warning>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlatformReport {
    pub name: String,
    pub namespace: String,
    pub well: bool,
    /// Conditions that are not as they should be.
    pub problems: Vec<Problem>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_color: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_release: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preview_release: Option<String>,
    pub replicas: u32,
    pub wanted_replicas: u32,
    pub rollout: String,
    pub postgres: String,
    pub redis: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    pub tenants: usize,
    pub unwell_tenants: Vec<Unwell>,
}

/// A condition, or what stands for one.
#[derive(Debug, Clone, Serialize)]
pub struct Problem {
    #[serde(rename = "type")]
    pub type_: String,
    pub status: String,
    pub reason: String,
    pub message: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct Unwell {
    pub name: String,
    pub reason: String,
    pub message: String,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TenantReport {
    pub name: String,
    pub namespace: String,
    pub well: bool,
    pub hostnames: Vec<String>,
    pub plan: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    pub loaded_replicas: u32,
    pub ready_replicas: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signing_key: Option<String>,
    pub problems: Vec<Problem>,
    /// Objects around it: kind and name, and what is wrong with it, if anything.
    pub objects: BTreeMap<String, Option<Problem>>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Warning {
    pub time: Timestamp,
    pub namespace: String,
    pub object: String,
    pub reason: String,
    pub message: String,
}

async fn warnings(connection: &Connection, now: Timestamp) -> Result<Vec<Warning>> {
    let listed = connection.api::<Event>().list(&ListParams::default().limit(500)).await;
    // Not everybody may read events, and a status without them is better than none.
    let events = match listed {
        Err(kube::Error::Api(status)) if status.is_forbidden() => return Ok(Vec::new()),
        listed => listed.context("cannot list events")?.items,
    };
    let ours = |event: &Event| {
        let group = event.regarding.as_ref().and_then(|regarding| regarding.api_version.as_deref());
        event.type_.as_deref() == Some("Warning")
            && group.is_some_and(|group| group.starts_with(contract::names::GROUP))
    };
    let told = events.into_iter().filter(ours).map(|event| {
        let series = event.series.as_ref().map(|series| series.last_observed_time.0);
        let first = event.event_time.as_ref().map(|time| time.0).or_else(|| event.creation_timestamp().map(|t| t.0));
        let regarding = event.regarding.clone().unwrap_or_default();
        Warning {
            time: series.or(first).unwrap_or(now),
            namespace: event.namespace().unwrap_or_default(),
            object: format!("{}/{}", regarding.kind.unwrap_or_default(), regarding.name.unwrap_or_default()),
            reason: event.reason.unwrap_or_default(),
            message: event.note.unwrap_or_default(),
        }
    });
    Ok(told.collect())
}

/// What is wrong with an object whose `Ready` should be true of its generation.
fn unready(generation: Option<i64>, list: &[Condition]) -> Option<Problem> {
    if conditions::is_true(list, conditions::READY, generation) {
        return None;
    }
    Some(match conditions::find(list, conditions::READY) {
        Some(ready) if ready.observed_generation == generation => problem(ready),
        Some(_) => behind("its newest generation has not been looked at yet: is the operator running?"),
        None => {
            behind("nothing has been said about it yet: is the operator running, and does it watch this namespace?")
        }
    })
}

fn behind(message: &str) -> Problem {
    Problem {
        type_: conditions::READY.into(),
        status: "Unknown".into(),
        reason: conditions::reasons::RECONCILING.into(),
        message: message.into(),
    }
}

fn problem(condition: &Condition) -> Problem {
    Problem {
        type_: condition.type_.clone(),
        status: condition.status.clone(),
        reason: condition.reason.clone(),
        message: condition.message.clone(),
    }
}

/// `Ready` first, then the others that are not well and say something else.
fn problems(ready: Option<Problem>, list: &[Condition], bad: impl Fn(&Condition) -> bool) -> Vec<Problem> {
    let mut problems: Vec<_> = ready.into_iter().collect();
    for condition in list.iter().filter(|condition| condition.type_ != conditions::READY && bad(condition)) {
        if problems.iter().all(|known| known.message != condition.message) {
            problems.push(problem(condition));
        } else if let Some(ready) = problems.first_mut().filter(|known| known.message == condition.message) {
            // The roll-up repeats another condition: that one is the better name.
            *ready = problem(condition);
        }
    }
    problems
}

pub fn of_platform(stores: &Stores, platform: &Platform, rollout: &rollout::View) -> PlatformReport {
    let status = platform.status.clone().unwrap_or_default();
    let ready = unready(platform.metadata.generation, &status.conditions);
    let said = |type_: &str| {
        conditions::find(&status.conditions, type_).map_or_else(
            || "nothing is known yet".to_owned(),
            |condition| match condition.status.as_str() {
                "True" => condition.message.clone(),
                _ => format!("{}: {}", condition.reason, condition.message),
            },
        )
    };
    let tenants = stores.tenants_of(platform);
    let unwell = tenants.iter().filter_map(|tenant| {
        let status = tenant.status.clone().unwrap_or_default();
        let Problem { reason, message, .. } = unready(tenant.metadata.generation, &status.conditions)?;
        Some(Unwell { name: tenant.name_any(), reason, message })
    });
    PlatformReport {
        name: platform.name_any(),
        namespace: platform.namespace().unwrap_or_default(),
        well: ready.is_none(),
        problems: problems(ready, &status.conditions, operator::platform::status::is_bad),
        active_color: status.active_color.map(|color| format!("{color:?}").to_lowercase()),
        active_release: status.active_revision.clone(),
        preview_release: status
            .preview_revision
            .clone()
            .filter(|preview| Some(preview) != status.active_revision.as_ref()),
        replicas: status.replicas,
        wanted_replicas: platform.spec.replicas,
        rollout: rollout.line(),
        postgres: said(conditions::POSTGRES_READY),
        redis: said(conditions::REDIS_READY),
        url: status.url.clone(),
        tenants: tenants.len(),
        unwell_tenants: unwell.collect(),
    }
}

fn tenants(stores: &Stores, namespace: &str, name: Option<&str>) -> Vec<TenantReport> {
    let all = stores.tenants.within(namespace).into_iter();
    let asked = all.filter(|tenant| name.is_none_or(|name| tenant.name_any() == name));
    asked.map(|tenant| of_tenant(stores, &tenant)).collect()
}

pub fn of_tenant(stores: &Stores, tenant: &Tenant) -> TenantReport {
    let status = tenant.status.clone().unwrap_or_default();
    let namespace = tenant.namespace().unwrap_or_default();
    let ready = unready(tenant.metadata.generation, &status.conditions);
    let loaded = status.config.clone().unwrap_or_default();
    let mut objects = BTreeMap::new();
    let key = Key::Tenant(namespace.clone(), tenant.name_any());
    if let Some(found) = stores.tenants.get(&namespace, &tenant.name_any()).map(|tenant| shelved(stores, tenant)) {
        about(&mut objects, &stores.role_bindings.find(&key), |b| b.status.as_ref().map(|s| s.conditions.as_slice()));
        about(&mut objects, &found.providers, |p| p.status.as_ref().map(|s| s.conditions.as_slice()));
        about(&mut objects, &found.policies, |p| p.status.as_ref().map(|s| s.conditions.as_slice()));
    }
    let bad = |condition: &Condition| match condition.type_.as_str() {
        conditions::SUSPENDED => condition.status == "True",
        _ => condition.status == "False",
    };
    TenantReport {
        name: tenant.name_any(),
        namespace,
        well: ready.is_none(),
        hostnames: status.hostnames.clone(),
        plan: tenant.spec.plan.clone(),
        revision: Some(loaded.revision).filter(|revision| !revision.is_empty()),
        loaded_replicas: loaded.loaded_replicas,
        ready_replicas: loaded.ready_replicas,
        signing_key: status.signing_key.map(|key| format!("{} since {}", key.secret_name, key.since.0)),
        problems: problems(ready, &status.conditions, bad),
        objects,
    }
}

fn about<K: Kept + kube::Resource<DynamicType = ()>>(
    objects: &mut BTreeMap<String, Option<Problem>>,
    found: &[std::sync::Arc<K>],
    list: impl Fn(&K) -> Option<&[Condition]>,
) {
    for object in found {
        let name = format!("{} {}", K::kind(&()), object.name_any());
        let conditions = list(object.as_ref()).unwrap_or_default();
        objects.insert(name, unready(object.meta().generation, conditions));
    }
}

#[derive(Serialize)]
struct Told<'r> {
    #[serde(flatten)]
    report: &'r Report,
    #[serde(skip)]
    now: Timestamp,
}

impl Shown for Told<'_> {
    fn human(&self, paint: Paint) -> String {
        self.report.human(self.now, paint)
    }
}

impl Report {
    fn well(&self) -> bool {
        self.platforms.iter().all(|platform| platform.well && platform.unwell_tenants.is_empty())
            && self.tenants.iter().all(|tenant| tenant.well)
    }

    pub fn human(&self, now: Timestamp, paint: Paint) -> String {
        let platforms = self.platforms.iter().map(|platform| platform.human(paint));
        let tenants = self.tenants.iter().map(|tenant| tenant.human(paint));
        let mut text = platforms.chain(tenants).collect::<Vec<_>>().join("\n");
        if !self.warnings.is_empty() {
            let _ = write!(text, "\n{}\n", paint.head("Recent warnings"));
            for warning in &self.warnings {
                let head = format!("{} ago, {}: {}", age(warning.time, now), warning.object, warning.reason);
                let _ = write!(text, "  {}\n{}", paint.warn(head), wrapped(&warning.message, 4));
            }
        }
        text
    }
}

fn list(problems: &[Problem], indent: usize, paint: Paint) -> String {
    let blank = " ".repeat(indent);
    let each = problems.iter().map(|Problem { type_, status, reason, message }| {
        format!("{blank}{}\n{}", paint.bad(format!("{type_}={status} {reason}")), wrapped(message, indent + 2))
    });
    each.collect()
}

impl PlatformReport {
    fn human(&self, paint: Paint) -> String {
        let word = match (self.well, self.problems.is_empty()) {
            (true, true) => paint.good("well"),
            (true, false) => paint.warn("works, and not all of it as declared"),
            (false, _) => paint.bad("not well"),
        };
        let mut text =
            format!("{} (namespace {}): {word}\n", paint.head(format!("Platform {}", self.name)), self.namespace);
        text += &list(&self.problems, 2, paint);
        let release = match (&self.active_release, &self.active_color) {
            (Some(release), Some(color)) => format!("{release} ({color}), "),
            (Some(release), None) => format!("{release}, "),
            (None, Some(color)) => format!("{color}, "),
            (None, None) => String::new(),
        };
        let mut line = |name: &str, value: &str| {
            let lines = wrapped(value, 14);
            let _ = write!(text, "  {name:<12}{}", lines.trim_start());
        };
        line("active", &format!("{release}{} of {} replicas", self.replicas, self.wanted_replicas));
        if let Some(preview) = &self.preview_release {
            line("preview", preview);
        }
        line("rollout", &self.rollout);
        line("PostgreSQL", &self.postgres);
        line("Redis", &self.redis);
        if let Some(url) = &self.url {
            line("address", url);
        }
        let well = self.tenants.saturating_sub(self.unwell_tenants.len());
        line("tenants", &format!("{well} of {} well", self.tenants));
        for Unwell { name, reason, message } in self.unwell_tenants.iter().take(TOLD) {
            let _ = write!(text, "    {}\n{}", paint.bad(format!("{name}: {reason}")), wrapped(message, 6));
        }
        match self.unwell_tenants.len().checked_sub(TOLD) {
            Some(more) if more > 0 => {
                let _ = writeln!(text, "    and {more} more: kubectl tenantry status tenant");
            }
            _ => {}
        }
        text
    }
}

impl TenantReport {
    fn human(&self, paint: Paint) -> String {
        let word = if self.well { paint.good("well") } else { paint.bad("not well") };
        let mut text =
            format!("{} (namespace {}): {word}\n", paint.head(format!("Tenant {}", self.name)), self.namespace);
        text += &list(&self.problems, 2, paint);
        let mut line = |name: &str, value: &str| {
            let _ = write!(text, "  {name:<12}{}", wrapped(value, 14).trim_start());
        };
        line("hostnames", if self.hostnames.is_empty() { "none".into() } else { self.hostnames.join(", ") }.as_str());
        line("plan", &self.plan);
        match &self.revision {
            Some(revision) => {
                line(
                    "revision",
                    &format!("{revision} on {} of {} replicas", self.loaded_replicas, self.ready_replicas),
                );
            }
            None => line("revision", "none yet"),
        }
        if let Some(key) = &self.signing_key {
            line("signing key", key);
        }
        for (object, problem) in &self.objects {
            match problem {
                None => {
                    let _ = writeln!(text, "  {} {object}", paint.good("ok"));
                }
                Some(problem) => {
                    let _ = write!(
                        text,
                        "  {} {object}\n{}",
                        paint.bad("--"),
                        list(std::slice::from_ref(problem), 5, paint)
                    );
                }
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn condition(type_: &str, status: &str, reason: &str, message: &str) -> Condition {
        Condition {
            type_: type_.into(),
            status: status.into(),
            reason: reason.into(),
            message: message.into(),
            observed_generation: Some(1),
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
        }
    }

    fn tenant(name: &str, conditions: Vec<Condition>) -> Tenant {
        let mut tenant = Tenant::new_minimal(name, "a.example");
        (tenant.metadata.namespace, tenant.metadata.generation) = (Some("shop".into()), Some(1));
        tenant.status = Some(crds::TenantStatus { conditions, ..Default::default() });
        tenant
    }

    #[test]
    fn what_is_not_well_is_told_with_its_reason_and_the_rest_is_counted() {
        let stores = Stores::default();
        let mut platform = Platform::new_minimal("main", "db", "redis");
        (platform.metadata.namespace, platform.metadata.generation) = (Some("shop".into()), Some(1));
        platform.status = Some(crds::PlatformStatus {
            replicas: 2,
            url: Some("https://pay.example.com".into()),
            conditions: vec![
                condition("Ready", "False", "Unreachable", "the database does not answer: see Secret db"),
                condition("Available", "True", "Available", "2 of 2 replicas are ready"),
                condition("PostgresReady", "False", "Unreachable", "the database does not answer: see Secret db"),
                condition("RedisReady", "True", "AsDeclared", "external, by Secret redis"),
            ],
            ..Default::default()
        });
        stores.platforms.put(platform.clone());
        stores.tenants.put(tenant("acme", vec![condition("Ready", "True", "Ready", "")]));
        stores
            .tenants
            .put(tenant("beta", vec![condition("Ready", "False", "Conflicted", "a.example is held by acme")]));
        stores.tenants.put(tenant("new", vec![]));
        let warning = Warning {
            time: Timestamp::UNIX_EPOCH,
            namespace: "shop".into(),
            object: "Tenant/beta".into(),
            reason: "Conflicted".into(),
            message: "a.example is held by acme".into(),
        };
        let view = rollout::View { phase: "Idle".into(), ..Default::default() };
        let report = Report {
            platforms: vec![of_platform(&stores, &platform, &view)],
            tenants: vec![],
            warnings: vec![warning],
        };
        let text = report.human(Timestamp::constant(300, 0), Paint(false));
        for words in
            ["not well", "PostgresReady=False Unreachable", "1 of 3 well", "beta: Conflicted", "5m ago, Tenant/beta"]
        {
            assert!(text.contains(words), "no {words:?} in {text}");
        }
    }
}
