//! Wire types and handlers: roles.

use axum::extract::State;
use contract::RoleName;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;

use super::{
    model::{Holder, Role, Source},
    service::Users,
};
use crate::{
    app::App,
    error::{ApiError, Detail},
    extract::{
        Can, Json, Path, Permission, Principal, Tenant, UserId,
        permissions::{AssignRoles, ReadRoles},
    },
    features::auth::Device,
    openapi::routes,
    reply::{Answer, Envelope, ErrorBody, Reply},
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list_roles))
        .routes(routes!(list_user_roles, assign_role))
        .routes(routes!(remove_role))
}

/// A role that users of the tenant can have.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct RoleOut {
    /// A number for the built-in roles, the name for others.
    #[schema(example = "3")]
    id: String,
    #[schema(value_type = String, example = "VENDOR")]
    name: RoleName,
    description: String,
    /// As `resource:verb`; `*` stands for all.
    #[schema(example = json!(["payments:read"]))]
    permissions: Vec<String>,
    managed_by: ManagedBy,
    /// RoleBindings that declare it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    declared_by: Vec<String>,
}

/// Where a role is decided.
#[derive(Serialize, ToSchema)]
enum ManagedBy {
    /// Every tenant has it.
    BuiltIn,
    /// In the cluster, with kubectl.
    RoleBinding,
}

impl From<Role> for RoleOut {
    fn from(role: Role) -> Self {
        let managed_by = if role.declared_by.is_empty() { ManagedBy::BuiltIn } else { ManagedBy::RoleBinding };
        Self {
            id: role.id,
            name: role.name,
            description: role.description,
            permissions: role.permissions.iter().map(ToString::to_string).collect(),
            managed_by,
            declared_by: role.declared_by,
        }
    }
}

/// A role that a user has.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct HeldRoleOut {
    #[serde(flatten)]
    role: RoleOut,
    source: SourceOut,
    /// Given by this RoleBinding.
    #[serde(skip_serializing_if = "Option::is_none")]
    binding: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    assigned_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
    /// Whether it can only be changed in the cluster, with kubectl.
    read_only: bool,
}

/// Why a user has a role.
#[derive(Serialize, ToSchema)]
enum SourceOut {
    /// It is the account's primary role.
    Primary,
    /// It was given through this API.
    Assigned,
    /// A RoleBinding gives it.
    RoleBinding,
}

pub(super) fn held(holder: Holder) -> Vec<HeldRoleOut> {
    let out = holder.roles.into_iter().map(|(role, source)| {
        let role = RoleOut::from(role);
        let (source, binding, assigned_at, expires_at) = match source {
            Source::Primary => (SourceOut::Primary, None, None, None),
            Source::Assigned(at) => (SourceOut::Assigned, None, Some(at), None),
            Source::Declared(binding, end) => (SourceOut::RoleBinding, Some(binding), None, end),
        };
        let read_only = binding.is_some();
        HeldRoleOut { role, source, binding, assigned_at, expires_at, read_only }
    });
    out.collect()
}

/// Which role to give: `role` by name, or `roleId` by number or name.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Assignment {
    #[schema(example = "VENDOR")]
    role: Option<String>,
    #[serde(alias = "role_id")]
    #[schema(value_type = Option<String>, example = "3")]
    role_id: Option<TextOrNumber>,
}

/// Clients that know roles by number send it as one.
#[derive(Deserialize)]
#[serde(untagged)]
enum TextOrNumber {
    Text(String),
    Number(u32),
}

impl Assignment {
    fn given(self) -> Result<String, ApiError> {
        let id = self.role_id.map(|id| match id {
            TextOrNumber::Text(text) => text,
            TextOrNumber::Number(number) => number.to_string(),
        });
        let missing = || ApiError::validation(vec![Detail::new("role", "REQUIRED", "give role or roleId")]);
        self.role.or(id).ok_or_else(missing)
    }
}

