//! Wire types and handlers.

use axum::extract::State;
use contract::access::Permission;
use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use uuid::Uuid;

use super::model::{ApiKey, ApiKeyError, DEFAULT_DAYS, MAX_DAYS, MAX_NAME_CHARS, MAX_PER_USER, MAX_SCOPES, NewKey};
use crate::{
    app::App,
    error::{ApiError, Detail},
    extract::{
        Can, Json, Me, Page, PageQuery, Path, Permission as _, Tenant, UserId, Valid, Validate, Violations,
        permissions::{CreateApiKeys, ReadApiKeys, RevokeApiKeys},
    },
    features::auth::{Device, StepUp},
    openapi::routes,
    reply::{Answer, Envelope, ErrorBody, Reply},
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list_api_keys, create_api_key)).routes(routes!(revoke_api_key))
}

/// A key that is wished for.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ApiKeyRequest {
    /// Letters, digits and `.`, `_`, `-`. RoleBindings name a key by it.
    #[schema(example = "nightly-export", max_length = 100)]
    name: String,
    /// What the key may do, as `resource:verb` (`*` stands for all): nothing that you may not.
    #[schema(example = json!(["payments:read"]), max_items = 50)]
    scopes: Vec<String>,
    /// Days until it expires.
    #[serde(default = "default_days", alias = "expires_in_days")]
    #[schema(minimum = 1, maximum = 366, default = 90)]
    expires_in_days: u16,
}

fn default_days() -> u16 {
    DEFAULT_DAYS
}

impl Validate for ApiKeyRequest {
    fn validate(&self, violations: &mut Violations) {
        let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let named = (1..=MAX_NAME_CHARS).contains(&self.name.len()) && self.name.chars().all(word);
        violations.require(named, "name", "INVALID", "use 1 to 100 letters, digits and . _ -");
        let counted = (1..=MAX_SCOPES).contains(&self.scopes.len());
        violations.require(counted, "scopes", "INVALID", "give 1 to 50 scopes such as payments:read");
        for (at, scope) in self.scopes.iter().enumerate() {
            if let Err(error) = scope.parse::<Permission>() {
                violations.add(Detail::new(format!("scopes.{at}"), "INVALID", error.to_string()));
            }
        }
        let lasts = (1..=MAX_DAYS).contains(&self.expires_in_days);
        violations.require(lasts, "expiresInDays", "INVALID", "use 1 to 366 days");
    }
}

/// A key, without what makes it one.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeyOut {
    id: Uuid,
    #[schema(example = "nightly-export")]
    name: String,
    /// How the key begins.
    #[schema(example = "tnt_4fJ2kQ9x")]
    prefix: String,
    #[schema(example = json!(["payments:read"]))]
    scopes: Vec<String>,
    /// For whom it acts.
    user_id: UserId,
    created_at: Timestamp,
    expires_at: Timestamp,
    /// To the minute; absent where it was never used.
    last_used_at: Option<Timestamp>,
}

impl From<ApiKey> for ApiKeyOut {
    fn from(key: ApiKey) -> Self {
        Self {
            id: key.id,
            name: key.name,
            prefix: key.prefix,
            scopes: key.scopes.iter().map(ToString::to_string).collect(),
            user_id: key.user,
            created_at: key.created_at,
            expires_at: key.expires_at,
            last_used_at: key.last_used_at,
        }
    }
}

/// A new key. The only answer that has it.
#[derive(Serialize, ToSchema)]
struct NewApiKeyOut {
    /// For `Authorization: Bearer …` or `X-Api-Key`.
    #[schema(example = "tnt_…")]
    key: String,
    #[serde(flatten)]
    about: ApiKeyOut,
}

#[derive(Serialize, ToSchema)]
struct RevokedOut {
    id: Uuid,
}

