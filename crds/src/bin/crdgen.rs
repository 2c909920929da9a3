//! Writes the files that are made from the types; with `--check` only says which of the committed ones are stale.

use std::{env, fs, path::Path, process::ExitCode};

use anyhow::{Context, Result, bail};

fn main() -> Result<ExitCode> {
    let check = match env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => bail!("usage: crdgen [--check]"),
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the crate lies in the repository")?;
    let mut stale = 0;
    for file in crds::generated::files()? {
        let path = root.join(&file.path);
        if fs::read_to_string(&path).is_ok_and(|committed| committed == file.content) {
            continue;
        }
        stale += 1;
        if check {
            eprintln!(
                "{} is not what the types say; run `cargo run -p crds --bin crdgen`",
                file.path.display()
            );
        } else {
            fs::create_dir_all(path.parent().context("a file lies in a folder")?)?;
            fs::write(&path, &file.content).with_context(|| format!("write {}", path.display()))?;
            println!("{}", file.path.display());
        }
    }
    Ok(ExitCode::from(u8::from(check && stale > 0)))
}
