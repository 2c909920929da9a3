//! What stands for a container image: a program of this machine, with what a Dockerfile says around it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{binaries::repository, postgres, process::Signal};

/// `ENTRYPOINT`, `ENV`, `STOPSIGNAL` and `VOLUME` of an image.
#[derive(Debug, Clone, Default)]
pub struct Image {
    pub program: PathBuf,
    /// What a pod's own environment may override. Values that begin with a mount path are translated, like all others.
    pub env: BTreeMap<&'static str, String>,
    /// Looked through for commands before this machine's own.
    pub path: Vec<PathBuf>,
    /// What asks it to end; SIGTERM where nothing is said.
    pub stop_signal: Option<Signal>,
    /// Get a folder that lives as long as the pod, where the pod mounts nothing there.
    pub volumes: Vec<&'static str>,
}

impl<P: Into<PathBuf>> From<P> for Image {
    fn from(program: P) -> Self {
        Self { program: program.into(), ..Self::default() }
    }
}

/// By the last element of an image's repository, or by `<last element>:<tag>`, which is looked for first.
#[derive(Debug, Clone, Default)]
pub struct Images(BTreeMap<String, Image>);

impl Images {
    /// With the stores that a Platform may run: PostgreSQL and Valkey, in the version that this machine has, whatever the
    /// tag says.
    pub fn new() -> Self {
        let script = |name: &str| repository().join("tests/harness/images").join(name);
        let postgres = Image {
            program: script("postgres.sh"),
            env: BTreeMap::from([
                ("PGDATA", "/var/lib/postgresql/data".to_owned()),
                // For pg_isready in a probe: there is no network namespace whose localhost it could ask.
                ("PGHOST", "$(TENANTRY_BIND_ADDRESS)".to_owned()),
                ("TENANTRY_INITDB_SCRIPTS", "/docker-entrypoint-initdb.d".to_owned()),
            ]),
            path: postgres::folders(),
            // "Fast shutdown", as the image says: SIGTERM would wait for all clients to leave.
            stop_signal: Some(Signal::INT),
            volumes: vec!["/var/lib/postgresql"],
        };
        let valkey = Image {
            program: script("valkey.sh"),
            env: BTreeMap::from([("TENANTRY_WORKING_FOLDER", "/data".to_owned())]),
            path: vec![script("bin")],
            stop_signal: None,
            volumes: vec!["/data"],
        };
        let stores = [("postgres", postgres), ("valkey", valkey.clone()), ("redis", valkey)];
        Self(stores.map(|(name, image)| (name.to_owned(), image)).into())
    }

    #[must_use]
    pub fn with(mut self, name: &str, image: impl Into<Image>) -> Self {
        self.0.insert(name.to_owned(), image.into());
        self
    }

    pub fn find(&self, image: &str) -> Result<&Image> {
        let repository = image.split('@').next().unwrap_or_default();
        let last = repository.rsplit('/').next().unwrap_or_default();
        let name = last.split(':').next().unwrap_or_default();
        self.0.get(last).or_else(|| self.0.get(name)).with_context(|| {
            let known: Vec<_> = self.0.keys().map(String::as_str).collect();
            format!("the image \"{image}\" is unknown to the local node, which runs: {}", known.join(", "))
        })
    }

    /// A command that is named like an image runs the image's program; it is what is in its PATH, too.
    pub fn program(&self, name: &str) -> Option<&Path> {
        self.0.get(name).map(|image| image.program.as_path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_found_by_its_tag_before_its_name() {
        let images = Images::default().with("api", "/bin/good").with("api:bad", "/bin/bad");
        for (image, program) in [
            ("registry.example:5000/team/api", "/bin/good"),
            ("registry.example:5000/team/api:bad", "/bin/bad"),
            ("api:1.2@sha256:00", "/bin/good"),
        ] {
            assert_eq!(images.find(image).unwrap().program, Path::new(program), "{image}");
        }
        assert!(images.find("other").unwrap_err().to_string().contains("which runs: api, api:bad"));
    }
}
