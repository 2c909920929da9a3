//! Create, update, patch, apply.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    Api, Context, Target,
    decode::{decode, typed_patch},
    prepare,
};
use crate::{
    access::{self, Attributes},
    convert, crd, object,
    patch::{Patch, apply, ownership},
    registry::Kind,
    status::{Cause, Result, Status},
    store::{Entry, Moved},
};

/// How often a patch is computed again when others write the object at the same time.
const ATTEMPTS: usize = 16;

impl Api {
    pub fn create(&self, kind: &Kind, namespace: &str, body: Value, context: &mut Context) -> Result<Arc<Entry>> {
        let mut object = decode(kind, body, context)?;
        if kind.virtual_only {
            return access::review(self, &context.user, kind, namespace, object).map(Entry::draft);
        }
        self.place(kind, namespace, &mut object)?;
        // A generated name that is taken is generated again; a given one is not.
        let generated = object::name(&object).is_empty();
        if generated {
            let prefix = object::meta(&object, "generateName").to_owned();
            if prefix.is_empty() {
                let cause = Cause::required("metadata.name", "name or generateName is required");
                return Err(Status::invalid(&kind.group, &kind.kind, "", &[cause]));
            }
            object::metadata(&mut object).insert("name".into(), json!(format!("{prefix}{}", suffix())));
        }
        let name = object::name(&object).to_owned();
        let target = Target { kind, namespace, name: &name, subresource: "" };
        if object::metadata(&mut object).contains_key("resourceVersion")
            && !object::meta(&object, "resourceVersion").is_empty()
        {
            return Err(Status::internal("resourceVersion should not be set on objects to be created"));
        }
        self.insert(target, object, context, |object, context| {
            ownership::track(kind, None, object, &context.manager(kind, "", false));
        })
    }

    /// The namespace of the path is the object's, and it must be there and stay there.
    fn place(&self, kind: &Kind, namespace: &str, object: &mut Value) -> Result<()> {
        let stated = object::meta(object, "namespace");
        if !kind.namespaced {
            if !stated.is_empty() {
                return Err(Status::bad_request("namespace may not be set on a cluster-scoped object"));
            }
            return Ok(());
        }
        if !stated.is_empty() && stated != namespace {
            let why = "the namespace of the provided object does not match the namespace sent on the request";
            return Err(Status::bad_request(why));
        }
        object::metadata(object).insert("namespace".into(), json!(namespace));
        let home = self.store.get("/namespaces", &(String::new(), namespace.to_owned()));
        let home = home.ok_or_else(|| Status::not_found("", "namespaces", namespace))?;
        if object::deleting(&home.value) {
            let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
            return Err(Status::forbidden(&kind.group, &kind.plural, object::name(object), &why));
        }
        Ok(())
    }

    fn insert(
        &self,
        target: Target<'_>,
        mut object: Value,
        context: &mut Context,
        own: impl FnOnce(&mut Value, &Context),
    ) -> Result<Arc<Entry>> {
        let kind = target.kind;
        let exists = || Status::already_exists(&kind.group, &kind.plural, target.name);
        if self.store.get(&kind.storage, &target.key()).is_some() {
            return Err(exists());
        }
        prepare::fresh(kind, &mut object);
        self.finish(target, None, &mut object, context)?;
        own(&mut object, context);
        if context.dry_run {
            return Ok(Entry::draft(object));
        }
        self.keep(target, None, object, false).map_err(|_moved| exists())
    }

    /// The one way to the store, in the version in which the kind is kept.
    pub fn keep(
        &self,
        target: Target<'_>,
        expected: Option<u64>,
        mut object: Value,
        delete: bool,
    ) -> Result<Arc<Entry>, Moved> {
        convert::to_storage(target.kind, &mut object);
        let defines = target.kind.storage == crd::STORAGE;
        let before = if defines { self.store.get(crd::STORAGE, &target.key()) } else { None };
        let entry = self.store.commit(&target.kind.storage, &target.key(), expected, object, delete)?;
        // A definition's kinds are there when its write is answered. Another definition ends the watches of the one before.
        if defines && (delete || before.is_none_or(|before| before.value["spec"] != entry.value["spec"])) {
            let kinds = if delete { Vec::new() } else { crd::kinds(&entry.value) };
            self.registry.replace(&crd::storage(&entry.value), kinds);
        }
        Ok(entry)
    }

    pub fn update(&self, target: Target<'_>, body: Value, context: &mut Context) -> Result<Arc<Entry>> {
        let kind = target.kind;
        let object = decode(kind, body, context)?;
        same_identity(target, &object)?;
        let version = object::meta(&object, "resourceVersion").to_owned();
        if version.is_empty() && kind.custom {
            let cause = Cause::invalid("metadata.resourceVersion", "0", "must be specified for an update");
            return Err(Status::invalid(&kind.group, &kind.kind, target.name, &[cause]));
        }
        self.change(target, context, |_live, _context| Ok(object.clone()))
    }

