//! Figures, and what the kernel says of a process.

use std::{fmt, fs, thread};

use anyhow::{Context, Result};

/// Microseconds in a tick of /proc/<pid>/stat: USER_HZ is 100 on every Linux.
const TICK_MICROS: f64 = 10_000.0;

/// Measurements of one thing, smallest first. Shown as median and range.
#[derive(Debug, Clone, Default)]
pub struct Sample(Vec<f64>);

impl Sample {
    /// The smallest value that `percent` of all do not exceed.
    pub fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or(f64::NAN)
    }

    pub fn max(&self) -> f64 {
        self.percentile(100)
    }
}

impl FromIterator<f64> for Sample {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut values: Vec<_> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        Self(values)
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(1);
        let least = self.0.first().copied().unwrap_or(f64::NAN);
        let text = format!("{:.digits$} ({least:.digits$}–{:.digits$})", self.percentile(50), self.max());
        f.pad_integral(true, "", &text)
    }
}

pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// What a process has used of the CPU, in user and kernel mode, in microseconds.
pub fn cpu_micros(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the process is gone")?;
    // The second field is a name in brackets that may hold anything.
    let fields = stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ').collect::<Vec<_>>()).unwrap_or_default();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok());
    let (user, kernel) = ticks(11).zip(ticks(12)).context("/proc/<pid>/stat has another form than proc(5) says")?;
    Ok((user + kernel) * TICK_MICROS)
}

/// `VmRSS` (resident now) or `VmHWM` (its peak), in MiB.
pub fn memory_mib(pid: u32, field: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the process is gone")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    Ok(kib.with_context(|| format!("/proc/{pid}/status has no {field}"))? / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_values_that_were_measured() {
        let sample: Sample = (1..=200).rev().map(f64::from).collect();
        assert_eq!((sample.percentile(50), sample.percentile(99), sample.max()), (100.0, 198.0, 200.0));
        assert_eq!(format!("{sample:.0}"), "100 (1–200)");
        assert!(Sample::default().max().is_nan());
    }

    #[test]
    fn the_kernel_knows_us() {
        let me = std::process::id();
        assert!(cpu_micros(me).unwrap() >= 0.0);
        assert!(memory_mib(me, "VmHWM").unwrap() >= memory_mib(me, "VmRSS").unwrap() * 0.5);
        assert!(cpu_micros(u32::MAX).is_err());
    }
}
