//! The document, as the routes say it.

use utoipa::{
    OpenApi as _,
    openapi::{
        Content, OpenApi, Ref, Response, ResponseBuilder, Server,
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};
use utoipa_axum::router::OpenApiRouter;

use crate::{reply, router};

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Tenantry API",
        description = "Payments and identity for many tenants. The host of a request names the tenant. The prefix `/api` means the same as `/api/v1`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    components(schemas(reply::ErrorBody)),
    tags(
        (name = "auth", description = "Prove who you are"),
        (name = "factors", description = "Second factors and passkeys"),
        (name = "users", description = "Who exists in a tenant"),
        (name = "roles", description = "Who may do what"),
        (name = "api-keys", description = "Let machines act for you"),
        (name = "audit", description = "What was done, by whom"),
        (name = "mail", description = "What was sent, and what could not be"),
        (name = "payments", description = "Move money in and out"),
        (name = "service", description = "The service itself"),
    ),
)]
struct Base;

/// The document of all routes.
pub fn document() -> OpenApi {
    finish(router::described(OpenApiRouter::with_openapi(Base::openapi())).into_openapi())
}

/// Adds what belongs to all routes alike.
fn finish(mut document: OpenApi) -> OpenApi {
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some(
            "The access token of `POST /api/v1/auth/login`. A scope beside it names the permission that is asked for.",
        ))
        .build();
    document.components.get_or_insert_default().add_security_scheme("bearer", SecurityScheme::Http(bearer));
    let key = ApiKeyValue::with_description(
        "X-Api-Key",
        "A key of `POST /api/v1/api-keys`; `Authorization: Bearer tnt_…` means the same.",
    );
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("apiKey", SecurityScheme::ApiKey(ApiKey::Header(key)));
    document.servers = Some(vec![Server::new("/")]);
    for (path, item) in &mut document.paths.paths {
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch];
        for operation in operations.into_iter().flatten() {
            let parameters = operation.parameters.as_ref().is_some_and(|all| !all.is_empty());
            let body = operation.request_body.is_some();
            let mut add = |status: &str, description| {
                operation.responses.responses.entry(status.to_owned()).or_insert_with(|| error(description).into());
            };
            if let Some(security) = &mut operation.security {
                add("401", "Not signed in");
                allow_keys(operation.operation_id.as_deref(), security);
            }
            if path.starts_with(router::PREFIX) {
                if body || parameters {
                    add("400", "A field or parameter breaks its rule: `details` says which");
                }
                if body {
                    add("413", "The body has more than 10 MB");
                    add("415", "The body is neither JSON nor a form");
                }
                add("429", "More than a limit of the tenant allows: come again after `Retry-After`");
                add("500", "Our fault; the request's id leads to the cause");
                add("503", "What this stands on does not answer: come again after `Retry-After`");
            }
        }
    }
    document
}

/// Operations that ask for a permission, and for a person besides.
const PERSONS: [&str; 1] = ["create_api_key"];

/// Whoever holds the permission may be a machine: an operation with a scope takes keys, but for [`PERSONS`]'.
fn allow_keys(operation: Option<&str>, security: &mut Vec<SecurityRequirement>) {
    let scoped = serde_json::to_value(&*security).is_ok_and(|all| {
        all.as_array()
            .is_some_and(|all| all.iter().any(|one| one["bearer"].as_array().is_some_and(|scopes| !scopes.is_empty())))
    });
    if scoped && !operation.is_some_and(|id| PERSONS.contains(&id)) {
        security.push(SecurityRequirement::new::<_, [&str; 0], _>("apiKey", []));
    }
}

fn error(description: &str) -> Response {
    let body = || Content::new(Some(Ref::from_schema_name("ErrorBody")));
    ResponseBuilder::new().description(description).content("application/json", body()).build()
}
