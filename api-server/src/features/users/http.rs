//! Wire types and handlers.

use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    app::App,
    error::ApiError,
    extract::{Can, Me, Page, PageQuery, Path, Permission, Query, Tenant, UserId, permissions::ReadUsers},
    features::auth::UserOut,
    reply::{Answer, Envelope, ErrorBody, Reply},
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list_users)).routes(routes!(get_user))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Filter {
    /// Users whose address contains this, in any case.
    email: Option<String>,
}

/// All users of the tenant, newest first.
#[utoipa::path(get, path = "/admin/users", operation_id = "list_users", tag = "users", params(PageQuery, Filter),
    security(("bearer" = ["users:read"])), responses(
    (status = 200, description = "A page of users", body = Envelope<Vec<UserOut>>),
    (status = 400, description = "A parameter breaks its rule", body = ErrorBody),
    (status = 401, description = "Not signed in", body = ErrorBody),
    (status = 403, description = "The role does not allow it", body = ErrorBody),
))]
async fn list_users(
    _may: Can<ReadUsers>,
    State(app): State<App>,
    tenant: Tenant,
    page: Page,
    Query(filter): Query<Filter>,
) -> Answer<Vec<UserOut>> {
    let (users, pagination) = app.auth.users(tenant.id, &page, filter.email.as_deref()).await?;
    Ok(Reply::ok(users.iter().map(UserOut::from).collect()).with_pagination(pagination))
}

/// One user: oneself, or anybody for who may read users.
#[utoipa::path(get, path = "/users/{id}", operation_id = "get_user", tag = "users",
    params(("id" = UserId, Path, description = "The user's id")), security(("bearer" = [])), responses(
    (status = 200, description = "The user", body = Envelope<UserOut>),
    (status = 401, description = "Not signed in", body = ErrorBody),
    (status = 403, description = "Somebody else, and the role does not allow it", body = ErrorBody),
    (status = 404, description = "No such user in this tenant", body = ErrorBody),
))]
async fn get_user(me: Me, State(app): State<App>, tenant: Tenant, Path(id): Path<UserId>) -> Answer<UserOut> {
    if me.id != id && !me.may(ReadUsers::RESOURCE, ReadUsers::VERB) {
        return Err(ApiError::forbidden("Insufficient permissions"));
    }
    let user = app.auth.user(tenant.id, id).await?.ok_or_else(|| ApiError::not_found("No such user"))?;
    Ok(Reply::ok(UserOut::from(&user)))
}