/// The roles of the tenant: built in, and declared by RoleBindings.
#[utoipa::path(get, path = "/roles", operation_id = "list_roles", tag = "roles", security(("bearer" = []), ("apiKey" = [])), responses(
    (status = 200, description = "All roles", body = Envelope<Vec<RoleOut>>),
))]
async fn list_roles(_me: Principal, tenant: Tenant) -> Answer<Vec<RoleOut>> {
    Ok(Reply::ok(Users::roles(&tenant).into_iter().map(RoleOut::from).collect()))
}

/// The roles of a user, each with its source: one's own, or anybody's for who may read roles.
#[utoipa::path(get, path = "/users/{id}/roles", operation_id = "list_user_roles", tag = "roles",
    params(("id" = UserId, Path, description = "The user's id")), security(("bearer" = []), ("apiKey" = [])), responses(
    (status = 200, description = "The roles", body = Envelope<Vec<HeldRoleOut>>),
    (status = 403, description = "Somebody else, and the role does not allow it", body = ErrorBody),
    (status = 404, description = "No such user in this tenant", body = ErrorBody),
))]
async fn list_user_roles(
    me: Principal,
    State(app): State<App>,
    tenant: Tenant,
    Path(id): Path<UserId>,
) -> Answer<Vec<HeldRoleOut>> {
    if !me.is_self(id) && !me.may(ReadRoles::RESOURCE, ReadRoles::VERB) {
        return Err(ApiError::forbidden("Insufficient permissions"));
    }
    Ok(Reply::ok(held(app.users.holder(&tenant.0, id).await?)))
}

/// Give a user a further role. Nobody gives one that reaches further than their own.
#[utoipa::path(post, path = "/users/{id}/roles", operation_id = "assign_role", tag = "roles", request_body = Assignment,
    params(("id" = UserId, Path, description = "The user's id")), security(("bearer" = ["roles:assign"])), responses(
    (status = 201, description = "The user's roles now", body = Envelope<Vec<HeldRoleOut>>),
    (status = 400, description = "No such role", body = ErrorBody),
    (status = 403, description = "The role does not allow it", body = ErrorBody),
    (status = 404, description = "No such user in this tenant", body = ErrorBody),
))]
async fn assign_role(
    me: Can<AssignRoles>,
    State(app): State<App>,
    tenant: Tenant,
    device: Device,
    Path(id): Path<UserId>,
    Json(body): Json<Assignment>,
) -> Answer<Vec<HeldRoleOut>> {
    let role = Users::role(&tenant, &body.given()?)?;
    app.users.assign(&tenant.0, &me, id, &role, &device).await?;
    Ok(Reply::created(held(app.users.holder(&tenant.0, id).await?)).with_message("Given"))
}

/// Take a further role from a user. What a RoleBinding gives is taken there, with kubectl.
#[utoipa::path(delete, path = "/users/{id}/roles/{role}", operation_id = "remove_role", tag = "roles", params(
    ("id" = UserId, Path, description = "The user's id"),
    ("role" = String, Path, description = "The role, by number or name"),
    ), security(("bearer" = ["roles:assign"])), responses(
    (status = 200, description = "The user's roles now", body = Envelope<Vec<HeldRoleOut>>),
    (status = 400, description = "No such role", body = ErrorBody),
    (status = 403, description = "The role does not allow it", body = ErrorBody),
    (status = 404, description = "No such user in this tenant, or not with this role", body = ErrorBody),
    (status = 409, description = "A RoleBinding gives it, or it is the primary role", body = ErrorBody),
))]
async fn remove_role(
    me: Can<AssignRoles>,
    State(app): State<App>,
    tenant: Tenant,
    device: Device,
    Path((id, role)): Path<(UserId, String)>,
) -> Answer<Vec<HeldRoleOut>> {
    let role = Users::role(&tenant, &role)?;
    app.users.take(&tenant.0, &me, id, &role, &device).await?;
    Ok(Reply::ok(held(app.users.holder(&tenant.0, id).await?)).with_message("Taken"))
}
