//! Wire types and handlers: accounts, as an administrator looks after them.

use axum::extract::State;
use contract::Secret;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;

use super::{
    http::{DeletedOut, ProfileChange, UserOut, UserQuery, email_rules, list, name_rules},
    model::{self, Change, NewAccount},
    service::Users,
};
use crate::{
    app::App,
    error::ApiError,
    extract::{
        Can, Json, Page, PageQuery, Path, Permission, Query, Tenant, UserId, Valid, Validate, Violations,
        permissions::{AssignRoles, CreateUsers, DeleteUsers, ReadUsers, UpdateUsers},
    },
    features::auth::{DEFAULT_ROLE, Device},
    openapi::routes,
    reply::{Answer, Envelope, ErrorBody, Reply},
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(admin_list_users, admin_create_user))
        .routes(routes!(create_user))
        .routes(routes!(admin_get_user, admin_update_user, admin_delete_user))
        .routes(routes!(admin_set_role))
        .routes(routes!(admin_unlock_user))
}

/// Somebody for whom an account is made.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct NewUserBody {
    #[schema(example = "grace@example.com", max_length = 255)]
    email: String,
    #[serde(flatten)]
    name: ProfileChange,
    /// Held to the tenant's password policy. Without one its owner is mailed an invitation to choose it.
    #[schema(example = "Correct-Horse-7", max_length = 100, format = Password)]
    password: Option<String>,
    /// False, without a password: nothing is mailed. For who signs in with a provider of identity, or is invited later.
    #[serde(default = "yes")]
    #[schema(default = true)]
    invite: bool,
    /// The primary role.
    #[schema(example = "VENDOR", default = "USER")]
    role: Option<String>,
}

fn yes() -> bool {
    true
}

impl Validate for NewUserBody {
    fn validate(&self, violations: &mut Violations) {
        email_rules(&self.email, violations);
        name_rules(self.name.full_name().as_ref(), violations);
    }
}

/// What an administrator changes about an account. What is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct AccountChange {
    #[serde(flatten)]
    name: ProfileChange,
    /// The new address counts as not verified.
    #[schema(example = "grace@example.com", max_length = 255)]
    email: Option<String>,
    /// The primary role.
    #[schema(example = "VENDOR")]
    role: Option<String>,
    /// False bans the user: all sessions end at once.
    #[serde(alias = "is_active")]
    is_active: Option<bool>,
}

impl Validate for AccountChange {
    fn validate(&self, violations: &mut Violations) {
        self.name.validate(violations);
        if let Some(email) = &self.email {
            email_rules(email, violations);
        }
    }
}

/// The primary role to have from now on.
#[derive(Deserialize, ToSchema)]
struct RoleChange {
    #[schema(example = "VENDOR")]
    role: String,
}

/// Users of the tenant, newest first.
#[utoipa::path(get, path = "/admin/users", operation_id = "admin_list_users", tag = "users", params(PageQuery, UserQuery),
    security(("bearer" = ["users:read"])), responses(
    (status = 200, description = "A page of users", body = Envelope<Vec<UserOut>>),
    (status = 400, description = "A parameter breaks its rule", body = ErrorBody),
    (status = 403, description = "The role does not allow it", body = ErrorBody),
))]
async fn admin_list_users(
    may: Can<ReadUsers>,
    State(app): State<App>,
    tenant: Tenant,
    page: Page,
    Query(query): Query<UserQuery>,
) -> Answer<Vec<UserOut>> {
    list(&may, &app, &tenant, &page, query).await
}

