//! The command line. Flags that kubectl has mean what they mean there.

use std::{ffi::OsString, path::PathBuf, process::ExitCode, time::Duration};

use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::output::Format;

/// What this is called: kubectl finds `kubectl-tenantry` on the PATH and calls it for `kubectl tenantry`.
pub const NAME: &str = "kubectl tenantry";

/// Ask and steer Tenantry: is it well, who may do what, what would change, how goes the rollout.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "kubectl-tenantry",
    bin_name = NAME,
    version = contract::version::describe(),
    disable_version_flag = true,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 yes, well, no change; 1 no, or an error; 2 plan found changes; 3 not well, or not yet."
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub global: Global,
}

/// The flags that every command has.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Flags of every command")]
pub struct Global {
    /// The kubeconfig file; else KUBECONFIG, else ~/.kube/config.
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig to use.
    #[arg(long, global = true)]
    pub context: Option<String>,
    /// The cluster of the kubeconfig to use.
    #[arg(long, global = true)]
    pub cluster: Option<String>,
    /// The namespace; else the one of the context.
    #[arg(short, long, global = true)]
    pub namespace: Option<String>,
    /// Act as this user of the cluster.
    #[arg(long = "as", global = true, value_name = "USER")]
    pub impersonate: Option<String>,
    /// Act as a member of this group of the cluster; may be repeated.
    #[arg(long = "as-group", global = true, value_name = "GROUP", action = ArgAction::Append)]
    pub impersonate_groups: Vec<String>,
    /// How long one request may take, such as 30s.
    #[arg(long, global = true, value_name = "TIME", value_parser = duration)]
    pub request_timeout: Option<Duration>,
    /// Answer as data.
    #[arg(short, long, global = true, value_enum)]
    pub output: Option<Format>,
}

#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    Status(Status),
    Explain(Explain),
    #[command(name = "can-i")]
    CanI(CanI),
    Plan(Plan),
    Rollout(Rollout),
    Rotate(Rotate),
    Logs(Logs),
    Report(Report),
    Version(Version),
    Completion(Completion),
}

/// Is it well, and if not, why.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  kubectl tenantry status                    # the Platforms of this namespace and their Tenants
  kubectl tenantry status tenant acme        # one Tenant and everything around it
  kubectl tenantry status -A -o json         # for a program
  kubectl tenantry status --watch            # again whenever something changes

