//! Completions: scripts for shells, and the answer to kubectl, which asks `kubectl_complete-<plugin>` in the way of cobra's
//! programs: one candidate a line with a description behind a tab, and `:<directive>` as the last line.

use std::{path::Path, time::Duration};

use anyhow::Result;
use clap::{Arg, ArgAction, Command, CommandFactory, FromArgMatches};
use clap_complete::{Shell as Scripted, generate};
use crds::{Platform, Tenant};
use kube::{ResourceExt, api::ListParams};
use tokio::time::timeout;

use crate::{
    Outcome,
    cli::{Cli, Completion, Global, Shell},
    connect::Connection,
    output::print,
};

/// What kubectl looks for on the PATH.
pub const PROGRAM: &str = "kubectl_complete-tenantry";
const KUBECTL: &str = "#!/bin/sh
# kubectl asks this program how `kubectl tenantry` goes on.
exec kubectl-tenantry __complete \"$@\"
";
/// Cobra's directives: offer no files, and offer files.
const NO_FILES: &str = ":4\n";
const FILES: &str = ":0\n";
/// A shell that waits for a cluster feels broken.
const PATIENCE: Duration = Duration::from_secs(2);
/// Called in place of a command by the script above.
const HIDDEN: &str = "__complete";

pub fn is_called_as_completion(called: &str) -> bool {
    Path::new(called).file_name().is_some_and(|name| name == PROGRAM)
        || std::env::args().nth(1).is_some_and(|first| first == HIDDEN)
}

/// Prints what a shell, or kubectl, needs.
pub fn scripts(asked: &Completion) -> Result<Outcome> {
    let shell = match asked.shell {
        Shell::Kubectl => {
            print(KUBECTL)?;
            return Ok(Outcome::Good);
        }
        Shell::Bash => Scripted::Bash,
        Shell::Zsh => Scripted::Zsh,
        Shell::Fish => Scripted::Fish,
        Shell::Powershell => Scripted::PowerShell,
    };
    let mut script = Vec::new();
    generate(shell, &mut Cli::command().bin_name("kubectl-tenantry"), "kubectl-tenantry", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(Outcome::Good)
}

/// How the words may go on; the last one is being typed.
pub async fn answer(words: &[String]) -> String {
    let words =
        if words.first().is_some_and(|first| first == HIDDEN) { words.get(1..).unwrap_or_default() } else { words };
    let Some((typed, before)) = words.split_last() else { return NO_FILES.into() };
    let mut root = Cli::command();
    root.build();
    let mut command = &root;
    let mut value_of: Option<&Arg> = None;
    for word in before {
        if value_of.take().is_some() {
            continue;
        }
        if let Some(found) = command.find_subcommand(word) {
            command = found;
        } else if word.starts_with('-') && !word.contains('=') {
            value_of = flag(command, word).filter(|arg| takes_value(arg));
        }
    }
    let wanted = match (value_of, typed.split_once('=')) {
        (Some(arg), _) => Some(arg),
        (None, Some((name, _))) if name.starts_with("--") => flag(command, name),
        _ => None,
    };
    let (candidates, directive) = match wanted {
        Some(arg) => values(arg, before).await,
        None if typed.starts_with('-') => (flags(command), NO_FILES),
        None => {
            let mut candidates: Vec<_> =
                command.get_subcommands().filter(|sub| !sub.is_hide_set()).map(described).collect();
            if candidates.is_empty() {
                candidates = positional(command, before).await;
            }
            (candidates, NO_FILES)
        }
    };
    let typed =
        typed.split_once('=').filter(|(name, _)| name.starts_with("--")).map_or(typed.as_str(), |(_, value)| value);
    let fitting = candidates.into_iter().filter(|candidate| candidate.starts_with(typed));
    fitting.map(|candidate| candidate + "\n").collect::<String>() + directive
}

fn described(command: &Command) -> String {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    format!("{}\t{about}", command.get_name())
}

fn flag<'c>(command: &'c Command, word: &str) -> Option<&'c Arg> {
    command.get_arguments().find(|arg| {
        let long = arg.get_long().is_some_and(|long| word == format!("--{long}"));
        let alias = arg.get_visible_aliases().is_some_and(|all| all.iter().any(|alias| word == format!("--{alias}")));
        long || alias || arg.get_short().is_some_and(|short| word == format!("-{short}"))
    })
}

