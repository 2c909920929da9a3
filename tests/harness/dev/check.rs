//! `cargo dev check`: all of it, whatever fails first.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use anyhow::{Result, bail};
use harness::{binaries::repository, process::find_program};

use super::{
    generate::{self, Mode},
    run,
};

/// Dependencies that are not wanted and ones that may be there twice, each with its reason; `cargo deny`'s own format.
const POLICY: &str = ".cargo/deny.toml";

pub async fn run() -> Result<()> {
    let mut failed = Vec::new();
    let mut step = |name: &'static str, result: Result<()>| {
        match &result {
            Ok(()) => println!("ok      {name}"),
            Err(error) => println!("FAILED  {name}: {error:#}"),
        }
        if result.is_err() {
            failed.push(name);
        }
    };
    step("formatting", run::pass(run::cargo("fmt --all --check")).await);
    step("dependency policy", dependencies().await);
    step("lints", run::pass(run::cargo("clippy --workspace --all-targets --quiet -- --deny warnings")).await);
    step("everything builds", generate::build().await);
    step("CRDs and examples are current", generate::definitions(Mode::Check).await);
    step("prepared queries are current", generate::queries(Mode::Check).await);
    step("OpenAPI document is current", generate::openapi(Mode::Check).await);
    step("chart and manifests are current", generate::chart(Mode::Check).await);
    if !failed.is_empty() {
        bail!("{} of the checks failed: {}", failed.len(), failed.join(", "));
    }
    Ok(())
}

async fn dependencies() -> Result<()> {
    if find_program("cargo-deny", &[]).is_some() {
        return run::pass(run::cargo(&format!("deny --config {POLICY} check bans"))).await;
    }
    let tree = "tree --workspace --locked --edges normal,build,dev --prefix none --no-dedupe --format {p}";
    let tree = run::output(run::cargo(tree)).await?;
    let policy = fs::read_to_string(repository().join(POLICY))?;
    let problems = violations(&tree, &policy);
    if !problems.is_empty() {
        bail!("{}", problems.join("; "));
    }
    Ok(())
}

fn violations(tree: &str, policy: &str) -> Vec<String> {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in tree.lines() {
        let mut words = line.split_whitespace();
        if let (Some(name), Some(version)) = (words.next(), words.next()) {
            versions.entry(name).or_default().insert(version);
        }
    }
    let (denied, skipped) = (entries(policy, "deny"), entries(policy, "skip"));
    let unwanted = denied.iter().filter(|name| versions.contains_key(**name));
    let unwanted =
        unwanted.map(|name| format!("{name} is not wanted here (cargo tree --invert {name} shows who brings it)"));
    let doubled = versions.iter().filter(|(name, versions)| versions.len() > 1 && !skipped.contains(*name));
    let doubled = doubled.map(|(name, versions)| {
        let versions: Vec<_> = versions.iter().copied().collect();
        format!("{name} is there as {}; {POLICY} must say why", versions.join(" and "))
    });
    unwanted.chain(doubled).collect()
}

/// The crates of one list in the policy: `{ crate = "name", reason = "…" },` one to a line.
fn entries<'a>(policy: &'a str, list: &str) -> BTreeSet<&'a str> {
    let lines = policy.lines().skip_while(|line| *line != format!("{list} = [")).skip(1);
    let lines = lines.take_while(|line| *line != "]");
    lines.filter_map(|line| line.split("crate = \"").nth(1)?.split(['"', '@']).next()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "[bans]\ndeny = [\n    { crate = \"ring\", reason = \"one TLS stack\" },\n]\n\
                          skip = [\n    { crate = \"old@1\", reason = \"waits for x\" },\n]\n";

    #[test]
    fn an_unwanted_crate_and_an_unexplained_double_are_named() {
        let problems = violations("ring v0.17.0\nold v1.0.0\nold v2.0.0\ntwice v1.0.0\ntwice v2.0.0\n", POLICY);
        assert_eq!(problems.len(), 2);
        assert!(problems[0].starts_with("ring is not wanted"));
        assert!(problems[1].starts_with("twice is there as v1.0.0 and v2.0.0"));
    }
}
