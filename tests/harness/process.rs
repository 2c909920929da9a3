//! Child processes that never outlive the one who started them.
//!
//! Each child leads its own process group, so a Ctrl-C at the terminal reaches only us and we decide the order of
//! stopping. On drop the whole group is killed; and should we ourselves be killed, the kernel kills the children
//! (`PR_SET_PDEATHSIG`, set by util-linux's `setpriv`, as doing it here would need unsafe code).

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{LazyLock, mpsc},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process, kill_process_group};
use tokio::{
    process::{Child, Command},
    runtime::Handle,
    sync::oneshot,
    time::timeout,
};

/// A program about to be started.
#[derive(Debug, Clone)]
#[must_use = "a launch that is not started does nothing"]
pub struct Launch {
    name: String,
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    clear_env: bool,
    log: PathBuf,
    user: Option<String>,
    capability: Option<&'static str>,
}

impl Launch {
    /// `name` is what messages call it; both its outputs are appended to `log`.
    pub fn new(name: impl Into<String>, program: impl AsRef<OsStr>, log: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            program: program.as_ref().into(),
            args: Vec::new(),
            env: Vec::new(),
            clear_env: false,
            log: log.into(),
            user: None,
            capability: None,
        }
    }

    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((key.into(), value.into()));
        self
    }

    pub fn envs(self, variables: impl IntoIterator<Item = (impl Into<OsString>, impl Into<OsString>)>) -> Self {
        variables.into_iter().fold(self, |launch, (key, value)| launch.env(key, value))
    }

    /// Another program in the same surroundings; nobody keeps what it says.
    pub fn instead(mut self, program: impl AsRef<OsStr>, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.program = program.as_ref().into();
        self.args = args.into_iter().map(Into::into).collect();
        self.log = "/dev/null".into();
        self
    }

    /// Nothing is inherited but what a program needs to run at all: a pod sees what its template says.
    pub fn clean_environment(mut self) -> Self {
        self.clear_env = true;
        self
    }

    /// Needs root. `None` stays who we are.
    pub fn as_user(mut self, user: Option<&str>) -> Self {
        self.user = user.map(Into::into);
        self
    }

    /// What that user may do beyond its own rights, as capabilities(7) names it.
    pub fn with_capability(mut self, capability: &'static str) -> Self {
        self.capability = Some(capability);
        self
    }

    fn command(&self) -> Result<Command> {
        let mut words: Vec<OsString> = Vec::new();
        if let Some(setpriv) = find_program("setpriv", &[]) {
            words.extend([setpriv.into(), "--pdeathsig".into(), "KILL".into()]);
            if let Some(user) = &self.user {
                words.extend(["--reuid", user, "--regid", user, "--clear-groups"].map(Into::into));
            }
            if let Some(capability) = self.capability {
                words.extend(["inh", "ambient"].map(|set| format!("--{set}-caps=+{capability}").into()));
            }
            words.push("--".into());
        } else if let Some(user) = &self.user {
            return Err(anyhow!("{}: running as {user} needs `setpriv` (package util-linux)", self.name));
        }
        words.push(self.program.clone());
        words.extend(self.args.iter().cloned());
        if let Some(folder) = self.log.parent() {
            fs::create_dir_all(folder)?;
        }
        let log = File::options().create(true).append(true).open(&self.log)?;

        let mut command = std::process::Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        if self.clear_env {
            command.env_clear();
            for key in ["PATH", "HOME", "LANG", "RUST_BACKTRACE", "LLVM_PROFILE_FILE"] {
                if let Some(value) = std::env::var_os(key) {
                    command.env(key, value);
                }
            }
        }
        command.env("NO_COLOR", "1"); // it goes to a file
        command.envs(self.env.iter().map(|(key, value)| (key, value)));
        let mut command = Command::from(command);
        command.kill_on_drop(true);
        Ok(command)
    }

    pub async fn start(self) -> Result<Process> {
        let (reply, child) = oneshot::channel();
        let birth = Birth { command: self.command()?, runtime: Handle::current(), reply };
        NURSERY.send(birth).map_err(|_| anyhow!("the nursery thread is gone"))?;
        let child = child.await?.with_context(|| format!("{}: cannot start {}", self.name, self.program.display()))?;
        let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed())).context("a child without a pid")?;
        Ok(Process { name: self.name, log: self.log, pid, child })
    }
}

