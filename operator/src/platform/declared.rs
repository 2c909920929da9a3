//! The release that a Platform's spec asks for, by the steps of a reconcile and without a cluster: for those who only look.

use std::sync::Arc;

use crds::Platform;
use kube::ResourceExt;

use super::{
    build,
    dereference::{Data, Dereferenced, Optional},
    rollout::{Observed, Release},
    validate::{Problem, validate},
};

/// What a Platform's pods are told from Secrets.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    pub postgres: Data,
    pub redis: Data,
    pub mail: Data,
    pub sealing_key: Data,
}

/// What would be rolled out, and what stands in its way.
#[derive(Debug)]
pub struct Declared {
    pub release: Option<Release>,
    pub problems: Vec<Problem>,
}

/// Works out what `platform` asks for. `default_image` is that of a Platform which names none.
pub fn declared(platform: Arc<Platform>, secrets: Secrets, default_image: &str) -> serde_json::Result<Declared> {
    let Secrets { postgres, redis, mail, sealing_key } = secrets;
    let found = Dereferenced {
        namespace: platform.namespace().unwrap_or_default(),
        name: platform.name_any(),
        platform,
        postgres,
        redis,
        mail,
        sealing_key,
        observed: Observed::default(),
        jobs: Vec::new(),
        tenants: Vec::new(),
        managed: super::managed::Found::default(),
        optional: Optional::default(),
    };
    let validated = validate(&found, default_image);
    let release = build::build(&found, &validated)?.workload.map(|workload| workload.release);
    let sources = [validated.postgres, validated.redis].into_iter().filter_map(Result::err);
    let problems = sources.chain(validated.sealing_key.err()).collect();
    Ok(Declared { release, problems })
}
