//! Objects on disk: a file of lines, one per write, that is written anew when most of it is history.
//!
//! Writing it anew takes as long as there are many objects, half a second for ten thousand tenants, and nobody waits for it:
//! a thread writes what is alive beside the file, the lines that come meanwhile are written to the file and remembered, and
//! with the first write after the thread's end they are added and the new file takes the old one's place.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
};

use serde::Deserialize;
use serde_json::Value;

use super::{Entry, Key};

/// After so many bytes the file is written anew: leases alone are renewed every second, for days.
const REWRITE_AFTER: usize = 64 * 1024 * 1024;

/// One write: revision, storage, key and value; a deletion has the value null.
#[derive(Deserialize)]
struct Line {
    r: u64,
    s: String,
    k: Key,
    v: Value,
}

/// What a deletion leaves.
pub const NOTHING: &[u8] = b"null";

/// Everything that is alive, at one moment.
#[derive(Debug)]
pub struct Alive {
    pub objects: Vec<(Arc<str>, Arc<Key>, Arc<Entry>)>,
    /// The counter must not go back, even when the newest write was a deletion.
    pub revision: u64,
}

#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
    written: usize,
    rewrite_after: usize,
    rewriting: Option<Rewriting>,
}

/// The file is being written anew.
#[derive(Debug)]
struct Rewriting {
    thread: JoinHandle<io::Result<()>>,
    /// The lines that came since it began.
    since: Vec<u8>,
}

/// Tells every line of the file, if there is one, and returns the newest revision in it.
pub fn read(path: &Path, mut tell: impl FnMut(u64, &str, Key, Option<Value>)) -> io::Result<u64> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut newest = 0;
    for line in BufReader::new(file).lines() {
        let line = line?;
        // A line cut short by a crash was never acknowledged.
        let Ok(Line { r, s, k, v }) = serde_json::from_str::<Line>(&line) else { break };
        newest = newest.max(r);
        if !s.is_empty() {
            tell(r, &s, k, Some(v).filter(|value| !value.is_null()));
        }
    }
    Ok(newest)
}

/// The value is JSON already: the one that readers and watchers get.
fn line(revision: u64, storage: &str, key: &Key, value: &[u8]) -> io::Result<Vec<u8>> {
    let (storage, key) = (serde_json::to_string(storage)?, serde_json::to_string(key)?);
    let mut text = format!("{{\"r\":{revision},\"s\":{storage},\"k\":{key},\"v\":").into_bytes();
    text.extend_from_slice(value);
    text.extend_from_slice(b"}\n");
    Ok(text)
}

impl Alive {
    fn write(&self, path: &Path) -> io::Result<()> {
        let mut out = BufWriter::new(File::create(path)?);
        for (storage, key, entry) in &self.objects {
            out.write_all(&line(entry.revision, storage, key, &entry.json())?)?;
        }
        out.write_all(&line(self.revision, "", &Key::default(), NOTHING)?)?;
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
    }
}

impl Log {
    /// Begins with a file of what is alive: it takes the old one's place when it is whole, so that a crash leaves one of
    /// the two.
    pub fn create(path: PathBuf, alive: &Alive) -> io::Result<Self> {
        let fresh = path.with_extension("new");
        alive.write(&fresh)?;
        fs::rename(fresh, &path)?;
        let file = open(&path)?;
        Ok(Self { path, file, written: 0, rewrite_after: REWRITE_AFTER, rewriting: None })
    }

    /// Adds a write; `alive` is what is alive after it.
    pub fn append(
        &mut self,
        revision: u64,
        storage: &str,
        key: &Key,
        value: &[u8],
        alive: impl FnOnce() -> Alive,
    ) -> io::Result<()> {
        let text = line(revision, storage, key, value)?;
        self.file.write_all(&text)?;
        self.written += text.len();
        match &mut self.rewriting {
            Some(rewriting) => {
                rewriting.since.extend_from_slice(&text);
                if rewriting.thread.is_finished() {
                    self.take_over()?;
                }
            }
            None if self.written > self.rewrite_after => {
                let (alive, path) = (alive(), self.rewritten());
                let thread = thread::Builder::new().name("rewrite".into()).spawn(move || alive.write(&path))?;
                self.rewriting = Some(Rewriting { thread, since: Vec::new() });
            }
            None => {}
        }
        Ok(())
    }

