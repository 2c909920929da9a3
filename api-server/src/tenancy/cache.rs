//! The last good documents on disk, so that a process starts and serves while the control plane is down.
//!
//! One file a tenant, as it came: credentials in it stay sealed. A file named [`COMPLETE`] says that the folder once held
//! all of them; a folder that was being filled is not mistaken for the whole.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
};

use super::tenants::Found;

const COMPLETE: &str = "complete";

/// The folder.
#[derive(Debug, Clone)]
pub struct Cache(PathBuf);

impl Cache {
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self(folder.into())
    }

    /// All documents, if the folder holds a complete set.
    pub fn load(&self) -> io::Result<Option<Vec<Found>>> {
        if !self.0.join(COMPLETE).exists() {
            return Ok(None);
        }
        read_folder(&self.0).map(Some)
    }

    /// Keeps one document. A reader sees the old file or the new one, never half of one.
    pub fn keep(&self, found: &Found) -> io::Result<()> {
        self.write(&format!("{}.json", found.tenant), found.text.as_bytes())
    }

    pub fn forget(&self, tenant: &str) -> io::Result<()> {
        match fs::remove_file(self.0.join(format!("{tenant}.json"))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// One tenant's document, if there is one that can be read.
    pub fn get(&self, tenant: &str) -> Option<Found> {
        let text = fs::read_to_string(self.0.join(format!("{tenant}.json"))).ok()?;
        Some(Found { tenant: tenant.to_owned(), revision: None, text })
    }

    /// Keeps exactly these, and what there is of tenants whose newest document was `refused`.
    pub fn replace(&self, all: &[Found], refused: &HashSet<String>) -> io::Result<()> {
        fs::create_dir_all(&self.0)?;
        let wanted: HashSet<&str> = all.iter().map(|found| found.tenant.as_str()).collect();
        for stale in read_folder(&self.0)? {
            if !wanted.contains(stale.tenant.as_str()) && !refused.contains(&stale.tenant) {
                self.forget(&stale.tenant)?;
            }
        }
        for found in all {
            self.keep(found)?;
        }
        self.write(COMPLETE, b"")
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let (file, half) = (self.0.join(name), self.0.join(format!(".{name}.new")));
        if fs::read(&file).is_ok_and(|old| old == bytes) {
            return Ok(());
        }
        fs::write(&half, bytes)?;
        fs::rename(half, file)
    }
}

/// Every `<tenant>.json` of a folder.
pub fn read_folder(folder: &Path) -> io::Result<Vec<Found>> {
    let mut found = vec![];
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // `..data` and the like are how Kubernetes swaps a mounted volume.
        if let Some(tenant) = name.strip_suffix(".json").filter(|tenant| !tenant.starts_with('.')) {
            found.push(Found { tenant: tenant.to_owned(), revision: None, text: fs::read_to_string(&path)? });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(tenant: &str, text: &str) -> Found {
        Found { tenant: tenant.into(), revision: None, text: text.into() }
    }

    fn names(cache: &Cache) -> Option<Vec<String>> {
        let mut names: Vec<_> = cache.load().unwrap()?.into_iter().map(|found| found.tenant).collect();
        names.sort();
        Some(names)
    }

    #[test]
    fn an_unfinished_folder_is_not_taken_for_the_whole() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path());
        cache.keep(&found("acme", "{}")).unwrap();
        assert_eq!(names(&cache), None);
        cache.replace(&[found("acme", "{}"), found("beta", "{}")], &HashSet::new()).unwrap();
        assert_eq!(names(&cache), Some(vec!["acme".into(), "beta".into()]));
        cache.replace(&[found("beta", "{}")], &HashSet::from(["acme".into()])).unwrap();
        assert_eq!(names(&cache), Some(vec!["acme".into(), "beta".into()]));
        cache.replace(&[found("beta", "{}")], &HashSet::new()).unwrap();
        assert_eq!(names(&cache), Some(vec!["beta".into()]));
        cache.forget("beta").unwrap();
        cache.forget("beta").unwrap();
        assert_eq!(names(&cache), Some(vec![]));
    }
}
