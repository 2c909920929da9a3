//! The whole operator against a control plane in the same process, disturbed: killed before or after a write, told that a
//! write failed which did or did not take effect, told of events late, twice, or not at all. Whatever happens on the way,
//! the end is that of an undisturbed run, and on no way is a deleted tenant served, a role widened, or data lost.
//!
//! Time is virtual, so a back-off of minutes costs nothing. `TENANTRY_FAULT_RUNS` says how many runs there are (`all` for
//! every fault at every write and every event); they are spread evenly over all of them, and the number is printed. A
//! failure names its fault, and `TENANTRY_FAULT=<name>` runs that one alone.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic, and their futures are not many"
)]

mod counts;
mod fault;
mod image;
mod node;
mod script;
mod world;

use std::{env, time::Instant};

use fault::Fault;
use world::World;

/// Without a word from outside: few enough for every push, and spread over every kind of fault.
const RUNS: usize = 60;
/// A control plane is made anew after this many runs, so that it stays small.
const RUNS_A_WORLD: usize = 20;

#[test]
#[ignore = "minutes of a core: cargo test -p operator --test faults -- --ignored --nocapture"]
fn a_disturbed_run_ends_as_an_undisturbed_one() {
    let reference = World::run(&mut World::new(), 0, None);
    reference.assert_safe("the undisturbed run");
    assert!(reference.writes > 30, "the script makes the operator write {} times only", reference.writes);
    let faults = chosen(&Fault::all(reference.writes, reference.events));
    let (began, mut world, mut failures) = (Instant::now(), World::new(), Vec::new());
    for (number, fault) in faults.iter().enumerate() {
        if number % RUNS_A_WORLD == RUNS_A_WORLD - 1 {
            world = World::new();
        }
        println!("{}/{}: {fault}", number + 1, faults.len());
        let disturbed = World::run(&mut world, number + 1, Some((*fault, &reference.states)));
        if let Some(difference) = disturbed.difference() {
            failures.push(format!("{fault}: {difference}"));
        }
    }
    println!(
        "{} disturbed runs of {} writes and {} events in {:.0?}",
        faults.len(),
        reference.writes,
        reference.events,
        began.elapsed()
    );
    assert!(failures.is_empty(), "{} of {} failed:\n{}", failures.len(), faults.len(), failures.join("\n\n"));
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
