//! Waiting for an object to be as it should: told by a watch, and never longer than was asked for.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::{StreamExt, pin_mut};
use kube::{
    Api,
    api::DynamicObject,
    runtime::{WatchStreamExt, watcher},
};
use tokio::time::{Instant, timeout_at};

/// Looks at every state of the object until `look` has an answer. `None`: the time was over first.
pub async fn until<T>(
    api: Api<DynamicObject>,
    name: &str,
    patience: Option<Duration>,
    mut look: impl FnMut(&DynamicObject) -> Result<Option<T>>,
) -> Result<Option<T>> {
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let states = watcher(api, config).default_backoff();
    pin_mut!(states);
    let deadline = patience.map(|patience| Instant::now() + patience);
    loop {
        let next = match deadline {
            None => states.next().await,
            Some(deadline) => match timeout_at(deadline, states.next()).await {
                Ok(next) => next,
                Err(_) => return Ok(None),
            },
        };
        match next {
            Some(Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object))) => {
                if let Some(answer) = look(&object)? {
                    return Ok(Some(answer));
                }
            }
            Some(Ok(watcher::Event::Delete(_))) => bail!("{name} was deleted meanwhile"),
            // The watcher tries again by itself; what it will never be allowed is not waited for.
            Some(Err(watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error))) => {
                if matches!(&error, kube::Error::Api(said) if said.is_forbidden() || said.code == 401) {
                    return Err(error).with_context(|| format!("cannot watch {name}"));
                }
            }
            Some(Ok(watcher::Event::Init | watcher::Event::InitDone) | Err(_)) => {}
            None => bail!("the watch of {name} ended"),
        }
    }
}