/// Make an account for somebody.
///
/// Without a password they are mailed an invitation: a link, good once and for 7 days, to choose one with
/// `POST /auth/reset-password`. That verifies the address too.
#[utoipa::path(post, path = "/admin/users", operation_id = "admin_create_user", tag = "users", request_body = NewUserBody,
    security(("bearer" = ["users:create"])), responses(
    (status = 201, description = "The account exists", body = Envelope<UserOut>),
    (status = 400, description = "A field breaks its rule", body = ErrorBody),
    (status = 403, description = "The role does not allow it, or the quota is reached", body = ErrorBody),
    (status = 409, description = "A user with this address exists; or a mail is needed, and the platform sends none: `MAIL_NOT_CONFIGURED`", body = ErrorBody),
    (status = 429, description = "Too many mails went to this address", body = ErrorBody),
    (status = 503, description = "Too many are signing in: come again after `Retry-After`", body = ErrorBody),
))]
async fn admin_create_user(
    me: Can<CreateUsers>,
    State(app): State<App>,
    tenant: Tenant,
    device: Device,
    Valid(Json(body)): Valid<Json<NewUserBody>>,
) -> Answer<UserOut> {
    let (Some(email), Some(name)) = (model::email(&body.email), body.name.full_name()) else {
        return Err(ApiError::internal("a checked account without address or name"));
    };
    let role = Users::role(&tenant, body.role.as_deref().unwrap_or(DEFAULT_ROLE))?;
    let invited = body.invite && body.password.is_none();
    let new = NewAccount { email, name, password: body.password.map(Secret::new), invite: body.invite, role };
    let user = app.users.create(&tenant.0, &me, new, &device).await?;
    let message = if invited { "Created: an invitation is on its way" } else { "Created" };
    Ok(Reply::created(UserOut::from(&user)).with_message(message))
}

/// Make an account for somebody: the same as `POST /admin/users`.
#[utoipa::path(post, path = "/users", operation_id = "create_user", tag = "users", request_body = NewUserBody,
    security(("bearer" = ["users:create"])), responses(
    (status = 201, description = "The account exists", body = Envelope<UserOut>),
    (status = 400, description = "A field breaks its rule", body = ErrorBody),
    (status = 403, description = "The role does not allow it, or the quota is reached", body = ErrorBody),
    (status = 409, description = "A user with this address exists; or a mail is needed, and the platform sends none: `MAIL_NOT_CONFIGURED`", body = ErrorBody),
    (status = 429, description = "Too many mails went to this address", body = ErrorBody),
    (status = 503, description = "Too many are signing in: come again after `Retry-After`", body = ErrorBody),
))]
async fn create_user(
    me: Can<CreateUsers>,
    app: State<App>,
    tenant: Tenant,
    device: Device,
    body: Valid<Json<NewUserBody>>,
) -> Answer<UserOut> {
    admin_create_user(me, app, tenant, device, body).await
}

/// One user.
#[utoipa::path(get, path = "/admin/users/{id}", operation_id = "admin_get_user", tag = "users",
    params(("id" = UserId, Path, description = "The user's id")), security(("bearer" = ["users:read"])), responses(
    (status = 200, description = "The user", body = Envelope<UserOut>),
    (status = 403, description = "The role does not allow it", body = ErrorBody),
    (status = 404, description = "No such user in this tenant", body = ErrorBody),
))]
async fn admin_get_user(
    _may: Can<ReadUsers>,
    State(app): State<App>,
    tenant: Tenant,
    Path(id): Path<UserId>,
) -> Answer<UserOut> {
    Ok(Reply::ok(UserOut::from(&app.users.find(tenant.id, id).await?)))
}

