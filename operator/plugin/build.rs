//! Which commit this is, for `version` and support bundles: `TENANTRY_COMMIT` where the builder says it, else git's word.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=TENANTRY_COMMIT");
    println!("cargo::rerun-if-changed=../../.git/HEAD");
    let told = std::env::var("TENANTRY_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit = told.or_else(git).unwrap_or_else(|| "unknown".into());
    println!("cargo::rustc-env=TENANTRY_COMMIT={commit}");
}

fn git() -> Option<String> {
    let output = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output().ok()?;
    let commit = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !commit.is_empty()).then_some(commit)
}
