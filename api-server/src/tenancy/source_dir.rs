//! Documents from a folder: `<tenant>.json`, in place of Kubernetes. Looks again a few times a second, which also sees a
//! mounted volume that is swapped by a symlink, where file events do not.

use std::{io, path::PathBuf, time::Duration};

use tokio::{task::spawn_blocking, time::interval};

use super::cache::read_folder;
use crate::app::App;

const INTERVAL: Duration = Duration::from_millis(250);

/// Follows the folder until the process ends.
pub async fn run(app: App, folder: PathBuf) {
    let mut ticks = interval(INTERVAL);
    let mut last: Vec<(String, String)> = vec![];
    let mut complained = false;
    loop {
        ticks.tick().await;
        let from = folder.clone();
        let read = spawn_blocking(move || read_folder(&from)).await.map_err(io::Error::other).and_then(|read| read);
        app.health.tried();
        app.metrics.config_source_up.set(i64::from(read.is_ok()));
        match read {
            Ok(mut found) => {
                complained = false;
                found.sort_by(|a, b| a.tenant.cmp(&b.tenant));
                let now: Vec<_> = found.iter().map(|found| (found.tenant.clone(), found.text.clone())).collect();
                if now != last || !app.tenants.is_complete() {
                    app.tenants.replace(&found);
                    last = now;
                }
            }
            Err(error) if !complained => {
                complained = true;
                tracing::error!(folder = %folder.display(), %error, "TENANTRY_CONFIG_DIR cannot be read, its last good documents go on");
            }
            Err(_) => {}
        }
    }
}
