//! Who a pod is to the control plane: its ServiceAccount, by a token, so that its Role counts.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::{Pod, ServiceAccount},
};
use kube::{
    Api, ResourceExt,
    api::PostParams,
    config::{AuthInfo, Kubeconfig},
};

use super::{Settings, volumes};

/// Longer than a world lives: nothing renews it.
const SECONDS: i64 = 24 * 3600;

/// A kubeconfig with the token of the pod's ServiceAccount; ours, where the control plane issues no tokens.
pub async fn kubeconfig(settings: &Settings, pod: &Pod) -> Result<PathBuf> {
    let spec = pod.spec.clone().unwrap_or_default();
    let account = spec.service_account_name.unwrap_or_else(|| "default".into());
    let api: Api<ServiceAccount> = settings.api_in(&pod.namespace().unwrap_or_default());
    let request = TokenRequest {
        spec: Some(TokenRequestSpec { expiration_seconds: Some(SECONDS), ..TokenRequestSpec::default() }),
        ..TokenRequest::default()
    };
    let issued: TokenRequest = match api.create_subresource("token", &account, &PostParams::default(), &request).await {
        Ok(issued) => issued,
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 405) => return Ok(settings.kubeconfig.clone()),
        Err(error) => return Err(error).with_context(|| format!("no token for ServiceAccount {account}")),
    };
    let mut config = Kubeconfig::read_from(&settings.kubeconfig)?;
    for user in &mut config.auth_infos {
        let token = issued.status.as_ref().and_then(|status| status.token.clone()).map(Into::into);
        user.auth_info = Some(AuthInfo { token, ..AuthInfo::default() });
    }
    let folder = volumes::folder(settings, pod);
    fs::create_dir_all(&folder)?;
    let path = folder.join("kubeconfig");
    fs::write(&path, serde_json::to_string(&config)?)?;
    Ok(path)
}
