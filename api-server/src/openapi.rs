//! The OpenAPI document and the page that shows it, all of it from this binary.

use axum::Router;
use utoipa::{
    OpenApi as _,
    openapi::{
        OpenApi, Server,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};
use utoipa_swagger_ui::SwaggerUi;

use crate::{app::App, reply, router};

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Tenantry API",
        description = "Payments and identity for many tenants. The host of a request names the tenant.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    components(schemas(reply::ErrorBody)),
    tags(
        (name = "auth", description = "Prove who you are"),
        (name = "users", description = "Who exists in a tenant"),
        (name = "payments", description = "Move money in and out"),
        (name = "service", description = "The service itself"),
    ),
)]
struct Base;

/// What the document has besides its routes.
pub fn base() -> OpenApi {
    Base::openapi()
}

/// Adds what belongs to all routes alike.
pub fn finish(mut document: OpenApi) -> OpenApi {
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some("The access token of `POST /api/v1/auth/login`. A scope beside it names the permission that is asked for."))
        .build();
    document.components.get_or_insert_default().add_security_scheme("bearer", SecurityScheme::Http(bearer));
    document.servers = Some(vec![Server::new("/")]);
    document
}

/// `/docs` and `/openapi.json`.
pub fn pages() -> Router<App> {
    Router::new().merge(SwaggerUi::new("/docs").url("/openapi.json", router::document()))
}