/// Keys that count, newest first: one's own, or all of the tenant for who holds `api-keys:read`.
#[utoipa::path(get, path = "/api-keys", operation_id = "list_api_keys", tag = "api-keys", params(PageQuery),
    security(("bearer" = [])), responses(
    (status = 200, description = "A page of keys", body = Envelope<Vec<ApiKeyOut>>),
    (status = 400, description = "A parameter breaks its rule", body = ErrorBody),
    (status = 403, description = "A key asks, and not a person", body = ErrorBody),
))]
async fn list_api_keys(me: Me, State(app): State<App>, tenant: Tenant, page: Page) -> Answer<Vec<ApiKeyOut>> {
    let of = (!me.may(ReadApiKeys::RESOURCE, ReadApiKeys::VERB)).then_some(me.id);
    let (keys, pagination) = app.api_keys.list(tenant.id, &page, of).await?;
    Ok(Reply::ok(keys.into_iter().map(ApiKeyOut::from).collect()).with_pagination(pagination))
}

/// Make a key for a machine that acts for oneself.
#[utoipa::path(post, path = "/api-keys", operation_id = "create_api_key", tag = "api-keys", request_body = ApiKeyRequest,
    security(("bearer" = ["api-keys:create"])), responses(
    (status = 201, description = "The key: it is told this once", body = Envelope<NewApiKeyOut>),
    (status = 400, description = "A field breaks its rule", body = ErrorBody),
    (status = 403, description = "The role does not allow it, a scope reaches further than one's own, or a key asks; or the last proof of who one is is too long ago: `STEP_UP_REQUIRED`", body = ErrorBody),
    (status = 409, description = "Another key has this name, or one has as many keys as anyone may have", body = ErrorBody),
))]
async fn create_api_key(
    _person: StepUp,
    me: Can<CreateApiKeys>,
    State(app): State<App>,
    tenant: Tenant,
    device: Device,
    Valid(Json(body)): Valid<Json<ApiKeyRequest>>,
) -> Answer<NewApiKeyOut> {
    let scopes = body.scopes.iter().filter_map(|scope| scope.parse().ok()).collect();
    let new = NewKey { name: body.name, scopes, days: body.expires_in_days };
    let (key, secret) = app.api_keys.create(&tenant, &me, new, &device).await?;
    let out = NewApiKeyOut { key: secret.expose().to_owned(), about: key.into() };
    Ok(Reply::created(out).with_message("Keep the key: it is not shown again"))
}

/// Revoke a key: one's own, or anybody's for who holds `api-keys:revoke`. It is refused everywhere within a second.
#[utoipa::path(delete, path = "/api-keys/{id}", operation_id = "revoke_api_key", tag = "api-keys",
    params(("id" = Uuid, Path, description = "The key's id")), security(("bearer" = [])), responses(
    (status = 200, description = "Revoked", body = Envelope<RevokedOut>),
    (status = 403, description = "A key asks, and not a person", body = ErrorBody),
    (status = 404, description = "There is none that counts, or it is another's", body = ErrorBody),
))]
async fn revoke_api_key(
    me: Me,
    State(app): State<App>,
    tenant: Tenant,
    device: Device,
    Path(id): Path<Uuid>,
) -> Answer<RevokedOut> {
    let of = (!me.may(RevokeApiKeys::RESOURCE, RevokeApiKeys::VERB)).then_some(me.id);
    app.api_keys.revoke(tenant.id, me.id, id, of, &device).await?;
    Ok(Reply::ok(RevokedOut { id }).with_message("Revoked"))
}

impl From<ApiKeyError> for ApiError {
    fn from(error: ApiKeyError) -> Self {
        match error {
            ApiKeyError::Invalid => Self::invalid_token("The API key is unknown, revoked or expired"),
            ApiKeyError::NoSuchKey => Self::not_found("No such key"),
            ApiKeyError::NameTaken => {
                Self::conflict("Another key has this name: choose another, or revoke that one").with_code("NAME_TAKEN")
            }
            ApiKeyError::ScopeTooFar(scope) => {
                let detail = Detail::new("scopes", "TOO_FAR", format!("{scope} is more than you may do yourself"));
                Self::new(StatusCode::FORBIDDEN, "FORBIDDEN", "A scope reaches further than your own permissions")
                    .with_details(vec![detail])
            }
            ApiKeyError::NameReserved => {
                Self::forbidden("A RoleBinding gives more to a key of this name than you may do: choose another name")
            }
            ApiKeyError::TooMany => {
                Self::conflict(format!("You have {MAX_PER_USER} keys: revoke one first")).with_code("TOO_MANY_KEYS")
            }
            ApiKeyError::Database(error) => error.into(),
        }
    }
}
