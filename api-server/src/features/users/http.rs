//! Wire types and handlers: users.

use axum::extract::State;
use contract::RoleName;
use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;

use super::model::{self, Change, FullName, Sort, UserFilter, UsersError};
use crate::{
    app::App,
    error::{ApiError, Detail},
    extract::{
        Can, CurrentUser, Json, Page, PageQuery, Path, Permission, Principal, Query, Tenant, User, UserId, Valid,
        Validate, Violations,
        permissions::{DeleteUsers, ReadUsers, UpdateUsers},
    },
    features::auth::{Asked, Device},
    openapi::routes,
    reply::{Answer, Envelope, ErrorBody, Reply},
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list_users)).routes(routes!(get_user, update_user, delete_user))
}

/// A user, as others of the tenant may see them.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserOut {
    pub id: UserId,
    #[schema(example = "ada@example.com")]
    pub email: String,
    #[schema(example = "Ada Lovelace")]
    pub name: String,
    /// The same as `name`.
    pub full_name: String,
    /// The same as `name`.
    #[serde(rename = "full_name")]
    pub full_name_snake: String,
    pub first_name: Option<String>,
    pub last_name: Option<String>,
    /// The primary role.
    #[schema(value_type = String, example = "USER")]
    pub role: RoleName,
    /// The primary role and those that the tenant's role bindings give. Told of oneself only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>, example = json!(["USER"]))]
    pub roles: Option<Vec<RoleName>>,
    pub email_verified: bool,
    pub is_active: bool,
    pub last_login_at: Option<Timestamp>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// Oneself, with all roles.
impl From<&CurrentUser> for UserOut {
    fn from(user: &CurrentUser) -> Self {
        Self { roles: Some(user.roles()), ..Self::from(&**user.user()) }
    }
}

impl From<&User> for UserOut {
    fn from(user: &User) -> Self {
        Self {
            id: user.id,
            email: user.email.clone(),
            full_name: user.name.clone(),
            full_name_snake: user.name.clone(),
            name: user.name.clone(),
            first_name: user.first_name.clone(),
            last_name: user.last_name.clone(),
            role: user.role.clone(),
            roles: None,
            email_verified: user.email_verified,
            is_active: user.is_active,
            last_login_at: user.last_login_at,
            created_at: user.created_at,
            updated_at: user.updated_at,
        }
    }
}

/// What of a list of users.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
pub struct UserQuery {
    /// Users whose address contains this, in any case.
    email: Option<String>,
    /// Users with this primary role, in any case.
    role: Option<String>,
    is_active: Option<bool>,
    /// The order. A `cursor` goes with the default alone; others are paged by `page` or `offset`.
    #[param(inline)]
    sort: Option<Sort>,
}

impl UserQuery {
    fn read(self, page: &Page) -> Result<(UserFilter, Sort), ApiError> {
        let sort = self.sort.unwrap_or_default();
        let wrong = |field, message| Err(ApiError::validation(vec![Detail::new(field, "INVALID", message)]));
        if sort != Sort::NewestFirst && page.after.is_some() {
            return wrong("cursor", "a cursor goes with sort=-createdAt: use page or offset");
        }
        let role = match self.role.as_deref().map(RoleName::parse) {
            Some(Err(_)) => return wrong("role", "use the name of a role such as VENDOR"),
            Some(Ok(role)) => Some(role),
            None => None,
        };
        Ok((UserFilter { email: self.email, role, is_active: self.is_active }, sort))
    }
}

/// What a user changes about themselves. What is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProfileChange {
    #[serde(alias = "fullName", alias = "full_name")]
    #[schema(example = "Ada King", max_length = 100)]
    name: Option<String>,
    #[serde(alias = "first_name")]
    first_name: Option<String>,
    #[serde(alias = "last_name")]
    last_name: Option<String>,
}

impl ProfileChange {
    pub fn full_name(&self) -> Option<FullName> {
        FullName::of(self.name.as_deref(), self.first_name.as_deref(), self.last_name.as_deref())
    }

