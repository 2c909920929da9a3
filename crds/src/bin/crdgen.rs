//! Writes the files that are made from the types; with `--check` only says which of the committed ones are stale.
//!
//! A definition that refuses what the committed one accepts is written only with `--breaking`.

use std::{env, fs, path::Path, process::ExitCode};

use anyhow::{Context, Result, ensure};
use crds::{all_crds, compat, generated};

fn main() -> Result<ExitCode> {
    let mode = env::args().nth(1);
    let mode = mode.as_deref();
    ensure!(matches!(mode, None | Some("--check" | "--breaking")), "usage: crdgen [--check | --breaking]");
    let check = mode == Some("--check");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the crate lies in the repository")?;
    if mode.is_none() {
        let breaks = breaks(root)?;
        ensure!(
            breaks.is_empty(),
            "objects that people have would be refused or lose a field:\n  {}\nIf nobody can have them, pass --breaking.",
            breaks.join("\n  ")
        );
    }
    let mut stale = 0;
    for file in generated::files()? {
        let path = root.join(&file.path);
        if fs::read_to_string(&path).is_ok_and(|committed| committed == file.content) {
            continue;
        }
        stale += 1;
        if check {
            eprintln!("{} is not what the types say; run `cargo run -p crds --bin crdgen`", file.path.display());
        } else {
            fs::create_dir_all(path.parent().context("a file lies in a folder")?)?;
            fs::write(&path, &file.content).with_context(|| format!("write {}", path.display()))?;
            println!("{}", file.path.display());
        }
    }
    Ok(ExitCode::from(u8::from(check && stale > 0)))
}

/// What the types would break of the definitions as they are on disk.
fn breaks(root: &Path) -> Result<Vec<String>> {
    let mut breaks = Vec::new();
    for new in all_crds() {
        let path = root.join(generated::definition_path(&new));
        if let Ok(text) = fs::read_to_string(&path) {
            let old = serde_saphyr::from_str(&text).with_context(|| format!("read {}", path.display()))?;
            breaks.extend(compat::breaks(&old, &new));
        }
    }
    Ok(breaks)
}
