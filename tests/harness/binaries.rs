//! The programs under test, as Cargo builds them: they run as processes, and the harness links none of their code.

use std::{
    env,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, bail};
use tokio::{process::Command, sync::OnceCell};

/// Set by `cargo dev test`, which has just built everything: its tests need not ask Cargo again.
pub const BUILT_VARIABLE: &str = "TENANTRY_BINARIES_ARE_BUILT";

/// What a world starts.
#[derive(Debug, Clone)]
pub struct Binaries {
    pub operator: PathBuf,
    pub api: PathBuf,
    /// The API with a fault.
    pub faulty: PathBuf,
}

impl Binaries {
    /// Built first, once per process; Cargo does nothing where they are current.
    pub async fn built() -> Result<Self> {
        static BUILT: OnceCell<Binaries> = OnceCell::const_new();
        BUILT.get_or_try_init(Self::build).await.cloned()
    }

    async fn build() -> Result<Self> {
        let folder = target_folder()?;
        let program = |name: &str| folder.join(name);
        let (operator, api, faulty) =
            (program("tenantry-operator"), program("tenantry-api"), program("tenantry-api-faulty"));
        let binaries = Self { operator, api, faulty };
        if env::var_os(BUILT_VARIABLE).is_none() {
            cargo_build(&folder).await?;
        }
        for path in [&binaries.operator, &binaries.api, &binaries.faulty, &folder.join("kubectl-tenantry")] {
            if !path.is_file() {
                bail!("cargo built no {}", path.display());
            }
        }
        Ok(binaries)
    }
}

async fn cargo_build(folder: &Path) -> Result<()> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--workspace", "--bins"]).current_dir(repository());
    command.arg("--target-dir").arg(folder.parent().context("a target folder has a parent")?);
    if folder.ends_with("release") {
        command.arg("--release");
    }
    let status = command.stdin(Stdio::null()).status().await.context("cannot run cargo")?;
    if !status.success() {
        bail!("the operator, the API server and the plugin do not build");
    }
    Ok(())
}

/// `target/debug` of the running executable, be it `target/debug/dev` or `target/debug/deps/e2e-…`.
pub fn target_folder() -> Result<PathBuf> {
    let executable = env::current_exe()?;
    let folder = executable.parent().context("an executable is in a folder")?;
    Ok(if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder }.to_owned())
}

/// The checkout.
pub fn repository() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
}