    pub fn patch(&self, target: Target<'_>, patch: &Patch, context: &mut Context) -> Result<Arc<Entry>> {
        self.change(target, context, |live, context| {
            let patched = patch.apply(target.kind, live)?;
            let decoded = decode(target.kind, patched, context).map_err(|mut error| {
                if let Some((_, why)) = error.message.split_once("strict decoding error") {
                    let cause = Cause::invalid("patch", "\"the patch\"", &format!("strict decoding error{why}"));
                    error = Status::invalid("", "", "", &[cause]);
                }
                error
            })?;
            same_identity(target, &decoded)?;
            Ok(decoded)
        })
    }

    /// The common path of everything that changes an object: from the live one to a commit, again if it moved meanwhile.
    pub(super) fn change(
        &self,
        target: Target<'_>,
        context: &mut Context,
        next: impl Fn(&Value, &mut Context) -> Result<Value>,
    ) -> Result<Arc<Entry>> {
        let kind = target.kind;
        for _ in 0..ATTEMPTS {
            let entry = self.get(target)?;
            let live = convert::value(kind, &entry);
            context.warnings.clear();
            let mut new = next(&live, context)?;
            check_version(target, &entry, &new)?;
            prepare::changed(kind, target.subresource, &live, &mut new);
            self.finish(target, Some(&live), &mut new, context)?;
            ownership::track(kind, Some(&live), &mut new, &context.manager(kind, target.subresource, false));
            if let Some(done) = self.replace(target, &entry, &live, new, context) {
                return Ok(done);
            }
        }
        Err(target.modified())
    }

    /// Writes if there is something to write; `None` when the object moved.
    fn replace(
        &self,
        target: Target<'_>,
        entry: &Arc<Entry>,
        live: &Value,
        new: Value,
        context: &Context,
    ) -> Option<Arc<Entry>> {
        if new == *live {
            return Some(entry.clone());
        }
        if context.dry_run {
            return Some(Entry::draft(new));
        }
        let delete = object::deleting(&new) && super::delete::nothing_holds(target.kind, &new);
        self.keep(target, Some(entry.revision), new, delete).ok()
    }

    /// Server-side apply: creates what is not there. The flag says whether it did.
    pub fn apply(&self, target: Target<'_>, config: &Value, context: &mut Context) -> Result<(Arc<Entry>, bool)> {
        let kind = target.kind;
        if config["metadata"].get("managedFields").is_some_and(|list| !list.is_null()) {
            return Err(Status::bad_request("metadata.managedFields must be nil"));
        }
        typed_patch(kind, target.namespace, target.name, config)?;
        let mut config = decode(kind, config.clone(), context)?;
        if object::name(&config).is_empty() {
            object::metadata(&mut config).insert("name".into(), json!(target.name));
        }
        same_identity(target, &config)?;
        let manager = context.manager(kind, target.subresource, true);
        for _ in 0..ATTEMPTS {
            let Some(entry) = self.store.get(&kind.storage, &target.key()) else {
                if !target.subresource.is_empty() {
                    return Err(target.not_found());
                }
                // Whoever patches something into being creates it.
                let asked = Attributes::resource("create", &kind.group, &kind.plural, target.namespace, target.name);
                self.authorize(&context.user, &asked)?;
                self.audit.note(&context.user, &asked, 201);
                let mut object = apply::apply(kind, None, &config, &manager, context.force)?;
                self.place(kind, target.namespace, &mut object)?;
                if !object::meta(&object, "resourceVersion").is_empty() {
                    return Err(target.not_found());
                }
                match self.insert(target, object, context, |_, _| {}) {
                    Err(error) if error.reason == "AlreadyExists" => continue,
                    done => return done.map(|entry| (entry, true)),
                }
            };
            let live = convert::value(kind, &entry);
            check_version(target, &entry, &config)?;
            let mut new = apply::apply(kind, Some(&live), &config, &manager, context.force)?;
            prepare::changed(kind, target.subresource, &live, &mut new);
            self.finish(target, Some(&live), &mut new, context)?;
            if let Some(done) = self.replace(target, &entry, &live, new, context) {
                return Ok((done, false));
            }
        }
        Err(target.modified())
    }
}

/// A body that says another name than the path is a mistake.
fn same_identity(target: Target<'_>, object: &Value) -> Result<()> {
    let (name, namespace) = (object::name(object), object::meta(object, "namespace"));
    if name != target.name {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            target.name
        )));
    }
    if !namespace.is_empty() && namespace != target.namespace {
        let why = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Status::bad_request(why));
    }
    Ok(())
}

/// Optimistic concurrency: whoever names a version (or a uid) means that one.
fn check_version(target: Target<'_>, entry: &Entry, new: &Value) -> Result<()> {
    let version = object::meta(new, "resourceVersion");
    if !version.is_empty() && version != entry.revision.to_string() {
        return Err(target.modified());
    }
    let (uid, live) = (object::uid(new), object::uid(&entry.value));
    if !uid.is_empty() && uid != live {
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {live}");
        return Err(Status::conflict(&target.kind.group, &target.kind.plural, target.name, &why));
    }
    Ok(())
}

/// Five characters without vowels, as `generateName` has them.
fn suffix() -> String {
    const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    uuid::Uuid::new_v4().as_bytes()[..5]
        .iter()
        .map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]))
        .collect()
}
