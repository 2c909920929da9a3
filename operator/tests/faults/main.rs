//! The whole operator against a control plane in the same process, disturbed: killed before or after a write, told that a
//! write failed which did or did not take effect, told of events late, twice, or not at all. Whatever happens on the way,
//! the end is that of an undisturbed run, and on no way is a deleted tenant served, a role widened, or data lost.
//!
//! Time is virtual, so a back-off of minutes costs nothing. `TENANTRY_FAULT_RUNS` says how many runs there are (`all` for
//! every fault at every write and every event); they are spread evenly over all of them, and the number is printed. A
//! failure names its fault, and `TENANTRY_FAULT=<name>` runs that one alone. Each thread has a control plane of its own.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic, and their futures are not many"
)]

mod counts;
mod fault;
mod guard;
mod image;
mod late;
mod node;
mod script;
mod world;

use std::{
    env,
    num::NonZero,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Instant,
};

use fault::Fault;
use parking_lot::Mutex;
use world::World;

/// Without a word from outside: few enough for every push, and spread over every kind of fault.
const RUNS: usize = 20;
/// A control plane is made anew after this many runs, so that it stays small.
const RUNS_A_WORLD: usize = 20;

#[test]
fn a_disturbed_run_ends_as_an_undisturbed_one() {
    let reference = World::new().run(0, None);
    reference.assert_safe("the undisturbed run");
    assert!(reference.writes > 30, "the script makes the operator write {} times only", reference.writes);
    let faults = chosen(&Fault::all(reference.writes, reference.events));
    let (began, next, failures) = (Instant::now(), AtomicUsize::new(0), Mutex::new(Vec::new()));
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let (mut world, mut runs) = (World::new(), 0);
                while let Some(fault) = faults.get(next.fetch_add(1, Ordering::Relaxed)) {
                    runs += 1;
                    if runs % RUNS_A_WORLD == 0 {
                        world = World::new();
                    }
                    let disturbed = world.run(runs, Some((*fault, &reference.states)));
                    if let Some(difference) = disturbed.difference() {
                        println!("{fault}: {difference}");
                        failures.lock().push(format!("{fault}: {difference}"));
                    }
                }
            });
        }
    });
    let (failures, runs) = (failures.into_inner(), faults.len());
    println!(
        "{runs} disturbed runs of {} writes and {} events in {:.0?}",
        reference.writes,
        reference.events,
        began.elapsed()
    );
    assert!(failures.is_empty(), "{} of {runs} failed:\n{}", failures.len(), failures.join("\n\n"));
}

/// The faults of this run, spread over all there are.
fn chosen(all: &[Fault]) -> Vec<Fault> {
    if let Ok(name) = env::var("TENANTRY_FAULT") {
        return all.iter().filter(|fault| fault.to_string() == name).copied().collect();
    }
    let runs = match env::var("TENANTRY_FAULT_RUNS") {
        Ok(word) if word == "all" => all.len(),
        Ok(number) => number.parse().expect("TENANTRY_FAULT_RUNS is a number, or all"),
        Err(_) => RUNS,
    };
    let runs = runs.min(all.len());
    (0..runs).map(|number| all[number * all.len() / runs]).collect()
}
