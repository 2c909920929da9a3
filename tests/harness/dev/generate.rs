//! What is made from something else and committed: written, or compared with what is there.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use harness::{
    binaries::{repository, target_folder},
    postgres::{Durability, Postgres},
    workdir::Workdir,
};
use sqlx::{Connection, PgConnection};

use super::{run, setup};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Write,
    /// Changes nothing; an error where something is not current.
    Check,
}

pub async fn run(mode: Mode) -> Result<()> {
    // In the order of dependence: the API compiles with its prepared queries, the chart holds copies of the CRDs.
    queries(mode).await?;
    build().await?;
    definitions(mode).await?;
    openapi(mode).await?;
    chart(mode).await
}

/// Everything at once: with one choice of packages there is one choice of their dependencies' features.
pub async fn build() -> Result<()> {
    run::pass(run::cargo("build --workspace --all-targets")).await
}

/// CRDs and examples, from the Rust types. Needs [`build`].
pub async fn definitions(mode: Mode) -> Result<()> {
    let mut command = run::program(target_folder()?.join("crdgen"));
    if mode == Mode::Check {
        command.arg("--check");
    }
    run::pass(command).await
}

/// The OpenAPI document, from the routes. Needs [`build`].
pub async fn openapi(mode: Mode) -> Result<()> {
    let mut command = run::program(target_folder()?.join("tenantry-api"));
    command.arg("openapi");
    let document = run::output(command).await?;
    write_or_compare(mode, &repository().join("api-server/openapi.json"), &document)
}

/// CRD copies in the chart, the rendered manifests, the values table.
pub async fn chart(mode: Mode) -> Result<()> {
    setup::ensure(&[setup::PYTHON, setup::KUBECTL]).await?;
    let mut command = run::program("tests/chart/run.sh");
    command.arg("render");
    if mode == Mode::Check {
        command.arg("--check");
    }
    run::pass(command).await
}

/// `.sqlx`: what PostgreSQL says about each query of the API, asked on a freshly migrated private server.
pub async fn queries(mode: Mode) -> Result<()> {
    setup::ensure(&[setup::POSTGRES]).await?;
    let package = repository().join("api-server");
    let folder = Workdir::temporary()?;
    let mut postgres = Postgres::start(&folder.join("postgres"), Durability::None).await?;
    let url = postgres.database("prepare").await?;
    migrate(&package.join("migrations"), url.as_str()).await?;

    let fresh = folder.join("sqlx");
    fs::create_dir_all(&fresh)?;
    // The macros write while they are expanded, so the crate must be compiled anew.
    let lib = fs::File::options().append(true).open(package.join("src/lib.rs"))?;
    lib.set_modified(std::time::SystemTime::now())?;
    let mut compile = run::cargo("check --quiet --workspace --all-targets");
    compile.env("SQLX_OFFLINE", "false").env("DATABASE_URL", url.as_str()).env("SQLX_OFFLINE_DIR", &fresh);
    let compiled = run::pass(compile).await;
    postgres.stop().await?;
    compiled?;

    let (wanted, committed) = (read_all(&fresh)?, read_all(&package.join(".sqlx"))?);
    if wanted == committed {
        return Ok(());
    }
    if mode == Mode::Check {
        bail!("api-server/.sqlx is not current: cargo dev gen");
    }
    let target = package.join(".sqlx");
    fs::create_dir_all(&target)?;
    for name in committed.keys().filter(|name| !wanted.contains_key(*name)) {
        fs::remove_file(target.join(name))?;
    }
    for (name, content) in &wanted {
        fs::write(target.join(name), content)?;
    }
    println!("wrote {} prepared queries to api-server/.sqlx", wanted.len());
    Ok(())
}

async fn migrate(migrations: &Path, url: &str) -> Result<()> {
    let migrator = sqlx::migrate::Migrator::new(migrations).await.context("the migrations cannot be read")?;
    let mut connection = PgConnection::connect(url).await?;
    migrator.run(&mut connection).await.context("the migrations do not run on an empty database")?;
    Ok(())
}

fn read_all(folder: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        files.insert(entry.file_name().into(), fs::read(entry.path())?);
    }
    Ok(files)
}

fn write_or_compare(mode: Mode, path: &Path, content: &str) -> Result<()> {
    let current = fs::read_to_string(path).unwrap_or_default();
    if current == content {
        return Ok(());
    }
    if mode == Mode::Check {
        bail!("{} is not current: cargo dev gen", path.strip_prefix(repository()).unwrap_or(path).display());
    }
    fs::write(path, content)?;
    println!("wrote {}", path.display());
    Ok(())
}
