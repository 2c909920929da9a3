//! What every world of these tests begins with.

use std::time::Duration;

use apiserver::{Handle, Options, Server};
use k8s_openapi::{
    api::core::v1::Namespace, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{ObjectMeta, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    runtime::wait,
};

pub const NAMESPACE: &str = "shop";
/// Nothing here takes long; what takes this long does not happen.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// An API server with the kinds and a namespace, and its administrator's client.
pub async fn control_plane() -> (Handle, Client) {
    // The first test of the process installs it.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let server = Server::start(Options::default()).await.unwrap();
    let kubeconfig = Kubeconfig::from_yaml(&server.kubeconfig()).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    let client = Client::try_from(config).unwrap();
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in crds::all_crds() {
        definitions.create(&PostParams::default(), &crd).await.unwrap();
        let (name, established) = (crd.name_any(), wait::conditions::is_crd_established());
        let established = wait::await_condition(definitions.clone(), &name, established);
        tokio::time::timeout(PATIENCE, established).await.unwrap().unwrap();
    }
    let metadata = ObjectMeta { name: Some(NAMESPACE.into()), ..ObjectMeta::default() };
    let namespace = Namespace { metadata, ..Namespace::default() };
    Api::all(client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
    (server, client)
}
