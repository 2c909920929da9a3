//! Many accounts at once, from another system, with the password hashes that it made.
//!
//! Every row is judged by itself: a bad one is told, and holds up no other. What is written is written in one transaction, so
//! a request that breaks off wrote nothing, and sent again it finds what exists.

use std::sync::Arc;

use axum::extract::State;
use contract::{RoleName, Secret};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;

use super::{
    http::{ProfileChange, email_rules, name_rules},
    model::{self, FullName, UsersError},
    repo,
    service::{Users, may_give, room},
};
use crate::{
    app::App,
    error::{ApiError, Detail},
    extract::{Can, CurrentUser, Json, Tenant, UserId, Valid, Validate, Violations, permissions::CreateUsers},
    features::{
        audit::{self, Entry},
        auth::{Cost, DEFAULT_ROLE, Device, MOST_COSTS, Scheme},
    },
    openapi::routes,
    reply::{Answer, Envelope, ErrorBody, Reply},
    tenancy::TenantSnapshot,
};

const MAX_ROWS: usize = 500;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(import_users))
}

#[derive(Deserialize, ToSchema)]
struct ImportRequest {
    /// At most 500.
    #[schema(max_items = 500)]
    users: Vec<ImportRow>,
}

impl Validate for ImportRequest {
    fn validate(&self, violations: &mut Violations) {
        let counted = (1..=MAX_ROWS).contains(&self.users.len());
        violations.require(counted, "users", "INVALID", "give 1 to 500 users, and more by further requests");
    }
}

/// An account of another system.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ImportRow {
    #[schema(example = "grace@example.com", max_length = 255)]
    email: String,
    #[serde(flatten)]
    name: ProfileChange,
    /// By argon2 (`$argon2id$…`), bcrypt (`$2b$…`) or scrypt (`$scrypt$ln=…`). Without one the user sets a password by way of a
    /// forgotten one, or of `POST /admin/users/{id}/invite`.
    #[serde(alias = "password_hash")]
    #[schema(example = "$2b$12$…", format = Password)]
    password_hash: Option<String>,
    /// The primary role.
    #[schema(example = "CUSTOMER", default = "USER")]
    role: Option<String>,
    /// Whether the other system knew the address to be theirs.
    #[serde(default, alias = "email_verified")]
    email_verified: bool,
}

/// A row, checked.
pub struct Imported {
    pub email: String,
    pub name: FullName,
    pub password_hash: Option<Secret>,
    pub role: RoleName,
    pub email_verified: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Fate {
    Created,
    /// A user with this address is there already, and was left as they are.
    Exists,
    /// The details say why.
    Refused,
}

/// What became of a row.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct RowOut {
    /// Its place in the request, from 0.
    index: usize,
    result: Fate,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<UserId>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    details: Vec<Detail>,
}

#[derive(Serialize, ToSchema)]
struct ImportOut {
    #[schema(example = 1)]
    created: usize,
    exists: usize,
    refused: usize,
    rows: Vec<RowOut>,
}

/// Bring accounts along from another system, with their password hashes.
///
/// Each row is judged by itself. Nobody imports a role that reaches further than their own.
#[utoipa::path(post, path = "/admin/users/import", operation_id = "import_users", tag = "users", request_body = ImportRequest,
    security(("bearer" = ["users:create"])), responses(
    (status = 200, description = "What became of each row", body = Envelope<ImportOut>),
    (status = 400, description = "The request is no list of 1 to 500 rows", body = ErrorBody),
    (status = 403, description = "The role does not allow it", body = ErrorBody),
))]
async fn import_users(
    me: Can<CreateUsers>,
    State(app): State<App>,
    tenant: Tenant,
    device: Device,
    Valid(Json(body)): Valid<Json<ImportRequest>>,
) -> Answer<ImportOut> {
    let rows = app.users.import(&tenant.0, &me, body.users, &device).await?;
    let count = |fate| rows.iter().filter(|row| row.result == fate).count();
    let out =
        ImportOut { created: count(Fate::Created), exists: count(Fate::Exists), refused: count(Fate::Refused), rows };
    Ok(Reply::ok(out))
}

