//! Where a world keeps its files: logs of every pod, kubeconfig, data of the private services.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// A folder that goes away with its world, unless the test failed: then its logs are worth reading.
#[derive(Debug)]
pub struct Workdir {
    path: PathBuf,
    temporary: bool,
}

impl Workdir {
    /// Named after the process, so that leftovers of killed ones can be told and swept.
    pub fn temporary() -> Result<Self> {
        sweep();
        let path = tempfile::Builder::new().prefix(&prefix()).tempdir_in(env::temp_dir())?.keep();
        open_for_traversal(&path)?;
        Ok(Self { path, temporary: true })
    }

    /// A folder that stays, like `.dev`.
    pub fn lasting(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path: fs::canonicalize(path)?, temporary: false })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Workdir {
    fn drop(&mut self) {
        if !self.temporary {
            return;
        }
        if std::thread::panicking() {
            // Renamed, so that the next sweep does not take what was kept on purpose.
            let kept = self.path.with_extension("failed");
            let _ = fs::rename(&self.path, &kept);
            eprintln!("harness: the logs of the failed test are in {}", kept.display());
        } else {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

fn prefix() -> String {
    format!("tenantry-{}-", std::process::id())
}

/// The services' own users (postgres) must get through to their own folder in it.
fn open_for_traversal(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o711))?)
}

/// Removes what killed processes left: they had no chance to drop anything.
fn sweep() {
    for entry in fs::read_dir(env::temp_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix("tenantry-")?.split('-').next());
        let Some(owner) = owner.and_then(|pid| pid.parse::<u32>().ok()) else { continue };
        let kept = Path::new(&name).extension().is_some();
        if !kept && !Path::new("/proc").join(owner.to_string()).exists() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