/// The parent-death signal fires when the *thread* that forked ends, and tokio's threads come and go: so all children are
/// born on one thread that lives as long as the process.
static NURSERY: LazyLock<mpsc::Sender<Birth>> = LazyLock::new(|| {
    let (births, queue) = mpsc::channel::<Birth>();
    thread::spawn(move || {
        for Birth { mut command, runtime, reply } in queue {
            let _entered = runtime.enter();
            // Nobody waits any more: the child is dropped, and killed by that.
            let _ = reply.send(command.spawn());
        }
    });
    births
});

struct Birth {
    command: Command,
    runtime: Handle,
    reply: oneshot::Sender<io::Result<Child>>,
}

/// A running child. Dropping it kills its process group.
#[derive(Debug)]
pub struct Process {
    pub name: String,
    pub log: PathBuf,
    pid: Pid,
    child: Child,
}

impl Process {
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().cast_unsigned()
    }

    pub async fn wait(&mut self) -> Result<ExitStatus> {
        Ok(self.child.wait().await?)
    }

    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    pub fn signal(&self, signal: Signal) {
        // It may have ended in this moment, which is what was wanted or is noticed by `wait`.
        let _ = kill_process(self.pid, signal);
    }

    /// Asks with `signal`, and insists after `grace`.
    pub async fn stop(&mut self, signal: Signal, grace: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.exited() {
            return Ok(status);
        }
        self.signal(signal);
        match timeout(grace, self.child.wait()).await {
            Ok(status) => Ok(status?),
            Err(_) => self.kill().await,
        }
    }

    /// `kill -9`, the whole group.
    pub async fn kill(&mut self) -> Result<ExitStatus> {
        if self.exited().is_none() {
            let _ = kill_process_group(self.pid, Signal::KILL);
        }
        Ok(self.child.wait().await?)
    }

    pub fn log_tail(&self, lines: usize) -> String {
        tail(&self.log, lines)
    }

    /// An error with the last words of a child that ended although it should have stayed.
    pub fn check_alive(&mut self) -> Result<()> {
        match self.exited() {
            None => Ok(()),
            Some(status) => Err(anyhow!("{} ended ({status}); its last words:\n{}", self.name, self.log_tail(20))),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.exited().is_none() {
            let _ = kill_process_group(self.pid, Signal::KILL);
        }
    }
}

/// The last lines of a file, or why there are none.
pub fn tail(path: &Path, lines: usize) -> String {
    match fs::read(path) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let all: Vec<_> = text.lines().collect();
            all[all.len().saturating_sub(lines)..].join("\n")
        }
        Err(error) => format!("(no log at {}: {error})", path.display()),
    }
}

/// First in the given folders, then on the PATH and where Debian keeps what only root has there.
pub fn find_program(name: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    folders
        .iter()
        .cloned()
        .chain(std::env::split_paths(&path))
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}

/// A port that nobody has at this moment, for programs that cannot take port 0 and tell.
pub fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

pub fn am_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alive(pid: &str) -> bool {
        fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
    }

    async fn until(what: impl Fn() -> bool) {
        timeout(Duration::from_secs(10), async {
            while !what() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
    }

    #[tokio::test]
    async fn a_dropped_process_takes_its_children_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let script = "sleep 600 & echo child=$!; wait";
        let process = Launch::new("sh", "sh", &log).args(["-c", script]).start().await.unwrap();
        until(|| tail(&log, 1).starts_with("child=")).await;
        let child = tail(&log, 1).replace("child=", "");
        assert!(alive(&child));
        drop(process);
        until(|| !alive(&child)).await;
    }

    #[tokio::test]
    async fn one_that_ignores_the_polite_signal_is_killed_after_its_grace() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let script = "trap '' TERM; echo ready; while :; do read x < /dev/zero; done";
        let mut process = Launch::new("sh", "sh", &log).args(["-c", script]).start().await.unwrap();
        until(|| tail(&log, 1) == "ready").await;
        let status = process.stop(Signal::TERM, Duration::from_millis(100)).await.unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = match Launch::new("nothing", "/no/such/program", folder.path().join("log")).start().await {
            Err(error) => return assert!(format!("{error:#}").contains("/no/such/program")),
            Ok(process) => process, // setpriv itself started, and says it
        };
        process.wait().await.unwrap();
        assert!(process.check_alive().unwrap_err().to_string().contains("/no/such/program"));
    }
}
