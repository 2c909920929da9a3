//! Which tenant a request is for: the host says, or the header `X-Tenant` where the platform allows that.

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::{HeaderMap, HeaderName, StatusCode, Uri, header, uri::Authority};

use super::Scope;
use crate::{app::App, error::ApiError, settings::TenantHeader};

const TENANT: HeaderName = HeaderName::from_static("x-tenant");

pub async fn find(State(app): State<App>, scope: Scope, request: Request, next: Next) -> Result<Response, ApiError> {
    let tenant = match request.headers().get(TENANT) {
        Some(name) if app.http.tenant_header == TenantHeader::Allowed => {
            let name = name.to_str().unwrap_or_default();
            app.tenants
                .by_name(name)
                .ok_or_else(|| not_found(format!("No tenant is named {name:?} (header X-Tenant)")))?
        }
        _ => {
            let host =
                host(request.uri(), request.headers()).ok_or_else(|| not_found("The request names no host".into()))?;
            app.tenants.by_host(&host).ok_or_else(|| not_found(format!("No tenant is served at {host:?}")))?
        }
    };
    scope.set_tenant(tenant.clone());
    if tenant.is_suspended() {
        let message = "This tenant is suspended: ask who runs the platform";
        return Err(ApiError::new(StatusCode::FORBIDDEN, "TENANT_SUSPENDED", message));
    }
    Ok(next.run(request).await)
}

/// The host in lower case, without port and final dot. HTTP/2 has it in the URI, HTTP/1.1 in the header.
pub fn host(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    let authority = match uri.authority() {
        Some(authority) => authority.clone(),
        None => authority(headers)?,
    };
    let host = authority.host().trim_end_matches('.').to_ascii_lowercase();
    (!host.is_empty()).then_some(host)
}

fn authority(headers: &HeaderMap) -> Option<Authority> {
    headers.get(header::HOST)?.to_str().ok()?.parse().ok()
}

fn not_found(message: String) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "TENANT_NOT_FOUND", message)
}
