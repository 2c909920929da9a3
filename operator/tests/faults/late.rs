//! What a watch that is behind must not do.

use crate::{
    script::{BETA, Deed, SCRIPT, STORES_TOUCHED},
    world::World,
};

const BETA_AGAIN: &str = "
kind: Tenant
metadata: {name: beta}
spec: {hostnames: [beta.example]}
";

#[test]
fn the_end_of_a_tenant_that_the_watch_has_not_told_of_is_not_carried_out_once_more_on_the_next_of_its_name() {
    World::new().with_operator(async |run| {
        for deed in SCRIPT[0].1 {
            run.does(*deed).await;
        }
        run.apply(BETA).await;
        run.rests().await;
        run.wire.hides_ends_of("Tenant");
        run.does(Deed::Delete("Tenant", "beta")).await;
        run.rests().await;
        assert!(run.wire.requests().iter().any(|request| request == "PATCH jobs/beta-purge"));
        run.apply(STORES_TOUCHED).await;
        run.rests().await;
        run.apply(BETA_AGAIN).await;
        run.rests().await;
        let harm = |request: &String| request == "PATCH jobs/beta-purge" || request.starts_with("DELETE configmaps/");
        let done: Vec<_> = run.wire.requests().into_iter().filter(harm).collect();
        assert!(done.is_empty(), "{done:?}");
        assert_eq!(run.wire.guard.violations(), Vec::<String>::new());
    });
}