    /// Whether a name is meant at all.
    pub fn is_given(&self) -> bool {
        self.name.is_some() || self.first_name.is_some() || self.last_name.is_some()
    }
}

impl Validate for ProfileChange {
    fn validate(&self, violations: &mut Violations) {
        if self.is_given() {
            name_rules(self.full_name().as_ref(), violations);
        }
    }
}

/// The rules of a name, wherever one is given.
pub fn name_rules(name: Option<&FullName>, violations: &mut Violations) {
    match name {
        None => violations.require(false, "name", "REQUIRED", "give a name, or firstName and lastName"),
        Some(name) => violations.require(name.is_short_enough(), "name", "TOO_LONG", "use at most 100 characters"),
    }
}

/// The rules of an address, wherever one is given.
pub fn email_rules(email: &str, violations: &mut Violations) {
    let message = "write an address such as ada@example.com";
    violations.require(model::email(email).is_some(), "email", "INVALID", message);
}

/// Users of the tenant, newest first.
#[utoipa::path(get, path = "/users", operation_id = "list_users", tag = "users", params(PageQuery, UserQuery),
    security(("bearer" = ["users:read"])), responses(
    (status = 200, description = "A page of users", body = Envelope<Vec<UserOut>>),
    (status = 400, description = "A parameter breaks its rule", body = ErrorBody),
    (status = 403, description = "The role does not allow it", body = ErrorBody),
))]
async fn list_users(
    may: Can<ReadUsers>,
    State(app): State<App>,
    tenant: Tenant,
    page: Page,
    Query(query): Query<UserQuery>,
) -> Answer<Vec<UserOut>> {
    list(&may, &app, &tenant, &page, query).await
}

/// The list, whichever path led to it.
pub async fn list(
    _may: &Can<ReadUsers>,
    app: &App,
    tenant: &Tenant,
    page: &Page,
    query: UserQuery,
) -> Answer<Vec<UserOut>> {
    let (filter, sort) = query.read(page)?;
    let (users, pagination) = app.users.list(tenant.id, page, &filter, sort).await?;
    Ok(Reply::ok(users.iter().map(UserOut::from).collect()).with_pagination(pagination))
}

/// One user: oneself, or anybody for who may read users.
#[utoipa::path(get, path = "/users/{id}", operation_id = "get_user", tag = "users",
    params(("id" = UserId, Path, description = "The user's id")), security(("bearer" = []), ("apiKey" = [])), responses(
    (status = 200, description = "The user", body = Envelope<UserOut>),
    (status = 403, description = "Somebody else, and the role does not allow it", body = ErrorBody),
    (status = 404, description = "No such user in this tenant", body = ErrorBody),
))]
async fn get_user(me: Principal, State(app): State<App>, tenant: Tenant, Path(id): Path<UserId>) -> Answer<UserOut> {
    oneself_or::<ReadUsers>(&me, id)?;
    Ok(Reply::ok(UserOut::from(&app.users.find(tenant.id, id).await?)))
}

/// Change a user's name: one's own, or anybody's for who may update users.
#[utoipa::path(put, path = "/users/{id}", operation_id = "update_user", tag = "users", request_body = ProfileChange,
    params(("id" = UserId, Path, description = "The user's id")), security(("bearer" = []), ("apiKey" = [])), responses(
    (status = 200, description = "The user as changed", body = Envelope<UserOut>),
    (status = 400, description = "A field breaks its rule", body = ErrorBody),
    (status = 403, description = "Somebody else, and the role does not allow it", body = ErrorBody),
    (status = 404, description = "No such user in this tenant", body = ErrorBody),
))]
async fn update_user(
    me: Principal,
    State(app): State<App>,
    tenant: Tenant,
    device: Device,
    Path(id): Path<UserId>,
    Valid(Json(body)): Valid<Json<ProfileChange>>,
) -> Answer<UserOut> {
    oneself_or::<UpdateUsers>(&me, id)?;
    let change = Change { name: body.full_name(), ..Change::default() };
    let user = app.users.change(&tenant.0, &me, id, change, &device).await?;
    Ok(Reply::ok(UserOut::from(&user)).with_message("Changed"))
}

