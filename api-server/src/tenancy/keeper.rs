//! Keeps the last good documents on disk, beside the watch that brings them: a slow disk makes the next start older, and
//! delays no change. What waits for the disk is one document a tenant, however long the disk takes.

use std::{
    collections::{HashMap, HashSet},
    io, mem,
};

use tokio::{sync::watch, task::spawn_blocking};

use super::{cache::Cache, tenants::Found};

/// What is to be on disk, and what writes it there.
pub struct Keeper {
    cache: Cache,
    waiting: watch::Sender<Waiting>,
}

/// What is not on disk yet.
#[derive(Default)]
struct Waiting {
    /// A complete set, and the tenants whose newest document was refused.
    whole: Option<(Vec<Found>, HashSet<String>)>,
    /// Tenants that changed after it: the newest document, or none where the tenant is gone.
    tenants: HashMap<String, Option<Found>>,
    /// Something that was taken from here is on its way.
    writing: bool,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.whole.is_none() && self.tenants.is_empty()
    }

    fn write(self, cache: &Cache) -> io::Result<()> {
        if let Some((all, refused)) = &self.whole {
            cache.replace(all, refused)?;
        }
        for (tenant, found) in &self.tenants {
            match found {
                Some(found) => cache.keep(found)?,
                None => cache.forget(tenant)?,
            }
        }
        Ok(())
    }
}

impl Keeper {
    pub fn new(cache: Cache) -> Self {
        Self { cache, waiting: watch::Sender::default() }
    }

    /// A tenant's newest good document.
    pub fn keep(&self, found: Found) {
        self.waiting.send_modify(|waiting| drop(waiting.tenants.insert(found.tenant.clone(), Some(found))));
    }

    /// A tenant is gone.
    pub fn forget(&self, tenant: String) {
        self.waiting.send_modify(|waiting| drop(waiting.tenants.insert(tenant, None)));
    }

    /// All there is; what is on disk of tenants that were `refused` stays.
    pub fn replace(&self, all: Vec<Found>, refused: HashSet<String>) {
        self.waiting.send_modify(|waiting| {
            // Also what is not on disk yet, but would be by now.
            let earlier = waiting.whole.take().into_iter().flat_map(|(all, _)| all);
            let earlier = earlier.map(|found| (found.tenant.clone(), Some(found)));
            let known = earlier.chain(mem::take(&mut waiting.tenants));
            waiting.tenants = known.filter(|(tenant, _)| refused.contains(tenant)).collect();
            waiting.whole = Some((all, refused));
        });
    }

    /// One tenant's last good document, when the disk has all that it is to have.
    pub async fn get(&self, tenant: &str) -> Option<Found> {
        self.written().await;
        self.cache.get(tenant)
    }

    /// Waits until the disk has all that it is to have.
    pub async fn written(&self) {
        let mut waiting = self.waiting.subscribe();
        // The sender lives as long as `self`.
        let _ = waiting.wait_for(|waiting| waiting.is_empty() && !waiting.writing).await;
    }

    /// Writes what waits, in its order, for ever.
    pub async fn write(&self) {
        let mut waiting = self.waiting.subscribe();
        while waiting.wait_for(|waiting| !waiting.is_empty()).await.is_ok() {
            let mut next = Waiting::default();
            self.waiting
                .send_modify(|waiting| next = mem::replace(waiting, Waiting { writing: true, ..Waiting::default() }));
            let cache = self.cache.clone();
            let written = spawn_blocking(move || next.write(&cache)).await;
            // A disk that fails costs the next start its head start, nothing now.
            if let Err(error) = written.map_err(io::Error::other).and_then(|written| written) {
                tracing::warn!(%error, "TENANTRY_CACHE_DIR cannot be written");
            }
            self.waiting.send_modify(|waiting| waiting.writing = false);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{process::Command, time::Duration};

    use tokio::time::timeout;

    use super::*;

    fn found(tenant: &str, text: &str) -> Found {
        Found { tenant: tenant.into(), revision: None, text: text.into() }
    }

    fn on_disk(cache: &Cache) -> Vec<(String, String)> {
        let found = cache.load().unwrap().unwrap_or_default();
        let mut texts: Vec<_> = found.into_iter().map(|found| (found.tenant, found.text)).collect();
        texts.sort();
        texts
    }

    fn pairs<const N: usize>(texts: [(&str, &str); N]) -> Vec<(String, String)> {
        texts.map(|(tenant, text)| (tenant.to_owned(), text.to_owned())).to_vec()
    }

    /// Writes until everything is on disk.
    async fn flush(keeper: &Keeper) {
        let written = timeout(Duration::from_secs(30), keeper.written());
        tokio::select! {
            () = keeper.write() => unreachable!("it writes for ever"),
            written = written => written.unwrap(),
        }
    }

    #[tokio::test]
    async fn the_disk_has_the_newest_of_each_tenant_and_of_a_refused_one_the_last_good() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path());
        let keeper = Keeper::new(cache.clone());
        keeper.replace(vec![found("acme", "1"), found("beta", "1"), found("gone", "1")], HashSet::new());
        keeper.keep(found("acme", "2"));
        keeper.keep(found("acme", "3"));
        keeper.forget("gone".into());
        flush(&keeper).await;
        assert_eq!(on_disk(&cache), pairs([("acme", "3"), ("beta", "1")]));

        // Two lists come before the first is on disk.
        keeper.replace(vec![found("acme", "4"), found("beta", "4"), found("new", "4")], HashSet::new());
        keeper.keep(found("acme", "5"));
        keeper.forget("beta".into());
        let refused = ["acme", "beta", "new"].map(str::to_owned).into();
        keeper.replace(vec![found("other", "6")], refused);
        flush(&keeper).await;
        assert_eq!(on_disk(&cache), pairs([("acme", "5"), ("new", "4"), ("other", "6")]));
        assert_eq!(keeper.get("new").await.unwrap().text, "4");
    }

    #[tokio::test]
    async fn what_comes_while_the_disk_hangs_is_written_once_and_in_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path());
        cache.replace(&[], &HashSet::new()).unwrap();
        // The half of a file is a pipe, which takes nothing until somebody reads it.
        let pipe = folder.path().join(".acme.json.new");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let keeper = Keeper::new(cache.clone());
        keeper.keep(found("acme", "1"));
        let hangs = async {
            let mut waiting = keeper.waiting.subscribe();
            waiting.wait_for(|waiting| waiting.writing).await.unwrap();
            for number in 0..1_000 {
                keeper.keep(found("beta", &number.to_string()));
            }
            assert_eq!(keeper.waiting.borrow().tenants.len(), 1, "one document a tenant waits");
            assert!(on_disk(&cache).is_empty());
            assert_eq!(tokio::task::spawn_blocking(move || std::fs::read_to_string(pipe)).await.unwrap().unwrap(), "1");
        };
        tokio::select! {
            () = keeper.write() => unreachable!("it writes for ever"),
            () = hangs => {}
        }
        flush(&keeper).await;
    }
}
