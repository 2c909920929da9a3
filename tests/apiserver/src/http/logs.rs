//! What a container printed: `kubectl logs`. The node keeps one file per container; there are no files of earlier days.
//! <https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#get-read-log-of-the-specified-pod>

use std::{path::PathBuf, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    response::Response,
};
use futures::stream;
use jiff::Timestamp;
use serde_json::Value;

use super::{
    Wire,
    request::{Place, Query},
    response,
};
use crate::{
    api::Api,
    clock, object,
    status::{Result, Status},
    store::Entry,
};

/// How long a follower rests before it looks again.
const REST: Duration = Duration::from_millis(50);

pub fn read(wire: &Wire, place: &Place, query: &Query) -> Result<Response> {
    let pod = wire.api.get(place.target())?;
    let container = container(&pod.value, query.get("container"))?;
    let folder = wire.logs.as_ref().ok_or_else(|| Status::internal("no node keeps logs here"))?;
    let previous = query.flag("previous");
    let file = if previous { format!("{container}.previous.log") } else { format!("{container}.log") };
    let path = folder.join(&place.namespace).join(&place.name).join(file);
    let Ok(text) = std::fs::read(&path) else {
        return Err(Status::bad_request(if previous {
            format!("previous terminated container {container:?} in pod {:?} not found", place.name)
        } else {
            format!("container {container:?} in pod {:?} is waiting to start: ContainerCreating", place.name)
        }));
    };
    let shown = narrow(&text, query);
    if !query.flag("follow") || previous {
        return Ok(response::bytes(200, "text/plain", shown));
    }
    let follower = Follower { wire: wire.clone(), pod, container, path, told: text.len(), first: Some(shown) };
    let chunks = stream::unfold(follower, |mut follower| async move {
        let chunk = follower.next().await?;
        Some((Ok::<_, std::convert::Infallible>(chunk), follower))
    });
    Ok(response::bytes(200, "text/plain", Body::from_stream(chunks)))
}

/// The container that is meant: a pod with several must be told which.
fn container(pod: &Value, wanted: &str) -> Result<String> {
    let names = |list: &str| -> Vec<&str> {
        pod["spec"][list].as_array().into_iter().flatten().filter_map(|container| container["name"].as_str()).collect()
    };
    let (main, init) = (names("containers"), names("initContainers"));
    let pod = object::name(pod);
    match (wanted, &main[..]) {
        ("", [only]) => Ok((*only).to_owned()),
        ("", _) => {
            let init = if init.is_empty() {
                String::new()
            } else {
                format!(" or one of the init containers: [{}]", init.join(" "))
            };
            let choice = main.join(" ");
            Err(Status::bad_request(format!(
                "a container name must be specified for pod {pod}, choose one of: [{choice}]{init}"
            )))
        }
        (name, _) if main.contains(&name) || init.contains(&name) => Ok(name.to_owned()),
        (name, _) => Err(Status::bad_request(format!("container {name} is not valid for pod {pod}"))),
    }
}

/// The last lines, the youngest lines, the first bytes.
fn narrow(text: &[u8], query: &Query) -> Bytes {
    let mut lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    let since = query.number::<i64>("sinceSeconds").map(|seconds| clock::now().as_second() - seconds);
    let since = since.or_else(|| query.number::<Timestamp>("sinceTime").map(Timestamp::as_second));
    if let Some(since) = since {
        let young = lines.iter().position(|line| time(line).is_some_and(|time| time.as_second() >= since));
        // Lines without a time belong to the one before them.
        lines.drain(..young.unwrap_or(lines.len()));
    }
    if let Some(most) = query.number::<usize>("tailLines") {
        lines.drain(..lines.len().saturating_sub(most));
    }
    let mut shown = lines.concat();
    if let Some(most) = query.number::<usize>("limitBytes") {
        shown.truncate(most);
    }
    Bytes::from(shown)
}

/// A container runtime notes when each line came; here the line has to say so itself, as text or in JSON.
fn time(line: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(line).ok()?;
    let object: Option<Value> = serde_json::from_str(text).ok();
    let told = object.as_ref().and_then(|line| line["timestamp"].as_str().or(line["time"].as_str()));
    told.or_else(|| text.split_whitespace().next())?.parse().ok()
}

/// A reader who stays until the container is done or the pod is gone.
struct Follower {
    wire: Wire,
    pod: Arc<Entry>,
    container: String,
    path: PathBuf,
    told: usize,
    first: Option<Bytes>,
}

impl Follower {
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take().filter(|first| !first.is_empty()) {
            return Some(first);
        }
        loop {
            // Asked first: what was printed before the end is in the file by then.
            let over = self.is_over(&self.wire.api);
            let text = tokio::fs::read(&self.path).await.unwrap_or_default();
            if text.len() > self.told {
                let fresh = Bytes::copy_from_slice(&text[self.told..]);
                self.told = text.len();
                return Some(fresh);
            }
            if over {
                return None;
            }
            tokio::select! {
                () = self.wire.stop.cancelled() => return None,
                () = tokio::time::sleep(REST) => {}
            }
        }
    }

    fn is_over(&self, api: &Api) -> bool {
        let key = (object::meta(&self.pod.value, "namespace").to_owned(), object::name(&self.pod.value).to_owned());
        let Some(pod) = api.store.get("/pods", &key) else { return true };
        let statuses = ["containerStatuses", "initContainerStatuses"];
        let mut statuses = statuses.iter().flat_map(|list| pod.value["status"][*list].as_array().into_iter().flatten());
        statuses.any(|status| status["name"] == self.container.as_str() && status["state"]["terminated"].is_object())
            || object::uid(&pod.value) != object::uid(&self.pod.value)
    }
}
