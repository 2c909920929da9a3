//! What a change costs the API server: counted, with one Tenant and with many.

use std::time::Duration;

use tokio::time::sleep;

use crate::{
    script::{SCRIPT, STORES_TOUCHED},
    world::{Run, World},
};

/// Enough that a look at each of them would be seen.
const MANY: usize = 40;

fn tenant(number: usize, display_name: &str) -> String {
    format!(
        "kind: Tenant\nmetadata: {{name: tenant-{number}}}\nspec: {{displayName: {display_name}, hostnames: [t{number}.example]}}"
    )
}

/// A platform with so many tenants, at rest.
async fn serve(run: &mut Run<'_>, tenants: usize) {
    for deed in SCRIPT[0].1 {
        run.does(*deed).await;
    }
    run.rests().await;
    for number in 0..tenants {
        run.apply(&tenant(number, "Before")).await;
    }
    run.rests().await;
    run.wire.requests();
}

/// The requests that belong to Tenants; a Platform looks at itself every ten minutes.
fn of_tenants(requests: Vec<String>) -> Vec<String> {
    let mut requests: Vec<_> = requests.into_iter().filter(|request| request.contains("tenant-")).collect();
    requests.sort();
    requests
}

#[test]
fn a_change_of_one_tenant_costs_the_same_among_many_and_its_status_is_written_once() {
    let change = |tenants| {
        World::new().with_operator(async |run| {
            serve(run, tenants).await;
            run.apply(&tenant(0, "After")).await;
            run.rests().await;
            of_tenants(run.wire.requests())
        })
    };
    let alone = change(1);
    assert_eq!(
        alone,
        [
            "GET configmaps/tenant-0-tenant-config",
            "GET secrets/tenant-0-signing-key",
            "PATCH configmaps/tenant-0-tenant-config",
            "PATCH tenants/tenant-0/status",
        ]
    );
    assert_eq!(change(MANY), alone);
}

#[test]
fn a_new_tenant_is_written_once() {
    World::new().with_operator(async |run| {
        serve(run, 1).await;
        run.apply(&tenant(1, "New")).await;
        run.rests().await;
        let written = run.wire.requests().into_iter().filter(|request| request == "PATCH tenants/tenant-1/status");
        assert_eq!(written.count(), 1);
    });
}

/// The statuses that one change writes when the replicas take so long to load it.
fn statuses_written(lag: Duration) -> usize {
    World::new().with_operator(async |run| {
        serve(run, 1).await;
        run.replica.lags(lag);
        run.apply(&tenant(0, "After")).await;
        run.rests().await;
        run.wire.requests().iter().filter(|request| *request == "PATCH tenants/tenant-0/status").count()
    })
}

#[test]
fn a_change_that_is_slow_to_be_loaded_is_written_once_and_one_that_hangs_is_said_to() {
    assert_eq!(statuses_written(Duration::from_millis(300)), 1);
    assert_eq!(statuses_written(Duration::from_millis(700)), 1);
    assert_eq!(statuses_written(Duration::from_secs(3)), 2, "that it is not there yet, and that it is");
}

#[test]
fn a_visit_that_takes_its_time_says_so_and_then_what_came_of_it() {
    World::new().with_operator(async |run| {
        serve(run, 1).await;
        run.wire.lags(Duration::from_secs(2));
        run.apply(&tenant(0, "After")).await;
        sleep(Duration::from_millis(1_500)).await;
        let begun = run.wire.requests();
        assert!(begun.contains(&"PATCH tenants/tenant-0/status".to_owned()), "it says that it is on it: {begun:?}");
        assert!(!begun.contains(&"PATCH configmaps/tenant-0-tenant-config".to_owned()), "{begun:?}");
        run.rests().await;
        let written = run.wire.requests().into_iter().filter(|request| request == "PATCH tenants/tenant-0/status");
        assert_eq!(written.count(), 1);
    });
}

#[test]
fn fifty_changes_a_second_write_each_status_once() {
    World::new().with_operator(async |run| {
        serve(run, MANY).await;
        // Loads them one after the other, and falls behind.
        run.replica.lags(Duration::from_millis(30));
        for number in 0..MANY {
            run.apply(&tenant(number, "After")).await;
            sleep(Duration::from_millis(20)).await;
        }
        run.rests().await;
        let written =
            of_tenants(run.wire.requests()).into_iter().filter(|request| request.starts_with("PATCH tenants/"));
        assert_eq!(written.count(), MANY);
    });
}

#[test]
fn at_rest_nothing_is_asked_and_nothing_written() {
    World::new().with_operator(async |run| {
        serve(run, 3).await;
        sleep(Duration::from_hours(1)).await;
        assert_eq!(of_tenants(run.wire.requests()), [""; 0]);
    });
}

#[test]
fn a_new_operator_reads_each_tenant_at_a_bounded_pace_and_writes_nothing() {
    World::new().with_operator(async |run| {
        serve(run, MANY).await;
        let took = run.restarts().await;
        let requests = of_tenants(run.wire.requests());
        assert_eq!(requests.len(), 2 * MANY, "{requests:?}");
        assert!(requests.iter().all(|request| request.starts_with("GET ")), "{requests:?}");
        // Two hundred a second.
        let pace = Duration::from_millis(5) * u32::try_from(MANY - 1).unwrap();
        assert!(took >= pace, "{took:?}");
    });
}

#[test]
fn a_platform_that_is_looked_at_again_applies_only_what_differs() {
    World::new().with_operator(async |run| {
        serve(run, 1).await;
        // It counts one more.
        run.apply(&tenant(1, "Another")).await;
        run.rests().await;
        let requests = run.wire.requests();
        assert!(requests.contains(&"PATCH platforms/main/status".to_owned()), "{requests:?}");
        for kind in [
            "serviceaccounts",
            "roles",
            "rolebindings",
            "poddisruptionbudgets",
            "services",
            "deployments",
            "configmaps",
        ] {
            let written = requests.iter().filter(|request| request.starts_with(&format!("PATCH {kind}/main")));
            assert_eq!(written.count(), 0, "{kind}: {requests:?}");
        }
    });
}

#[test]
fn a_platform_that_is_looked_at_again_and_stands_costs_no_write() {
    World::new().with_operator(async |run| {
        serve(run, 1).await;
        run.apply(STORES_TOUCHED).await;
        run.rests().await;
        let requests = run.wire.requests();
        assert!(requests.contains(&"GET secrets/db".to_owned()), "it was not looked at: {requests:?}");
        let writes: Vec<_> = requests.iter().filter(|request| !request.starts_with("GET ")).collect();
        assert_eq!(writes, [""; 0]);
    });
}