    /// The new file, with the lines that came meanwhile, takes the old one's place. Where it could not be written, the old
    /// one, which has everything, goes on for as long again.
    fn take_over(&mut self) -> io::Result<()> {
        let Some(Rewriting { thread, since }) = self.rewriting.take() else { return Ok(()) };
        self.written = since.len();
        thread.join().map_err(|_| io::Error::other("the thread that writes it anew panicked"))??;
        let fresh = self.rewritten();
        let mut file = open(&fresh)?;
        file.write_all(&since)?;
        fs::rename(fresh, &self.path)?;
        self.file = file;
        Ok(())
    }

    /// Where it is written anew.
    fn rewritten(&self) -> PathBuf {
        self.path.with_extension("rewritten")
    }
}

/// Nobody else may find a thread of ours at work in this folder.
impl Drop for Log {
    fn drop(&mut self) {
        if let Some(Rewriting { thread, .. }) = self.rewriting.take() {
            // Whatever became of it: the file has everything.
            let _ = thread.join();
            let _ = fs::remove_file(self.rewritten());
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).open(path)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use serde_json::json;

    use super::*;

    fn key(name: &str) -> Key {
        ("shop".to_owned(), name.to_owned())
    }

    fn alive(objects: &[(&str, u64)], revision: u64) -> Alive {
        let objects = objects.iter().map(|(name, revision)| {
            let value = json!({ "written": revision });
            ("/things".into(), key(name).into(), Entry::new(value, *revision))
        });
        Alive { objects: objects.collect(), revision }
    }

    /// What a start finds: the newest revision, and each object's.
    fn found(path: &Path) -> (u64, Vec<(String, Value)>) {
        let mut objects = std::collections::BTreeMap::new();
        let newest = read(path, |_, _, (_, name), value| {
            match value {
                Some(value) => objects.insert(name, value["written"].clone()),
                None => objects.remove(&name),
            };
        });
        (newest.unwrap(), objects.into_iter().collect())
    }

    fn append(log: &mut Log, name: &str, revision: u64, alive: impl FnOnce() -> Alive) {
        log.append(revision, "/things", &key(name), json!({ "written": revision }).to_string().as_bytes(), alive)
            .unwrap();
    }

    fn wait(log: &Log) {
        while !log.rewriting.as_ref().unwrap().thread.is_finished() {
            thread::yield_now();
        }
    }

    #[test]
    fn a_file_that_is_written_anew_has_what_was_alive_and_what_came_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("objects.jsonl");
        let mut log = Log::create(path.clone(), &alive(&[], 1)).unwrap();
        log.rewrite_after = 1;
        append(&mut log, "a", 2, || alive(&[("a", 2), ("b", 1)], 2));
        log.append(3, "/things", &key("b"), NOTHING, || unreachable!("it is being written anew")).unwrap();
        assert_eq!(found(&path).1, [("a".into(), json!(2))], "the old file has everything meanwhile");
        wait(&log);
        append(&mut log, "c", 4, || unreachable!("it is being written anew"));
        assert!(log.rewriting.is_none() && !log.rewritten().exists());
        assert_eq!(found(&path), (4, vec![("a".into(), json!(2)), ("c".into(), json!(4))]));
        log.rewrite_after = usize::MAX;
        append(&mut log, "c", 5, || unreachable!("there is no reason"));
        assert_eq!(found(&path), (5, vec![("a".into(), json!(2)), ("c".into(), json!(5))]));
    }

    #[test]
    fn no_write_waits_until_the_file_is_written_anew_and_none_is_lost_if_it_cannot_be() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("objects.jsonl");
        let mut log = Log::create(path.clone(), &alive(&[], 1)).unwrap();
        log.rewrite_after = 1;
        // A pipe takes nothing until somebody reads it, and cannot be synced to a disk.
        let pipe = log.rewritten();
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for revision in 2..100 {
            append(&mut log, "a", revision, || alive(&[("a", 2)], 2));
        }
        assert_eq!(found(&path), (99, vec![("a".into(), json!(99))]));
        assert!(fs::read_to_string(&pipe).unwrap().contains("things"));
        wait(&log);
        let text = json!({ "written": 100 }).to_string();
        let failed =
            log.append(100, "/things", &key("a"), text.as_bytes(), || unreachable!("it is being written anew"));
        assert!(failed.is_err(), "it is told");
        assert_eq!(found(&path), (100, vec![("a".into(), json!(100))]));
    }
}
