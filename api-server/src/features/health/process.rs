//! What this process uses, from `/proc`; zeros where there is none.

use std::fs;

use serde::Serialize;
use utoipa::ToSchema;

/// Linux counts processor time in hundredths of a second for every program, whatever the kernel's own tick is.
const MICROSECONDS_PER_TICK: u64 = 10_000;

#[derive(Serialize, ToSchema)]
pub struct Memory {
    /// Resident bytes.
    #[schema(example = 31_457_280)]
    rss: u64,
}

/// Microseconds of processor time since the start.
#[derive(Serialize, ToSchema)]
pub struct Cpu {
    user: u64,
    system: u64,
}

pub fn memory() -> Memory {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    Memory { rss: kib.unwrap_or(0) * 1024 }
}

pub fn cpu() -> Cpu {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field is the program's name and may hold anything, also blanks: count from behind its bracket.
    let mut fields = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next().and_then(|field| field.parse::<u64>().ok()).unwrap_or(0) * MICROSECONDS_PER_TICK;
    Cpu { user: ticks(), system: ticks() }
}
