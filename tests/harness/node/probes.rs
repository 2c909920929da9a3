//! Startup, readiness and liveness probes of one container, with the kubelet's meaning.

use std::time::Duration;

use k8s_openapi::{
    api::core::v1::{Container, Probe},
    apimachinery::pkg::util::intstr::IntOrString,
};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use super::template::{self, Within};
use crate::process::Launch;

/// Until a container is up it is looked at more often than its period says; failures are counted in time.
const EAGER: Duration = Duration::from_millis(50);

/// Runs as long as the container is well; returns why it must be restarted. `ready` hears of each change.
pub async fn watch(container: &Container, launch: &Launch, within: Within<'_>, ready: impl Fn(bool)) -> String {
    let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build();
    let client = match client {
        Ok(client) => client,
        Err(error) => return format!("no HTTP client for probes: {error}"),
    };
    let prober = Prober { client, container, launch, within };
    if let Some(startup) = &container.startup_probe
        && let Err(failure) = prober.started(startup).await
    {
        return format!("startup probe failed: {failure}");
    }
    let readiness = async {
        match &container.readiness_probe {
            None => ready(true),
            Some(probe) => prober.readiness(probe, &ready).await,
        }
        std::future::pending::<String>().await
    };
    let liveness = async {
        match &container.liveness_probe {
            None => std::future::pending().await,
            Some(probe) => prober.liveness(probe).await,
        }
    };
    tokio::select! {
        never = readiness => never,
        failure = liveness => format!("liveness probe failed: {failure}"),
    }
}

struct Prober<'a> {
    client: reqwest::Client,
    container: &'a Container,
    /// How the container was started.
    launch: &'a Launch,
    within: Within<'a>,
}

impl Prober<'_> {
    async fn started(&self, probe: &Probe) -> Result<(), String> {
        let patience = period(probe) * failure_threshold(probe) + initial_delay(probe);
        let deadline = Instant::now() + patience;
        loop {
            match self.once(probe).await {
                Ok(()) => return Ok(()),
                Err(failure) if Instant::now() >= deadline => return Err(failure),
                Err(_) => sleep(EAGER).await,
            }
        }
    }

    async fn readiness(&self, probe: &Probe, ready: &impl Fn(bool)) {
        let mut failures = 0;
        let mut is_ready = false;
        loop {
            failures = if self.once(probe).await.is_ok() { 0 } else { failures + 1 };
            let now_ready = failures == 0 || (is_ready && failures < failure_threshold(probe));
            if now_ready != is_ready {
                is_ready = now_ready;
                ready(is_ready);
            }
            sleep(if is_ready { period(probe) } else { EAGER }).await;
        }
    }

    async fn liveness(&self, probe: &Probe) -> String {
        sleep(initial_delay(probe)).await;
        let mut failures = 0;
        loop {
            match self.once(probe).await {
                Ok(()) => failures = 0,
                Err(failure) => {
                    failures += 1;
                    if failures >= failure_threshold(probe) {
                        return failure;
                    }
                }
            }
            sleep(period(probe)).await;
        }
    }

    async fn once(&self, probe: &Probe) -> Result<(), String> {
        let limit = seconds(probe.timeout_seconds, 1);
        timeout(limit, self.ask(probe)).await.unwrap_or_else(|_| Err(format!("no answer within {} s", limit.as_secs())))
    }

    async fn ask(&self, probe: &Probe) -> Result<(), String> {
        if let Some(get) = &probe.http_get {
            let port = self.port(&get.port)?;
            let scheme = get.scheme.as_deref().unwrap_or("HTTP").to_lowercase();
            let path = get.path.as_deref().unwrap_or("/");
            let mut request = self.client.get(format!("{scheme}://{}:{port}{path}", self.within.address));
            for header in get.http_headers.iter().flatten() {
                request = request.header(&header.name, &header.value);
            }
            let status = request.send().await.map_err(|error| error.to_string())?.status();
            let well = status.is_success() || status.is_redirection();
            return if well { Ok(()) } else { Err(format!("{path} answered {status}")) };
        }
        if let Some(socket) = &probe.tcp_socket {
            let port = self.port(&socket.port)?;
            return TcpStream::connect((self.within.address, port))
                .await
                .map(|_| ())
                .map_err(|error| error.to_string());
        }
        if let Some(exec) = &probe.exec {
            let command = exec.command.as_deref().unwrap_or_default();
            let launch = template::beside(self.launch, self.container, command, &self.within);
            let launch = launch.map_err(|error| error.to_string())?;
            let mut process = launch.start().await.map_err(|error| error.to_string())?;
            let status = process.wait().await.map_err(|error| error.to_string())?;
            return if status.success() { Ok(()) } else { Err(format!("{command:?} ended with {status}")) };
        }
        Err("the local node knows httpGet, tcpSocket and exec probes only".into())
    }

    fn port(&self, port: &IntOrString) -> Result<u16, String> {
        let number = match port {
            IntOrString::Int(number) => Some(*number),
            IntOrString::String(name) => {
                let mut ports = self.container.ports.iter().flatten();
                ports.find(|port| port.name.as_ref() == Some(name)).map(|port| port.container_port)
            }
        };
        number
            .and_then(|number| u16::try_from(number).ok())
            .ok_or_else(|| format!("the container has no port {port:?}"))
    }
}

fn seconds(value: Option<i32>, default: u64) -> Duration {
    Duration::from_secs(value.and_then(|value| u64::try_from(value).ok()).unwrap_or(default))
}

fn period(probe: &Probe) -> Duration {
    seconds(probe.period_seconds.filter(|period| *period > 0), 10)
}

fn initial_delay(probe: &Probe) -> Duration {
    seconds(probe.initial_delay_seconds, 0)
}

fn failure_threshold(probe: &Probe) -> u32 {
    probe.failure_threshold.and_then(|times| u32::try_from(times).ok()).filter(|times| *times > 0).unwrap_or(3)
}
