//! Objects on disk: a file of lines, one per write, that is written anew when most of it is history.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::Value;

use super::Key;

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

#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
    written: usize,
}

/// How everything that is alive is told, line by line.
pub type Each<'a> = &'a mut dyn FnMut(u64, &str, &Key, &[u8]) -> io::Result<()>;

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
fn write(out: &mut impl Write, revision: u64, storage: &str, key: &Key, value: &[u8]) -> io::Result<usize> {
    let (storage, key) = (serde_json::to_string(storage)?, serde_json::to_string(key)?);
    let mut text = format!("{{\"r\":{revision},\"s\":{storage},\"k\":{key},\"v\":").into_bytes();
    text.extend_from_slice(value);
    text.extend_from_slice(b"}\n");
    out.write_all(&text)?;
    Ok(text.len())
}

impl Log {
    /// Writes only what is alive beside the old file, then takes its place: a crash leaves one of the two whole.
    pub fn create(path: PathBuf, each: impl Fn(Each<'_>) -> io::Result<()>) -> io::Result<Self> {
        let fresh = path.with_extension("new");
        let mut out = BufWriter::new(File::create(&fresh)?);
        each(&mut |revision, storage, key, value| write(&mut out, revision, storage, key, value).map(drop))?;
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        std::fs::rename(fresh, &path)?;
        let file = OpenOptions::new().append(true).open(&path)?;
        Ok(Self { path, file, written: 0 })
    }

    pub fn append(
        &mut self,
        revision: u64,
        storage: &str,
        key: &Key,
        value: &[u8],
        each: impl Fn(Each<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        self.written += write(&mut self.file, revision, storage, key, value)?;
        if self.written > REWRITE_AFTER {
            *self = Self::create(self.path.clone(), each)?;
        }
        Ok(())
    }
}
