//! Who asked for what, and what came of it: each kind of request once, with how often it came.
//!
//! It answers which rights somebody needs, so it keeps what RBAC looks at and no bodies, names or times.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Write as _},
    path::Path,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::access::{Attributes, User};

/// One kind of request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Record {
    pub user: String,
    pub verb: String,
    pub group: String,
    /// With its subresource: `tenants/status`. Empty for a path that is no resource.
    pub resource: String,
    pub namespace: String,
    /// Of Leases only, which alone are granted by name: elsewhere names would be without number.
    pub name: String,
    pub path: String,
    pub code: u16,
}

#[derive(Debug, Default)]
pub struct Audit {
    seen: Mutex<BTreeMap<Record, u64>>,
    file: Option<Mutex<File>>,
}

impl Audit {
    /// With a file, each kind of request is a line there as soon as it is first seen: what is killed has told all the same.
    pub fn open(path: Option<&Path>) -> io::Result<Self> {
        let open = |path: &Path| {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            OpenOptions::new().create(true).append(true).open(path).map(Mutex::new)
        };
        Ok(Self { seen: Mutex::default(), file: path.map(open).transpose()? })
    }

    pub fn note(&self, user: &User, asked: &Attributes, code: u16) {
        let record = Record {
            user: user.name.clone(),
            verb: asked.verb.clone(),
            group: asked.group.clone(),
            resource: asked.combined(),
            namespace: asked.namespace.clone(),
            name: if asked.resource == "leases" { asked.name.clone() } else { String::new() },
            path: asked.path.clone(),
            code,
        };
        let mut seen = self.seen.lock();
        if let Some(count) = seen.get_mut(&record) {
            *count += 1;
            return;
        }
        if let Some(file) = &self.file
            && let Err(error) =
                serde_json::to_string(&record).map_err(io::Error::from).and_then(|line| writeln!(file.lock(), "{line}"))
        {
            tracing::error!(%error, "the audit record could not be written");
        }
        seen.insert(record, 1);
    }

    /// Everything seen so far.
    pub fn records(&self) -> Vec<(Record, u64)> {
        self.seen.lock().iter().map(|(record, count)| (record.clone(), *count)).collect()
    }
}
