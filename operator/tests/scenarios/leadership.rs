use crds::{Platform, Tenant};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::ConfigMap};
use kube::{Api, api::ListParams};

use crate::world::{PLATFORM, World};

async fn serves(world: &World, name: &str) {
    world.apply::<Tenant>(&format!("metadata: {{name: {name}}}\nspec: {{hostnames: [{name}.example]}}")).await;
    world.until(&format!("{name}-tenant-config"), "written", |_: &ConfigMap| true).await;
}

#[tokio::test]
async fn a_second_operator_takes_over_when_the_first_steps_down() {
    let (world, first) = World::operated().await;
    world.apply::<Platform>(PLATFORM).await;
    serves(&world, "one").await;
    let _second = world.operator("operator-1");
    first.stop().await;
    // Nobody waits for it to run out.
    let leases = Api::<Lease>::all(world.client.clone()).list(&ListParams::default()).await.unwrap();
    let holders: Vec<_> = leases.into_iter().filter_map(|lease| lease.spec?.holder_identity).collect();
    assert!(holders.iter().all(|holder| !holder.starts_with("operator-0")), "{holders:?}");
    serves(&world, "two").await;
}

#[tokio::test]
async fn a_second_operator_takes_over_when_the_first_is_killed() {
    let (world, first) = World::operated().await;
    world.apply::<Platform>(PLATFORM).await;
    serves(&world, "one").await;
    let _second = world.operator("operator-1");
    first.kill();
    serves(&world, "two").await;
}

#[tokio::test]
async fn two_operators_do_the_work_of_one() {
    let (world, _first) = World::operated().await;
    let _second = world.operator("operator-1");
    world.apply::<Platform>(PLATFORM).await;
    for name in ["one", "two", "three"] {
        serves(&world, name).await;
    }
}
