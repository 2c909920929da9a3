//! Which kinds of other projects (Gateway API, Prometheus operator, KEDA, CloudNativePG) the cluster serves now.
//!
//! Discovery is asked, not the CustomResourceDefinitions: every identity may ask it, also one that is bound to a few
//! namespaces. What is installed or removed later is noticed within [`LOOK`].

use std::{collections::BTreeSet, time::Duration};

use kube::{Client, Resource, core::Status};
use tokio::{sync::watch, time::sleep};

/// How often discovery is asked.
const LOOK: Duration = Duration::from_secs(10);

/// Whether the API server knows no such path, or no such object. It says the former in plain text, of which kube 5.0 makes
/// a status that its own `is_not_found` does not recognize.
pub fn is_not_served(status: &Status) -> bool {
    status.code == 404
}

/// A kind of another project, which is used only where it is there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    pub group_version: String,
    pub plural: String,
}

impl Peer {
    pub fn of<K: Resource<DynamicType = ()>>() -> Self {
        Self { group_version: K::api_version(&()).into_owned(), plural: K::plural(&()).into_owned() }
    }
}

/// What of the peers is there. Empty until the first look.
#[derive(Debug)]
pub struct Installed {
    known: Vec<Peer>,
    there: watch::Sender<BTreeSet<Peer>>,
}

impl Installed {
    /// Nothing is there yet; `known` are the kinds to look for.
    pub fn new(known: Vec<Peer>) -> Self {
        Self { known, there: watch::Sender::default() }
    }

    pub fn has<K: Resource<DynamicType = ()>>(&self) -> bool {
        self.there.borrow().contains(&Peer::of::<K>())
    }

    /// Returns when the kind is there, or when it is not.
    pub async fn until<K: Resource<DynamicType = ()>>(&self, installed: bool) {
        let peer = Peer::of::<K>();
        // The sender lives as long as `self`.
        let _ = self.there.subscribe().wait_for(|there| there.contains(&peer) == installed).await;
    }

    /// Asks discovery once. Whether something came or went; on an error all stays as it was.
    pub async fn look(&self, client: &Client) -> kube::Result<bool> {
        let served: BTreeSet<String> = client
            .list_api_groups()
            .await?
            .groups
            .into_iter()
            .flat_map(|group| group.versions.into_iter().map(|version| version.group_version))
            .collect();
        let wanted: BTreeSet<&String> = self.known.iter().map(|peer| &peer.group_version).collect();
        let mut there = BTreeSet::new();
        for group_version in wanted.into_iter().filter(|wanted| served.contains(*wanted)) {
            let resources = match client.list_api_group_resources(group_version).await {
                Ok(list) => list.resources,
                // Gone between the two questions.
                Err(kube::Error::Api(status)) if is_not_served(&status) => continue,
                Err(error) => return Err(error),
            };
            let of_version = self.known.iter().filter(|peer| peer.group_version == *group_version);
            there.extend(of_version.filter(|peer| resources.iter().any(|r| r.name == peer.plural)).cloned());
        }
        Ok(self.there.send_if_modified(|before| {
            let changed = *before != there;
            *before = there;
            changed
        }))
    }

    /// Looks for ever; `looked` is told after the first look that succeeded, and then of every change.
    pub async fn follow(&self, client: &Client, mut looked: impl FnMut()) {
        let mut first = true;
        loop {
            match self.look(client).await {
                Ok(changed) if changed || first => {
                    first = false;
                    looked();
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "discovery does not answer"),
            }
            sleep(LOOK).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::json;

    use super::*;
    use crate::peers::{HttpRoute, PodMonitor};

    /// A discovery that serves these group versions, each with these resources.
    fn serving(groups: &'static [(&'static str, &'static [&'static str])]) -> Client {
        let answer = move |request: Request<Body>| async move {
            let path = request.uri().path().to_owned();
            let body = if let Some(group_version) = path.strip_prefix("/apis/") {
                let (_, names) = groups.iter().find(|(served, _)| *served == group_version).unwrap();
                let resource =
                    |name| json!({ "name": name, "singularName": "", "kind": "K", "namespaced": true, "verbs": [] });
                let resources: Vec<_> = names.iter().map(resource).collect();
                json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources })
            } else {
                let group = |(served, _): &(&str, _)| {
                    let (name, version) = served.split_once('/').unwrap();
                    json!({ "name": name, "versions": [{ "groupVersion": served, "version": version }] })
                };
                json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups.iter().map(group).collect::<Vec<_>>() })
            };
            Ok::<_, std::convert::Infallible>(Response::new(Body::from(body.to_string().into_bytes())))
        };
        Client::new(tower::service_fn(answer), "default")
    }

    #[tokio::test]
    async fn a_kind_is_there_when_its_version_serves_it() {
        let installed = Installed::new(vec![Peer::of::<HttpRoute>(), Peer::of::<PodMonitor>()]);
        let some = serving(&[
            ("apps/v1", &["deployments"]),
            ("gateway.networking.k8s.io/v1", &["gateways", "httproutes"]),
            ("monitoring.coreos.com/v1", &["servicemonitors"]),
        ]);
        assert!(installed.look(&some).await.unwrap());
        assert!(installed.has::<HttpRoute>() && !installed.has::<PodMonitor>());
        assert!(!installed.look(&some).await.unwrap(), "nothing changed");
    }

    #[tokio::test]
    async fn who_waits_is_told_of_the_coming_and_the_going() {
        let installed = Installed::new(vec![Peer::of::<HttpRoute>()]);
        let served = serving(&[("gateway.networking.k8s.io/v1", &["httproutes"])]);
        let comes = installed.until::<HttpRoute>(true);
        let (changed, ()) = tokio::join!(installed.look(&served), comes);
        assert!(changed.unwrap());
        assert!(installed.look(&serving(&[])).await.unwrap());
        installed.until::<HttpRoute>(false).await;
    }
}
