//! What the API's pods say: all of a colour at once, readable, about one tenant or one request.

use std::{collections::HashMap, fmt::Write as _};

use anyhow::{Context, Result, bail};
use contract::names::{API_NAME, LABEL_INSTANCE, LABEL_NAME};
use futures::{AsyncBufReadExt, StreamExt, TryStreamExt, stream::select_all};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    ResourceExt,
    api::{ListParams, LogParams},
};
use serde_json::Value;

use crate::{
    Outcome,
    cli::{self, Pods},
    connect::Connection,
    output::{Output, Paint, print},
};

const LABEL_COLOR: &str = "tenantry.dev/color";
/// Container of the API in its pods.
const CONTAINER: &str = "api";

pub async fn run(connection: &Connection, asked: &cli::Logs, out: Output) -> Result<Outcome> {
    let platform = connection.platform(asked.platform.as_deref()).await?;
    let status = platform.status.clone().unwrap_or_default();
    let active = status.active_color.map(|color| format!("{color:?}").to_lowercase());
    let color = match asked.color {
        Pods::Active => active,
        Pods::Blue => Some("blue".into()),
        Pods::Green => Some("green".into()),
        Pods::All => None,
        Pods::Preview => {
            let Some(active) = active else { bail!("no colour is active yet: ask for --color all") };
            Some(if active == "blue" { "green".into() } else { "blue".into() })
        }
    };
    let mut selector = format!("{LABEL_NAME}={API_NAME},{LABEL_INSTANCE}={}", platform.name_any());
    if let Some(color) = &color {
        let _ = write!(selector, ",{LABEL_COLOR}={color}");
    }
    let api = connection.api::<Pod>();
    let mut pods = api.list(&ListParams::default().labels(&selector)).await.context("cannot list pods")?.items;
    pods.sort_by_key(ResourceExt::name_any);
    if pods.is_empty() {
        let which = color.map_or_else(String::new, |color| format!("{color} "));
        bail!("Platform {:?} has no {which}pods: kubectl tenantry status says why", platform.name_any());
    }
    let params = LogParams {
        container: Some(CONTAINER.into()),
        follow: asked.follow,
        previous: asked.previous,
        // A filter looks through everything that is there.
        tail_lines: (asked.tenant.is_none() && asked.request.is_none()).then_some(asked.tail),
        since_seconds: asked.since.and_then(|since| i64::try_from(since.as_secs()).ok()),
        ..LogParams::default()
    };
    let wanted = Wanted { tenant: asked.tenant.as_deref(), request: asked.request.as_deref() };
    let raw = asked.raw || out.format.is_some();
    let mut streams = Vec::new();
    for pod in &pods {
        let name = pod.name_any();
        match api.log_stream(&name, &params).await {
            Ok(lines) => streams.push(lines.lines().map_ok(move |line| (name.clone(), line)).boxed_local()),
            // One that is only starting has nothing to say yet.
            Err(kube::Error::Api(status)) if status.code == 400 => eprintln!("{name}: {}", status.message),
            Err(error) => return Err(error).with_context(|| format!("cannot read the log of {name}")),
        }
    }
    let say = |pod: &str, line: &str| {
        let text = if raw { line.to_owned() } else { readable(line, out.paint) };
        print(&format!("{} {text}\n", out.paint.dim(short(pod))))
    };
    let mut lines = select_all(streams);
    let mut told = Vec::new();
    while let Some(line) = lines.next().await {
        let (pod, line) = line.context("a log ended in the middle")?;
        if !wanted.is_met(&line) {
            continue;
        }
        if asked.follow {
            say(&pod, &line)?;
        } else {
            told.push((pod, line));
        }
    }
    by_time(told).iter().try_for_each(|(pod, line)| say(pod, line))?;
    Ok(Outcome::Good)
}

/// The lines of several pods in the order in which they were written; those of one pod stay in theirs.
fn by_time(lines: Vec<(String, String)>) -> Vec<(String, String)> {
    let mut last: HashMap<String, Timestamp> = HashMap::new();
    let mut timed: Vec<_> = lines
        .into_iter()
        .map(|(pod, line)| {
            let before = last.get(&pod).copied().unwrap_or(Timestamp::MIN);
            let at = written(&line).unwrap_or(before).max(before);
            last.insert(pod.clone(), at);
            (at, (pod, line))
        })
        .collect();
    timed.sort_by_key(|(at, _)| *at);
    timed.into_iter().map(|(_, line)| line).collect()
}