Exits with 3 where something is not well.")]
pub struct Status {
    /// What to look at; without it, all Platforms of the namespace.
    #[arg(value_enum)]
    pub kind: Option<Looked>,
    /// Its name.
    pub name: Option<String>,
    /// All namespaces.
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Go on looking, and tell it anew whenever something changed, until it is interrupted.
    #[arg(short, long)]
    pub watch: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Looked {
    Platform,
    Tenant,
}

/// Who asks a tenant's API, and what for.
#[derive(Debug, Clone, Default, Args)]
pub struct Asker {
    /// Groups that the person is in.
    #[arg(long = "groups", visible_alias = "group", value_delimiter = ',', value_name = "GROUP")]
    pub groups: Vec<String>,
    /// Name of the API key that is used.
    #[arg(long, value_name = "NAME")]
    pub api_key: Option<String>,
    /// The person's own role, which the API's database knows and Kubernetes does not.
    #[arg(long, default_value = contract::access::DEFAULT_ROLE)]
    pub role: String,
    /// Method of the request; goes with --path.
    #[arg(long, default_value = "GET", requires = "path")]
    pub method: String,
    /// Path of a request, such as /api/v1/payments: what depends on the request is then decided.
    #[arg(long, value_parser = path)]
    pub path: Option<String>,
    /// Where the request comes from; goes with --path.
    #[arg(long, value_name = "ADDRESS", requires = "path")]
    pub ip: Option<std::net::IpAddr>,
    /// Headers of the request, as NAME=VALUE; go with --path.
    #[arg(long = "header", value_name = "NAME=VALUE", requires = "path")]
    pub headers: Vec<String>,
}

/// One that begins otherwise is nobody's: no limit would seem to be about it.
fn path(text: &str) -> Result<String, String> {
    if text.starts_with('/') { Ok(text.to_owned()) } else { Err("a path begins with /".to_owned()) }
}

/// Which roles and limits apply, and from which object.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  kubectl tenantry explain --tenant acme --user alice@acme.example --method POST --path /api/v1/payments
  kubectl tenantry explain --tenant acme --path /auth/login           # for somebody who is not signed in
  kubectl tenantry explain --tenant acme -o yaml                      # every limit of the tenant

Told is what the API serves now: the document of the tenant, and the objects it came from.")]
pub struct Explain {
    /// The Tenant.
    #[arg(short, long)]
    pub tenant: String,
    /// E-mail address or id of a person of the tenant.
    #[arg(long, value_name = "ADDRESS")]
    pub user: Option<String>,
    #[command(flatten)]
    pub asker: Asker,
}

/// May this person do that: yes or no, and why.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  kubectl tenantry can-i read payments --tenant acme --as-user alice@acme.example
  kubectl tenantry can-i read users --tenant acme --as-user bob@acme.example --groups support
  kubectl tenantry can-i --list --tenant acme --as-user alice@acme.example

Exits with 0 for yes and 1 for no.")]
pub struct CanI {
    /// What is to be done, such as read.
    #[arg(required_unless_present = "list", requires = "resource")]
    pub verb: Option<String>,
    /// With what, such as payments.
    pub resource: Option<String>,
    /// The Tenant.
    #[arg(short, long)]
    pub tenant: String,
    /// E-mail address or id of the person.
    #[arg(long, value_name = "ADDRESS")]
    pub as_user: Option<String>,
    /// Say everything that may be done.
    #[arg(long, conflicts_with = "verb")]
    pub list: bool,
    #[command(flatten)]
    pub asker: Asker,
}

/// What would change, before it is applied.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  kubectl tenantry plan -f tenant.yaml
  kubectl tenantry plan -f tenants/ -f policy.yaml
  kubectl kustomize overlays/production | kubectl tenantry plan -f -
  kubectl tenantry plan -k overlays/production

Nothing is written: the cluster is asked for a server-side dry run, and the operator's own steps make the rest.
Exits with 0 where nothing would change, 2 where something would, 1 where it cannot be told or would be refused.")]
pub struct Plan {
    /// Files, folders of *.yaml, *.yml and *.json, or - for standard input.
    #[arg(short = 'f', long = "filename", required_unless_present_any = ["kustomize", "deleted"], value_name = "FILE")]
    pub files: Vec<String>,
    /// A folder with a kustomization, built by kubectl.
    #[arg(short = 'k', long, value_name = "FOLDER", conflicts_with = "files")]
    pub kustomize: Option<PathBuf>,
    /// Look into subfolders, too.
    #[arg(short = 'R', long)]
    pub recursive: bool,
    /// Ask as `kubectl apply --server-side` would.
    #[arg(long)]
    pub server_side: bool,
    /// With --server-side: take fields over from whoever holds them.
    #[arg(long, requires = "server_side")]
    pub force_conflicts: bool,
    /// Look at these objects as deleted, too: KIND/NAME such as rolebinding/acme-support.
    #[arg(long = "delete", value_name = "KIND/NAME")]
    pub deleted: Vec<String>,
}

/// Look at a rollout, and steer it.
#[derive(Debug, Clone, Args)]
pub struct Rollout {
    #[command(subcommand)]
    pub act: Act,
    /// The Platform; may be left out where the namespace has only one.
    #[arg(long, global = true)]
    pub platform: Option<String>,
    /// How long to wait, such as 5m.
    #[arg(long, global = true, value_parser = duration, value_name = "TIME")]
    pub timeout: Option<Duration>,
}

#[derive(Debug, Clone, Subcommand)]
pub enum Act {
    /// How far it is, and what it waits for.
    #[command(after_help = "Examples:
  kubectl tenantry rollout status
  kubectl tenantry rollout status --watch --timeout 10m   # in a pipeline

Exits with 0 where the declared release runs, 1 where it was taken back, 3 while it is under way.")]
    Status {
        /// Follow it to its end.
        #[arg(short, long)]
        watch: bool,
    },
    /// Switch to the release that is being tried, without waiting any longer.
    Promote,
    /// Hold it where it is (spec.paused).
    Pause,
    /// Let it go on (spec.paused).
    Resume,
    /// Take it back: the release before goes on.
    Abort,
    /// Try the release again that was taken back.
    Retry,
    /// Go back to an earlier release, with the configuration that it had.
    Undo {
        /// The release; else the one before.
        #[arg(long, value_name = "RELEASE")]
        to: Option<String>,
    },
}

/// Replace keys and passwords while everything goes on.
#[derive(Debug, Clone, Args)]
pub struct Rotate {
    #[command(subcommand)]
    pub what: Rotated,
    /// Return at once in place of following it to its end.
    #[arg(long = "no-wait", global = true)]
    pub no_wait: bool,
    /// How long to wait.
    #[arg(long, global = true, value_parser = duration, default_value = "5m", value_name = "TIME")]
    pub timeout: Duration,
}

#[derive(Debug, Clone, Subcommand)]
pub enum Rotated {
    /// The key that signs a tenant's access tokens. No token is refused: old ones are good until they expire.
    #[command(name = "signing-key", after_help = "Example:\n  kubectl tenantry rotate signing-key --tenant acme")]
    SigningKey {
        /// The Tenant.
        #[arg(short, long)]
        tenant: String,
    },
    /// The passwords of a Platform's managed PostgreSQL and Redis.
    #[command(after_help = "Example:\n  kubectl tenantry rotate credentials --platform main")]
    Credentials {
        /// The Platform; may be left out where the namespace has only one.
        #[arg(long)]
        platform: Option<String>,
    },
}

/// What the API's pods say.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  kubectl tenantry logs --follow
  kubectl tenantry logs --tenant acme --since 10m
  kubectl tenantry logs --request 0192f0c1-7a00-7000-8000-000000000001
  kubectl tenantry logs --color preview --raw")]
pub struct Logs {
    /// The Platform; may be left out where the namespace has only one.
    #[arg(long)]
    pub platform: Option<String>,
    /// Go on reading.
    #[arg(short, long)]
    pub follow: bool,
    /// Whose pods.
    #[arg(long, value_enum, default_value_t)]
    pub color: Pods,
    /// Only lines about this Tenant.
    #[arg(short, long)]
    pub tenant: Option<String>,
    /// Only lines about this request, by the id that the answer's X-Request-Id has.
    #[arg(long, value_name = "ID")]
    pub request: Option<String>,
    /// Lines from the end of each pod's log.
    #[arg(long, value_name = "LINES", default_value_t = 100)]
    pub tail: i64,
    /// Only lines that are newer than this.
    #[arg(long, value_parser = duration, value_name = "TIME")]
    pub since: Option<Duration>,
    /// Logs of the containers before their last restart.
    #[arg(short = 'p', long)]
    pub previous: bool,
    /// Lines as they are, in place of readable ones.
    #[arg(long)]
    pub raw: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Pods {
    /// The colour that takes requests.
    #[default]
    Active,
    /// The colour that is being tried.
    Preview,
    Blue,
    Green,
    All,
}

/// Put everything that helps to understand a problem into one file, without secrets.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  kubectl tenantry report
  kubectl tenantry report --to /tmp/report        # a folder to look through
  kubectl tenantry report --to report.tar.gz --log-lines 2000

The values of Secrets are never read, and what looks like a credential elsewhere is replaced by [redacted].")]
pub struct Report {
    /// The file (*.tar.gz) or folder to make; else tenantry-report-<time>.tar.gz.
    #[arg(long, value_name = "PATH")]
    pub to: Option<PathBuf>,
    /// Lines of each container's log.
    #[arg(long, default_value_t = 500, value_name = "LINES")]
    pub log_lines: i64,
    /// Namespace of the operator.
    #[arg(long, default_value = "tenantry-system", value_name = "NAMESPACE")]
    pub operator_namespace: String,
}

/// Versions of this program, the cluster and what runs there.
#[derive(Debug, Clone, Args)]
pub struct Version {
    /// Only of this program.
    #[arg(long)]
    pub client: bool,
}

/// Print what a shell, or kubectl, needs to complete commands.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Completion of `kubectl tenantry <TAB>` is kubectl's, which asks the program kubectl_complete-tenantry:
  kubectl tenantry completion kubectl | sudo tee /usr/local/bin/kubectl_complete-tenantry
  sudo chmod +x /usr/local/bin/kubectl_complete-tenantry
A link of that name to this program does the same.

Completion of `kubectl-tenantry <TAB>`, called directly:
  source <(kubectl tenantry completion bash)"
)]
pub struct Completion {
    #[arg(value_enum)]
    pub shell: Shell,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
    Powershell,
    Kubectl,
}

/// Reads the command line. An error, or help that was asked for, is printed; a wrong command exits with 1, because 2 has
/// a meaning of its own.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, ExitCode> {
    let parsed = Cli::command().try_get_matches_from(args).and_then(|matches| Cli::from_arg_matches(&matches));
    parsed.map_err(|error| {
        // There is nowhere left to say that printing failed.
        let _ = error.print();
        if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    })
}

/// `30s`, `5m`, `1h30m`; a number alone is seconds, as kubectl has it.
fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    let span: jiff::SignedDuration =
        text.parse().map_err(|_| format!("{text:?} is no time: use for example 30s, 5m or 1h30m"))?;
    Duration::try_from(span).map_err(|_| format!("{text:?} is before now"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn times_are_written_as_kubectl_writes_them() {
        let seconds = |text| duration(text).map(|time| time.as_secs());
        assert_eq!((seconds("90"), seconds("1h30m"), seconds("5m")), (Ok(90), Ok(5_400), Ok(300)));
        assert!(duration("soon").unwrap_err().contains("use for example 30s"));
    }
}
