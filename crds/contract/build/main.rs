//! Tells the crate which commit it is built from, for `--version` of every binary: this crate is where they all read it.
//!
//! `TENANTRY_COMMIT` counts first: where images are built there is no git to ask. Without it a release build asks git. A
//! development build does not: each commit would have the whole workspace compiled anew for the sake of one word.

mod commit;

use std::{env, path::Path};

fn main() {
    println!("cargo::rerun-if-env-changed=TENANTRY_COMMIT");
    println!("cargo::rerun-if-changed=build");
    let told = env::var("TENANTRY_COMMIT").ok().filter(|commit| !commit.is_empty());
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let commit = match told {
        None if env::var("PROFILE").is_ok_and(|profile| profile == "release") => commit::asked(&workspace),
        told => told.map(|name| commit::Commit { name, watched: Vec::new() }),
    };
    if let Some(commit::Commit { name, watched }) = commit {
        println!("cargo::rustc-env=TENANTRY_COMMIT={name}");
        for path in watched {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
}
