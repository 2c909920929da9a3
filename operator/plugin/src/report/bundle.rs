//! Files on their way into a folder or a `.tar.gz`.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    path::Path,
};

use anyhow::{Context, Result};
use flate2::{Compression, write::GzEncoder};
use jiff::Timestamp;

#[derive(Debug, Default)]
pub struct Bundle(BTreeMap<String, String>);

impl Bundle {
    pub fn put(&mut self, file: &str, text: String) {
        self.0.insert(file.to_owned(), text);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// A file that ends like an archive becomes one; anything else is a folder.
    pub fn write(&self, path: &Path, now: Timestamp) -> Result<()> {
        let name = path.to_string_lossy();
        let written = match name.strip_suffix(".tar.gz").or_else(|| name.strip_suffix(".tgz")) {
            Some(_) => self.archive(path, now),
            None => self.folder(path),
        };
        written.with_context(|| format!("--to: cannot write {}", path.display()))
    }

    fn folder(&self, folder: &Path) -> Result<()> {
        for (file, text) in &self.0 {
            let path = folder.join(file);
            fs::create_dir_all(path.parent().unwrap_or(folder))?;
            fs::write(path, text)?;
        }
        Ok(())
    }

    fn archive(&self, path: &Path, now: Timestamp) -> Result<()> {
        let top = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.split('.').next());
        let top = top.filter(|top| !top.is_empty()).unwrap_or("tenantry-report");
        // What is asked for in one place must not be half there: a full disk leaves no archive that looks whole.
        let file = File::create_new(path)?;
        let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
        for (name, text) in &self.0 {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            header.set_mtime(u64::try_from(now.as_second()).unwrap_or_default());
            archive.append_data(&mut header, format!("{top}/{name}"), text.as_bytes())?;
        }
        archive.into_inner()?.finish()?.flush()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_bundle_is_an_archive_or_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let mut bundle = Bundle::default();
        bundle.put("shop/tenants.yaml", "- acme\n".into());
        let archive = folder.path().join("report.tar.gz");
        bundle.write(&archive, Timestamp::UNIX_EPOCH).unwrap();
        let mut entries = tar::Archive::new(flate2::read::GzDecoder::new(File::open(&archive).unwrap()));
        let mut entry = entries.entries().unwrap().next().unwrap().unwrap();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        assert_eq!((entry.path().unwrap().to_str().unwrap(), text.as_str()), ("report/shop/tenants.yaml", "- acme\n"));
        assert!(bundle.write(&archive, Timestamp::UNIX_EPOCH).is_err(), "nothing is overwritten");
        bundle.write(&folder.path().join("look"), Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("look/shop/tenants.yaml")).unwrap(), "- acme\n");
    }
}
