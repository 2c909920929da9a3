//! What the operator and the API take with one tenant, with a thousand, and with ten thousand.

use std::{cmp::Reverse, time::Duration};

use anyhow::Result;
use harness::{
    Platform,
    scale::{Changed, Crowd, Grown, Restarted},
};
use tokio::time::sleep;

use super::{
    Amounts,
    figures::{Sample, cpu_micros, memory_mib},
    footprint,
};

/// Changes one by one, to count what each asks.
const COUNTED: usize = 20;
/// How long it is looked that nothing is asked.
const REST: Duration = Duration::from_secs(15);
/// Changes a second.
const RATE: u32 = 50;
/// The allocator gives back what was not used for a while.
const SETTLING: Duration = Duration::from_secs(12);

pub async fn run(amounts: &Amounts) -> Result<()> {
    let sizes = amounts.tenants.map_or_else(|| vec![1, 1_000, 10_000], |tenants| vec![tenants]);
    let mut platform = Platform::with_replicas(amounts.replicas).await?;
    let rows = match measure(&mut platform, &sizes, amounts).await {
        Ok(rows) => rows,
        Err(error) => return Err(platform.explain(error).await),
    };
    println!("\nScale: {} replicas of the API; Kubernetes API: {}", amounts.replicas, platform.control_plane);
    print!("{:58}", "tenants");
    for size in &sizes {
        print!("{size:>20}");
    }
    println!();
    for (what, figures) in rows {
        print!("{what:58}");
        for figure in figures {
            print!("{figure:>20}");
        }
        println!();
    }
    println!("  Loopback; operator, replicas, control plane and this program share the machine's cores.");
    platform.stop().await?;
    footprint::api(&sizes, amounts.rounds).await
}

type Rows = Vec<(&'static str, Vec<String>)>;

async fn measure(platform: &mut Platform, sizes: &[usize], amounts: &Amounts) -> Result<Rows> {
    let mut rows = Rows::new();
    let mut crowd = Crowd::of(platform);
    for size in sizes {
        let figures = at(&mut crowd, *size, amounts).await?;
        if rows.is_empty() {
            rows = figures.iter().map(|(what, _)| (*what, Vec::new())).collect();
        }
        for ((_, row), (_, figure)) in rows.iter_mut().zip(figures) {
            row.push(figure);
        }
    }
    Ok(rows)
}

async fn at(crowd: &mut Crowd<'_>, size: usize, amounts: &Amounts) -> Result<Vec<(&'static str, String)>> {
    let say = |what: &str| eprintln!("scale: {size} tenants: {what}");
    say("applied");
    let cpu = cpu_micros(crowd.operator()?)?;
    let Grown { applied, programmed } = crowd.grow(size).await?;
    crowd.rests().await?;
    let cpu = cpu_micros(crowd.operator()?)? - cpu;
    let grown_peak = memory_mib(crowd.operator()?, "VmHWM")?;
    say("at rest");
    let rest = crowd.at_rest(REST).await?;
    say("changed one by one");
    let single = crowd.change_one_by_one(COUNTED).await?;
    say("changed all the time");
    let crowded =
        if size > 1 { Some(crowd.change_at_rate(amounts.changes.unwrap_or(1_000), RATE).await?) } else { None };
    crowded.iter().for_each(tell_slowest);
    sleep(SETTLING).await;
    let steady = memory_mib(crowd.operator()?, "VmRSS")?;
    let replicas: Vec<_> = crowd.platform.pod_processes()?.into_iter().map(i32::cast_unsigned).collect();
    let replicas: Sample = replicas.into_iter().filter_map(|pid| memory_mib(pid, "VmRSS").ok()).collect();
    say("a new operator");
    let Restarted { knows, looked, calls, busiest_second } = crowd.restart().await?;
    let restarted_cpu = cpu_micros(crowd.operator()?)?;
    let peak = memory_mib(crowd.operator()?, "VmHWM")?;
    sleep(SETTLING).await;
    let restarted = memory_mib(crowd.operator()?, "VmRSS")?;
    say("leaders come and go");
    let (mut killed, mut stopped) = (Vec::new(), Vec::new());
    for _ in 0..amounts.rounds {
        killed.push(crowd.new_leader(true).await?.as_secs_f64());
        stopped.push(crowd.new_leader(false).await?.as_secs_f64() * 1e3);
    }
    eprintln!("scale: {COUNTED} changes: {}\nscale: restart: {calls}\nscale: rest: {rest}", single.calls);

    #[expect(clippy::cast_precision_loss, reason = "they are few")]
    let each = |calls: u64, changes: usize| format!("{:.1}", calls as f64 / changes as f64);
    let millis = |Changed { served, .. }: &Changed| {
        let sample: Sample = served.iter().map(|took| took.everywhere().as_secs_f64() * 1e3).collect();
        format!("{:.0} / {:.0}", sample.percentile(50), sample.percentile(99))
    };
    let none = || "–".to_owned();
    Ok(vec![
        ("operator: resident at rest, MiB", format!("{steady:.1}")),
        ("  peak since its start, MiB", format!("{grown_peak:.1}")),
        ("  after a restart: resident / peak, MiB", format!("{restarted:.1} / {peak:.1}")),
        (
            "all applied / all Programmed after, s",
            format!("{:.1} / {:.1}", applied.as_secs_f64(), programmed.as_secs_f64()),
        ),
        ("  operator CPU of it, s", format!("{:.1}", cpu / 1e6)),
        ("requests in 15 s at rest: reads / writes", format!("{} / {}", rest.reads(), rest.writes())),
        (
            "requests a change: reads / writes",
            format!("{} / {}", each(single.calls.reads(), COUNTED), each(single.calls.writes(), COUNTED)),
        ),
        (
            "  under 50 changes/s: reads / writes",
            crowded.as_ref().map_or_else(none, |c| {
                format!("{} / {}", each(c.calls.reads(), c.served.len()), each(c.calls.writes(), c.served.len()))
            }),
        ),
        ("change to every replica, one by one: p50 / p99, ms", millis(&single)),
        ("  under 50 changes/s: p50 / p99, ms", crowded.as_ref().map_or_else(none, millis)),
        (
            "restart: knows every object / looked at all, s",
            format!("{:.1} / {:.1}", knows.as_secs_f64(), looked.as_secs_f64()),
        ),
        ("  operator CPU of it, s", format!("{:.1}", restarted_cpu / 1e6)),
        ("  requests: reads / writes", format!("{} / {}", calls.reads(), calls.writes())),
        ("  requests in the busiest second", format!("{busiest_second:.0}")),
        ("new leader after kill -9, s: median (range)", format!("{:.1}", Sample::from_iter(killed))),
        ("new leader after SIGTERM, ms: median (range)", format!("{:.0}", Sample::from_iter(stopped))),
        ("API replica: resident, MiB: median (range)", format!("{replicas:.0}")),
    ])
}

/// Which changes were the slowest: together in time, or spread, and where they waited.
fn tell_slowest(Changed { served, .. }: &Changed) {
    let began = served.iter().map(|took| took.sent).min();
    let mut slowest: Vec<_> = served.iter().collect();
    slowest.sort_by_key(|took| Reverse(took.everywhere()));
    slowest.truncate(served.len().div_ceil(100) + 2);
    slowest.sort_by_key(|took| took.sent);
    for took in slowest {
        let at = began.map(|began| took.sent - began).unwrap_or_default();
        eprintln!("scale: slow: sent {:.2} s in, {took}", at.as_secs_f64());
    }
}