/// Delete a user: oneself, or anybody for who may delete users.
///
/// Personal data goes at once; what refers to the account (payments, audit) stays under its id.
#[utoipa::path(delete, path = "/users/{id}", operation_id = "delete_user", tag = "users",
    params(("id" = UserId, Path, description = "The user's id")), security(("bearer" = []), ("apiKey" = [])), responses(
    (status = 200, description = "The account is gone and its sessions have ended", body = Envelope<DeletedOut>),
    (status = 403, description = "Somebody else, and the role does not allow it; or oneself, and the last proof of who one is is too long ago: `STEP_UP_REQUIRED`", body = ErrorBody),
    (status = 404, description = "No such user in this tenant", body = ErrorBody),
))]
async fn delete_user(
    me: Principal,
    State(app): State<App>,
    tenant: Tenant,
    device: Device,
    Path(id): Path<UserId>,
) -> Answer<DeletedOut> {
    oneself_or::<DeleteUsers>(&me, id)?;
    if me.is_self(id) {
        app.auth.step_up(&tenant, me.id, me.session, Asked::Recent).await?;
    }
    app.users.delete(&tenant.0, &me, id, &device).await?;
    Ok(Reply::ok(DeletedOut { id }).with_message("Deleted"))
}

/// Whose account is gone.
#[derive(Serialize, ToSchema)]
pub struct DeletedOut {
    pub id: UserId,
}

/// Everyone may look after themselves; for others it takes a permission.
pub(super) fn oneself_or<P: Permission>(me: &CurrentUser, id: UserId) -> Result<(), ApiError> {
    if me.is_self(id) || me.may(P::RESOURCE, P::VERB) {
        return Ok(());
    }
    Err(ApiError::forbidden("Insufficient permissions"))
}

impl From<UsersError> for ApiError {
    fn from(error: UsersError) -> Self {
        match error {
            UsersError::EmailTaken => Self::conflict("A user with this address exists")
                .with_code("EMAIL_TAKEN")
                .with_details(vec![Detail::new("email", "TAKEN", "sign in, or use another address")]),
            UsersError::QuotaReached => {
                Self::forbidden("This tenant has as many users as its quota allows").with_code("QUOTA_REACHED")
            }
            UsersError::NoSuchUser => Self::not_found("No such user"),
            UsersError::NoSuchRole(role) => Self::validation(vec![Detail::new(
                "role",
                "UNKNOWN",
                format!("{role:?} is no role of this tenant: see GET /roles"),
            )]),
            UsersError::NotAssigned => Self::not_found("The user does not have this role"),
            UsersError::Declared(binding) => Self::conflict(format!(
                "The role is given by the RoleBinding {binding}, which is changed with kubectl and only shown here"
            ))
            .with_code("DECLARED_ROLE"),
            UsersError::Primary => {
                Self::conflict("It is the user's primary role: change it with PUT /admin/users/{id}/role")
                    .with_code("PRIMARY_ROLE")
            }
            UsersError::ReachesFurther => {
                Self::new(StatusCode::FORBIDDEN, "FORBIDDEN", "The role or account reaches further than your own")
            }
            UsersError::HasPassword => {
                Self::conflict("The user has a password already; for another one they use POST /auth/forgot-password")
                    .with_code("HAS_PASSWORD")
            }
            UsersError::Deactivated => {
                Self::conflict("The account is deactivated: activate it with PUT /admin/users/{id} before")
                    .with_code("USER_DEACTIVATED")
            }
            UsersError::Oneself => Self::conflict("Nobody deactivates their own account").with_code("ONESELF"),
            UsersError::Database(error) => error.into(),
        }
    }
}
