//! The commit that a working tree stands at, as git says.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// What a binary is made from; a change elsewhere does not make it another.
const SOURCES: [&str; 6] = [".cargo", "Cargo.toml", "Cargo.lock", "api-server", "crds", "operator"];

pub struct Commit {
    /// The full hash, with `-dirty` where a tracked source differed from it.
    pub name: String,
    /// What changes whenever the name may.
    pub watched: Vec<PathBuf>,
}

/// `None` where there is no git, or the workspace is not a repository of its own: what was unpacked below somebody else's
/// repository is not of their commit.
pub fn asked(workspace: &Path) -> Option<Commit> {
    let workspace = workspace.canonicalize().ok()?;
    let root = git(&workspace, &["rev-parse", "--show-toplevel"])?;
    if Path::new(&root).canonicalize().ok()? != workspace {
        return None;
    }
    let mut name = git(&workspace, &["rev-parse", "--verify", "HEAD"])?;
    let mut status = vec!["status", "--porcelain", "--untracked-files=no", "--"];
    status.extend(SOURCES);
    let dirty = git(&workspace, &status).is_none_or(|changed| !changed.is_empty());
    // `logs/HEAD` moves with every commit, checkout, reset and rebase. Where a worktree keeps its own, only git knows.
    let head = ["HEAD", "logs/HEAD"].into_iter().filter_map(|file| git(&workspace, &["rev-parse", "--git-path", file]));
    let mut watched: Vec<_> = head.map(|path| workspace.join(path)).collect();
    if dirty {
        // The next edit makes it no other, and need not have everything compiled anew.
        name.push_str("-dirty");
    } else {
        watched.extend(SOURCES.map(|path| workspace.join(path)));
    }
    // Cargo takes what is not there for changed, always.
    watched.retain(|path| path.exists());
    Some(Commit { name, watched })
}

/// What git answers, in the folder that is meant whatever the environment of a hook says.
fn git(workspace: &Path, words: &[&str]) -> Option<String> {
    let mut git = Command::new("git");
    git.current_dir(workspace).args(words);
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        git.env_remove(variable);
    }
    // A status that only looks leaves the index, which others may be using, as it is.
    git.env("GIT_OPTIONAL_LOCKS", "0");
    let answer = git.output().ok().filter(|answer| answer.status.success())?;
    Some(String::from_utf8(answer.stdout).ok()?.trim().to_owned())
}