fn written(line: &str) -> Option<Timestamp> {
    let line: Value = serde_json::from_str(line).ok()?;
    line["timestamp"].as_str()?.parse().ok()
}

/// The end of a pod's name, which is what tells replicas apart, and the colour before it.
fn short(pod: &str) -> String {
    let parts: Vec<_> = pod.rsplitn(4, '-').collect();
    match parts.as_slice() {
        [suffix, _, color @ ("blue" | "green"), _] => format!("{color}/{suffix}"),
        [suffix, ..] => (*suffix).to_owned(),
        [] => pod.to_owned(),
    }
}

struct Wanted<'a> {
    tenant: Option<&'a str>,
    request: Option<&'a str>,
}

impl Wanted<'_> {
    fn is_met(&self, line: &str) -> bool {
        if self.tenant.is_none() && self.request.is_none() {
            return true;
        }
        let Ok(line) = serde_json::from_str::<Value>(line) else {
            // Text for people: the word is there or it is not.
            return [self.tenant, self.request].into_iter().flatten().all(|word| line.contains(word));
        };
        let says = |field: &str, wanted: Option<&str>| wanted.is_none_or(|wanted| line[field] == wanted);
        says("tenant", self.tenant) && says("request_id", self.request)
    }
}

/// A JSON line as a person reads it; anything else as it is.
fn readable(line: &str, paint: Paint) -> String {
    let Ok(Value::Object(mut fields)) = serde_json::from_str::<Value>(line) else { return line.to_owned() };
    let mut take = |name: &str| fields.shift_remove(name).and_then(|value| value.as_str().map(str::to_owned));
    let time = take("timestamp").and_then(|text| text.parse::<Timestamp>().ok());
    let level = take("level").unwrap_or_default();
    let message = take("message").unwrap_or_default();
    take("target");
    let time = time.map_or_else(String::new, |time| time.strftime("%H:%M:%S%.3f").to_string());
    let level = match level.as_str() {
        "ERROR" => paint.bad(format!("{level:<5}")),
        "WARN" => paint.warn(format!("{level:<5}")),
        _ => format!("{level:<5}"),
    };
    let rest = fields.iter().map(|(name, value)| match value {
        Value::String(text) if !text.contains(' ') => format!("{name}={text}"),
        other => format!("{name}={other}"),
    });
    let rest: Vec<_> = rest.collect();
    format!("{} {level} {message} {}", paint.dim(time), paint.dim(rest.join(" "))).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"timestamp":"2026-11-21T15:04:05.123456Z","level":"INFO","message":"answered","request_id":"r-1","method":"GET","status":200,"tenant":"acme","target":"api_server::middleware"}"#;

    #[test]
    fn a_line_is_readable_and_loses_nothing_that_matters() {
        assert_eq!(
            readable(LINE, Paint(false)),
            "15:04:05.123 INFO  answered request_id=r-1 method=GET status=200 tenant=acme"
        );
        assert_eq!(readable("not JSON", Paint(false)), "not JSON");
    }

    #[test]
    fn lines_of_several_pods_are_told_in_the_order_of_their_times() {
        let at = |second: u32| format!(r#"{{"timestamp":"2026-11-21T15:04:{second:02}.5Z"}}"#);
        let lines = [("a", at(1)), ("b", at(3)), ("a", "a panic's second line".into()), ("b", at(4)), ("a", at(2))];
        let lines = lines.map(|(pod, line)| (pod.to_owned(), line)).to_vec();
        let told: Vec<_> = by_time(lines).into_iter().map(|(_, line)| line).collect();
        assert_eq!(told, [at(1), "a panic's second line".into(), at(2), at(3), at(4)]);
    }

    #[test]
    fn lines_are_told_apart_by_tenant_and_by_request() {
        let met = |tenant, request, line| Wanted { tenant, request }.is_met(line);
        assert!(met(Some("acme"), None, LINE) && met(None, Some("r-1"), LINE) && met(None, None, "anything"));
        assert!(!met(Some("acm"), None, LINE) && !met(Some("acme"), Some("r-2"), LINE));
        assert!(met(Some("acme"), None, "text of acme") && !met(Some("acme"), None, "text"));
    }

    #[test]
    fn a_pod_is_named_by_what_tells_it_apart() {
        assert_eq!(short("main-api-blue-5d8f7c9b4-x7k2p"), "blue/x7k2p");
        assert_eq!(short("main-api-5d8f7c9b4-x7k2p"), "x7k2p");
    }
}
