//! Which build this is: what `--version` prints, what is logged at the start, and a metric of each binary.

use std::sync::LazyLock;

/// The version of the workspace.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The full hash of the commit, as the build was told by `TENANTRY_COMMIT`, else as git told a release build: then with
/// `-dirty` where the sources differ from it. `unknown` without either, and in development builds, which do not ask.
pub const COMMIT: &str = match option_env!("TENANTRY_COMMIT") {
    Some(commit) if !commit.is_empty() => commit,
    _ => "unknown",
};

static DESCRIPTION: LazyLock<String> = LazyLock::new(|| format!("{VERSION} (commit {COMMIT})"));

/// Version and commit in one line, such as `0.2.0 (commit 8b8eb2c)`.
pub fn describe() -> &'static str {
    &DESCRIPTION
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_that_was_told_no_commit_says_so() {
        assert!(describe().starts_with(VERSION) && describe().ends_with(&format!("(commit {COMMIT})")));
        assert!(!COMMIT.is_empty());
    }
}
