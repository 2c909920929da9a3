//! Is it well, and if not, why: on one screen.

mod human;
mod report;
#[cfg(test)]
mod tests;

use std::time::Duration;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use k8s_openapi::api::{core::v1::Namespace, events::v1::Event};
use kube::{Api, ResourceExt, api::ListParams};
use operator::{
    clock::{Clock, SystemClock},
    stores::Stores,
};
use serde::Serialize;

pub use self::report::{PlatformReport, Problem, Report, TenantReport, Unwell, Warning, of_platform, of_tenant};
use crate::{
    Outcome,
    cli::{self, Looked},
    connect::Connection,
    live,
    output::{Failure, Output, Paint, Shown, print},
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

fn tenants(stores: &Stores, namespace: &str, name: Option<&str>) -> Vec<TenantReport> {
    let all = stores.tenants.within(namespace).into_iter();
    let asked = all.filter(|tenant| name.is_none_or(|name| tenant.name_any() == name));
    asked.map(|tenant| of_tenant(stores, &tenant)).collect()
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