/// Change an account: name, address, primary role, or whether it may sign in.
#[utoipa::path(put, path = "/admin/users/{id}", operation_id = "admin_update_user", tag = "users", request_body = AccountChange,
    params(("id" = UserId, Path, description = "The user's id")), security(("bearer" = ["users:update"])), responses(
    (status = 200, description = "The user as changed", body = Envelope<UserOut>),
    (status = 400, description = "A field breaks its rule", body = ErrorBody),
    (status = 403, description = "The role does not allow it, or the account reaches further", body = ErrorBody),
    (status = 404, description = "No such user in this tenant", body = ErrorBody),
    (status = 409, description = "Another user has this address", body = ErrorBody),
))]
async fn admin_update_user(
    me: Can<UpdateUsers>,
    State(app): State<App>,
    tenant: Tenant,
    device: Device,
    Path(id): Path<UserId>,
    Valid(Json(body)): Valid<Json<AccountChange>>,
) -> Answer<UserOut> {
    let role = body.role.as_deref().map(|role| Users::role(&tenant, role)).transpose()?;
    if role.is_some() && !me.may(AssignRoles::RESOURCE, AssignRoles::VERB) {
        return Err(ApiError::forbidden("A role is given by who holds roles:assign"));
    }
    let email = body.email.as_deref().and_then(model::email);
    let change = Change { name: body.name.full_name(), email, role, is_active: body.is_active };
    let user = app.users.change(&tenant.0, &me, id, change, &device).await?;
    Ok(Reply::ok(UserOut::from(&user)).with_message("Changed"))
}

/// Delete an account.
#[utoipa::path(delete, path = "/admin/users/{id}", operation_id = "admin_delete_user", tag = "users",
    params(("id" = UserId, Path, description = "The user's id")), security(("bearer" = ["users:delete"])), responses(
    (status = 200, description = "The account is gone and its sessions have ended", body = Envelope<DeletedOut>),
    (status = 403, description = "The role does not allow it, or the account reaches further", body = ErrorBody),
    (status = 404, description = "No such user in this tenant", body = ErrorBody),
))]
async fn admin_delete_user(
    me: Can<DeleteUsers>,
    State(app): State<App>,
    tenant: Tenant,
    device: Device,
    Path(id): Path<UserId>,
) -> Answer<DeletedOut> {
    app.users.delete(&tenant.0, &me, id, &device).await?;
    Ok(Reply::ok(DeletedOut { id }).with_message("Deleted"))
}

/// Set a user's primary role.
#[utoipa::path(put, path = "/admin/users/{id}/role", operation_id = "admin_set_role", tag = "roles", request_body = RoleChange,
    params(("id" = UserId, Path, description = "The user's id")), security(("bearer" = ["roles:assign"])), responses(
    (status = 200, description = "The user as changed; open sessions have the role at once", body = Envelope<UserOut>),
    (status = 400, description = "No such role", body = ErrorBody),
    (status = 403, description = "The role does not allow it, or the account reaches further", body = ErrorBody),
    (status = 404, description = "No such user in this tenant", body = ErrorBody),
))]
async fn admin_set_role(
    me: Can<AssignRoles>,
    State(app): State<App>,
    tenant: Tenant,
    device: Device,
    Path(id): Path<UserId>,
    Json(body): Json<RoleChange>,
) -> Answer<UserOut> {
    let change = Change { role: Some(Users::role(&tenant, &body.role)?), ..Change::default() };
    let user = app.users.change(&tenant.0, &me, id, change, &device).await?;
    Ok(Reply::ok(UserOut::from(&user)).with_message("Changed"))
}

/// Let an account be signed in to again at once, after too many failed attempts.
#[utoipa::path(post, path = "/admin/users/{id}/unlock", operation_id = "admin_unlock_user", tag = "users",
    params(("id" = UserId, Path, description = "The user's id")), security(("bearer" = ["users:update"])), responses(
    (status = 200, description = "The user; their failed attempts are forgotten", body = Envelope<UserOut>),
    (status = 403, description = "The role does not allow it", body = ErrorBody),
    (status = 404, description = "No such user in this tenant", body = ErrorBody),
))]
async fn admin_unlock_user(
    me: Can<UpdateUsers>,
    State(app): State<App>,
    tenant: Tenant,
    device: Device,
    Path(id): Path<UserId>,
) -> Answer<UserOut> {
    let user = app.users.unlock(tenant.id, &me, id, &device).await?;
    Ok(Reply::ok(UserOut::from(&user)).with_message("Unlocked"))
}