fn takes_value(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Set | ArgAction::Append)
}

fn flags(command: &Command) -> Vec<String> {
    let named = command.get_arguments().filter(|arg| !arg.is_hide_set());
    let lines = named.filter_map(|arg| {
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        Some(format!("--{}\t{help}", arg.get_long()?))
    });
    lines.collect()
}

async fn values(arg: &Arg, before: &[String]) -> (Vec<String>, &'static str) {
    let possible: Vec<_> = arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
    if !possible.is_empty() {
        return (possible, NO_FILES);
    }
    match arg.get_id().as_str() {
        "tenant" => (names(before, true).await, NO_FILES),
        "platform" => (names(before, false).await, NO_FILES),
        "files" | "kustomize" | "kubeconfig" | "to" => (Vec::new(), FILES),
        _ => (Vec::new(), NO_FILES),
    }
}

async fn positional(command: &Command, before: &[String]) -> Vec<String> {
    // `status tenant <TAB>`: the kind has been said.
    if command.get_name() == "status" {
        match before.last().map(String::as_str) {
            Some("tenant") => return names(before, true).await,
            Some("platform") => return names(before, false).await,
            _ => {}
        }
    }
    let first = command.get_positionals().next();
    first.into_iter().flat_map(Arg::get_possible_values).map(|value| value.get_name().to_owned()).collect()
}

/// Names in the cluster; none where it does not answer at once.
async fn names(before: &[String], tenants: bool) -> Vec<String> {
    let asked = async {
        let connection = Connection::open(&global(before)).await.ok()?;
        let params = ListParams::default();
        let names: Vec<_> = if tenants {
            connection
                .api::<Tenant>()
                .list_metadata(&params)
                .await
                .ok()?
                .items
                .iter()
                .map(ResourceExt::name_any)
                .collect()
        } else {
            let platforms = connection.api::<Platform>().list_metadata(&params).await.ok()?;
            platforms.items.iter().map(ResourceExt::name_any).collect()
        };
        Some(names)
    };
    timeout(PATIENCE, asked).await.ok().flatten().unwrap_or_default()
}

/// The flags that say which cluster and namespace, from an unfinished command line.
fn global(before: &[String]) -> Global {
    let mut lenient = Command::new("lenient").ignore_errors(true).disable_help_flag(true);
    lenient = <Global as clap::Args>::augment_args(lenient);
    lenient = lenient.arg(Arg::new("words").num_args(0..).allow_hyphen_values(false));
    let words = std::iter::once("lenient").chain(before.iter().map(String::as_str));
    lenient
        .try_get_matches_from(words)
        .ok()
        .and_then(|matches| Global::from_arg_matches(&matches).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answer_to(words: &[&str]) -> String {
        answer(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()).await
    }

    #[tokio::test]
    async fn kubectl_is_told_how_the_words_may_go_on() {
        let commands = answer_to(&["r"]).await;
        let names: Vec<_> = commands.lines().filter_map(|line| line.split('\t').next()).collect();
        assert_eq!(names, ["rollout", "rotate", "report", ":4"]);
        assert!(answer_to(&["rollout", ""]).await.contains("promote\tSwitch to the release"));
        assert!(answer_to(&["plan", "--del"]).await.starts_with("--delete\t"));
        assert_eq!(answer_to(&["status", "-o", ""]).await, "json\nyaml\n:4\n");
        assert_eq!(answer_to(&["logs", "--color=pre"]).await, "preview\n:4\n");
        assert_eq!(answer_to(&["status", "t"]).await, "tenant\n:4\n");
        assert_eq!(answer_to(&["plan", "-f", ""]).await, ":0\n", "files are the shell's to offer");
    }
}