impl ImportRow {
    fn check(self, tenant: &TenantSnapshot, by: &CurrentUser) -> Result<Imported, Vec<Detail>> {
        let mut violations = Violations::default();
        email_rules(&self.email, &mut violations);
        let name = self.name.full_name();
        name_rules(name.as_ref(), &mut violations);
        if let Some(Err(unusable)) = self.password_hash.as_deref().map(Scheme::of) {
            violations.add(Detail::new("passwordHash", "INVALID", unusable.to_string()));
        }
        let role = Users::role(tenant, self.role.as_deref().unwrap_or(DEFAULT_ROLE));
        let role = role.and_then(|role| may_give(tenant, by, &role).map(|()| role)).map_err(|error| match error {
            UsersError::ReachesFurther => Detail::new("role", "TOO_FAR", "it reaches further than your own"),
            other => Detail::new("role", "UNKNOWN", other.to_string()),
        });
        match (model::email(&self.email), name, role, violations.into_details()) {
            (Some(email), Some(name), Ok(role), faults) if faults.is_empty() => {
                let (password_hash, email_verified) = (self.password_hash.map(Secret::new), self.email_verified);
                Ok(Imported { email, name, password_hash, role, email_verified })
            }
            (.., role, mut faults) => {
                faults.extend(role.err());
                Err(faults)
            }
        }
    }
}

/// Whether a row's hash is of a cost that the tenant has, or may have besides. Each makes attempts to sign in that fail dearer.
fn may_cost(costs: &mut Vec<Cost>, new: &Imported) -> Result<(), Detail> {
    let Some(cost) = new.password_hash.as_ref().map(|hash| Cost::of(hash.expose())) else { return Ok(()) };
    if costs.contains(&cost) {
        return Ok(());
    }
    if costs.len() >= MOST_COSTS {
        let message = format!(
            "the accounts of this tenant have hashes of {MOST_COSTS} costs: import those of another when one is gone, or leave \
             the hash out"
        );
        return Err(Detail::new("passwordHash", "TOO_MANY_COSTS", message));
    }
    costs.push(cost);
    Ok(())
}

impl Users {
    async fn import(
        &self,
        tenant: &Arc<TenantSnapshot>,
        by: &CurrentUser,
        rows: Vec<ImportRow>,
        device: &Device,
    ) -> Result<Vec<RowOut>, ApiError> {
        let checked: Vec<_> = rows.into_iter().map(|row| row.check(tenant, by)).collect();
        let now = self.clock.now();
        let mut tx = self.db.begin(tenant.id).await?;
        let mut left = room(&mut tx, tenant).await?;
        let mut costs = repo::password_costs(&mut tx).await?;
        let mut fates = Vec::with_capacity(checked.len());
        for (index, row) in checked.iter().enumerate() {
            let (result, id, details) = match row {
                Err(details) => (Fate::Refused, None, details.clone()),
                Ok(_) if left == 0 => {
                    let full =
                        Detail::new("users", "QUOTA_REACHED", "the tenant has as many users as its quota allows");
                    (Fate::Refused, None, vec![full])
                }
                Ok(new) => match may_cost(&mut costs, new) {
                    Err(detail) => (Fate::Refused, None, vec![detail]),
                    Ok(()) => match repo::import_user(&mut tx, new, now).await? {
                        Some(id) => (Fate::Created, Some(id), vec![]),
                        None => (Fate::Exists, None, vec![]),
                    },
                },
            };
            left = left.saturating_sub(id.is_some().into());
            fates.push(RowOut { index, result, id, details });
        }
        // Last, because the chain is held from here on.
        for (row, fate) in checked.iter().zip(&fates) {
            if let (Ok(new), Some(id)) = (row, fate.id) {
                let entry = Entry::on_user(id, "IMPORT").by(by.id).from(device).with(json!({ "role": new.role }));
                audit::record_in_tx(&mut tx, &entry, now).await?;
            }
        }
        tx.commit().await?;
        Ok(fates)
    }
}
