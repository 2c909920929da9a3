//! What a release build says of the commit that it is made from.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

#[path = "../build/commit.rs"]
mod commit;

use std::{fs, path::Path, process::Command};

fn git(folder: &Path, words: &[&str]) -> String {
    let git = Command::new("git")
        .current_dir(folder)
        .args(["-c", "user.name=a", "-c", "user.email=a@a.example", "-c", "commit.gpgsign=false"])
        .args(words)
        .output()
        .unwrap();
    assert!(git.status.success(), "{}", String::from_utf8_lossy(&git.stderr));
    String::from_utf8(git.stdout).unwrap().trim().to_owned()
}

fn name(folder: &Path) -> Option<String> {
    commit::asked(folder).map(|commit| commit.name)
}

#[test]
fn a_checkout_names_its_commit_and_says_when_a_source_differs() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    assert_eq!(name(root), None, "no repository");
    git(root, &["init", "--quiet"]);
    assert_eq!(name(root), None, "no commit");
    fs::create_dir(root.join("crds")).unwrap();
    fs::write(root.join("crds/lib.rs"), "one").unwrap();
    fs::write(root.join("notes"), "one").unwrap();
    git(root, &["add", "."]);
    git(root, &["commit", "--quiet", "--message", "one"]);
    let first = git(root, &["rev-parse", "HEAD"]);
    assert_eq!((name(root), first.len()), (Some(first.clone()), 40));

    fs::write(root.join("notes"), "two").unwrap();
    assert_eq!(name(root), Some(first.clone()), "nothing is made from it");
    fs::write(root.join("crds/lib.rs"), "two").unwrap();
    assert_eq!(name(root), Some(format!("{first}-dirty")));
    git(root, &["commit", "--all", "--quiet", "--message", "two"]);
    let second = git(root, &["rev-parse", "HEAD"]);
    assert_ne!(first, second);
    assert_eq!(name(root), Some(second));
}

#[test]
fn a_worktree_has_a_head_of_its_own_and_what_lies_in_somebody_elses_repository_has_none() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("main");
    fs::create_dir_all(root.join("vendored")).unwrap();
    git(&root, &["init", "--quiet"]);
    git(&root, &["commit", "--allow-empty", "--quiet", "--message", "one"]);
    assert_eq!(name(&root.join("vendored")), None);
    git(&root, &["worktree", "add", "--quiet", "../other"]);
    let other = folder.path().join("other");
    git(&other, &["commit", "--allow-empty", "--quiet", "--message", "two"]);
    let commit = commit::asked(&other).unwrap();
    assert_eq!(commit.name, git(&other, &["rev-parse", "HEAD"]));
    let head = root.canonicalize().unwrap().join(".git/worktrees/other/logs/HEAD");
    assert!(commit.watched.contains(&head), "{:?}", commit.watched);
}
