//! What a machine must have: installed with apt-get where we may, else named, with the command that installs it.

use anyhow::{Result, bail};
use harness::{
    kubectl,
    node::names,
    postgres,
    process::{am_root, find_program},
    prometheus, redis,
};

use super::run;

/// Something that must be on the machine.
#[derive(Clone, Copy)]
pub struct Need {
    what: &'static str,
    /// Debian packages; the first that exists there is taken.
    packages: &'static [&'static str],
    present: fn() -> bool,
}

pub const POSTGRES: Need = Need { what: "PostgreSQL", packages: &["postgresql"], present: postgres::available };
pub const REDIS: Need =
    Need { what: "Redis", packages: &["redis-server", "valkey-server"], present: || redis::available().is_some() };
pub const NAMES: Need = Need {
    what: "nss_wrapper (Services by name)",
    packages: &["libnss-wrapper"],
    present: || names::library().is_some(),
};
pub const PROMETHEUS: Need =
    Need { what: "Prometheus", packages: &["prometheus"], present: || prometheus::program().is_some() };
pub const KUBECTL: Need =
    Need { what: "kubectl", packages: &["kubectl", "kubernetes-client"], present: || kubectl::program().is_ok() };
pub const PYTHON: Need = Need {
    what: "Python 3 with venv",
    packages: &["python3-venv"],
    present: || find_program("python3", &[]).is_some(),
};
pub const WRK: Need = Need { what: "wrk", packages: &["wrk"], present: || find_program("wrk", &[]).is_some() };
pub const NPM: Need = Need {
    what: "Node.js with npm",
    packages: &["npm"],
    present: || find_program("npm", &[]).is_some() && find_program("node", &[]).is_some(),
};
pub const CHROMIUM: Need =
    Need { what: "Chromium", packages: &["chromium"], present: || find_program("chromium", &[]).is_some() };

/// Makes them present, or says exactly what to do.
pub async fn ensure(needs: &[Need]) -> Result<()> {
    let missing: Vec<_> = needs.iter().filter(|need| !(need.present)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = missing.iter().map(|need| need.what).collect();
    let packages: Vec<_> = missing.iter().map(|need| need.packages[0]).collect();
    let command = format!("apt-get install --yes --no-install-recommends {}", packages.join(" "));
    if !am_root() || find_program("apt-get", &[]).is_none() {
        bail!("this machine has no {}; install with: sudo {command}", names.join(" and no "));
    }
    println!("Installing {} with apt-get (missing on this machine)", names.join(", "));
    run::pass(apt_get("update --quiet=2")).await?;
    for need in missing {
        for package in need.packages {
            let install = format!("install --yes --quiet=2 --no-install-recommends {package}");
            if run::pass(apt_get(&install)).await.is_ok() && (need.present)() {
                break;
            }
        }
        if !(need.present)() {
            bail!("{} is still missing: none of the packages {} brought it", need.what, need.packages.join(", "));
        }
    }
    Ok(())
}

fn apt_get(arguments: &str) -> tokio::process::Command {
    let mut command = run::program("apt-get");
    command.args(arguments.split_whitespace()).env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// As [`ensure`], for what makes life easier but is not needed.
pub async fn wish(need: Need) {
    if let Err(error) = ensure(&[need]).await {
        println!("note: {error:#}");
    }
}
