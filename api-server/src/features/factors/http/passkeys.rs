//! One's passkeys.

use axum::{extract::State, response::IntoResponse};
use http::{HeaderValue, header};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use uuid::Uuid;

use super::{ActivatedOut, CeremonyOut, SiteOf, credential};
use crate::{
    app::App,
    extract::{Json, Me, Path, Tenant, Valid, Validate, Violations},
    features::{
        auth::{Device, MayEnrol, StepUp},
        factors::{model::StoredPasskey, site},
    },
    infra::Token,
    openapi::routes,
    reply::{Answer, Envelope, ErrorBody, Reply},
};

const MAX_NAME_CHARS: usize = 60;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list_passkeys, register_passkey))
        .routes(routes!(begin_passkey_registration))
        .routes(routes!(rename_passkey, delete_passkey))
}

pub fn well_known() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(get_passkey_origins))
}

/// A passkey, as its owner knows it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct PasskeyOut {
    id: Uuid,
    #[schema(example = "Ada's phone")]
    name: String,
    /// The host that it signs in at.
    #[schema(example = "api.acme.example")]
    rp_id: String,
    created_at: Timestamp,
    last_used_at: Option<Timestamp>,
}

impl From<StoredPasskey> for PasskeyOut {
    fn from(passkey: StoredPasskey) -> Self {
        let StoredPasskey { id, name, rp_id, created_at, last_used_at, .. } = passkey;
        Self { id, name, rp_id, created_at, last_used_at }
    }
}

/// A passkey that an authenticator made.
#[derive(Deserialize, ToSchema)]
struct PasskeyRegistrationBody {
    /// As the options came with it. Good once.
    ceremony: String,
    /// What `navigator.credentials.create` gave, as its `toJSON()` has it.
    #[schema(value_type = Object)]
    credential: Value,
    /// To know it again.
    #[serde(default = "unnamed")]
    #[schema(example = "Ada's phone", max_length = 60, default = "Passkey")]
    name: String,
}

fn unnamed() -> String {
    "Passkey".into()
}

impl Validate for PasskeyRegistrationBody {
    fn validate(&self, violations: &mut Violations) {
        name_rules(&self.name, violations);
    }
}

#[derive(Deserialize, ToSchema)]
struct PasskeyName {
    #[schema(example = "Ada's phone", max_length = 60)]
    name: String,
}

impl Validate for PasskeyName {
    fn validate(&self, violations: &mut Violations) {
        name_rules(&self.name, violations);
    }
}

fn name_rules(name: &str, violations: &mut Violations) {
    let fits = (1..=MAX_NAME_CHARS).contains(&name.trim().chars().count()) && !name.chars().any(char::is_control);
    violations.require(fits, "name", "INVALID", "use 1 to 60 characters");
}

#[derive(Serialize, ToSchema)]
struct RegisteredOut {
    passkey: PasskeyOut,
    #[serde(flatten)]
    activated: ActivatedOut,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct PasskeyDeletedOut {
    id: Uuid,
    /// How many other sessions of the user ended.
    #[schema(example = 1)]
    sessions_ended: usize,
}

/// One's passkeys, the oldest first.
#[utoipa::path(get, path = "/auth/passkeys", operation_id = "list_passkeys", tag = "factors", security(("bearer" = [])), responses(
    (status = 200, description = "All of them: 20 at most", body = Envelope<Vec<PasskeyOut>>),
))]
async fn list_passkeys(me: Me, State(app): State<App>, tenant: Tenant) -> Answer<Vec<PasskeyOut>> {
    let passkeys = app.factors.passkeys(tenant.id, me.id).await?;
    Ok(Reply::ok(passkeys.into_iter().map(PasskeyOut::from).collect()))
}

/// Begin to make a passkey.
#[utoipa::path(post, path = "/auth/passkeys/options", operation_id = "begin_passkey_registration", tag = "factors",
    security(("bearer" = [])), responses(
    (status = 200, description = "For `navigator.credentials.create`; its answer goes to `POST /auth/passkeys`", body = Envelope<CeremonyOut>),
    (status = 403, description = "The last proof of who one is is too long ago: `STEP_UP_REQUIRED`", body = ErrorBody),
    (status = 409, description = "One has 20 (`TOO_MANY_PASSKEYS`), or the tenant has no hostname (`NO_HOST`)", body = ErrorBody),
))]
async fn begin_passkey_registration(
    me: MayEnrol,
    State(app): State<App>,
    tenant: Tenant,
    site: SiteOf,
) -> Answer<CeremonyOut> {
    Ok(Reply::ok(app.factors.begin_registration(&tenant, &me, site.get()?).await?.into()))
}

/// Keep the passkey that an authenticator made. It counts at once; with the first factor the other sessions end.
#[utoipa::path(post, path = "/auth/passkeys", operation_id = "register_passkey", tag = "factors",
    request_body = PasskeyRegistrationBody, security(("bearer" = [])), responses(
    (status = 201, description = "It counts from now on; recovery codes come with the first factor", body = Envelope<RegisteredOut>),
    (status = 400, description = "The answer is not right, such as of another origin", body = ErrorBody),
    (status = 401, description = "Not signed in, or the ceremony is over (`INVALID_CEREMONY`)", body = ErrorBody),
    (status = 403, description = "The last proof of who one is is too long ago: `STEP_UP_REQUIRED`", body = ErrorBody),
    (status = 409, description = "It is known already: `PASSKEY_TAKEN`", body = ErrorBody),
))]
async fn register_passkey(
    me: MayEnrol,
    State(app): State<App>,
    tenant: Tenant,
    device: Device,
    site: SiteOf,
    Valid(Json(body)): Valid<Json<PasskeyRegistrationBody>>,
) -> Answer<RegisteredOut> {
    let (ceremony, made) = (Token::given(&body.ceremony), credential(body.credential)?);
    let registering =
        app.factors.finish_registration(&tenant.0, &me, site.get()?, &ceremony, &made, body.name.trim(), &device);
    let (passkey, activated) = registering.await?;
    let out = RegisteredOut { passkey: passkey.into(), activated: activated.into() };
    Ok(Reply::created(out).with_message("The passkey is active"))
}

/// Rename a passkey.
#[utoipa::path(put, path = "/auth/passkeys/{id}", operation_id = "rename_passkey", tag = "factors", request_body = PasskeyName,
    params(("id" = Uuid, Path, description = "The passkey's id")), security(("bearer" = [])), responses(
    (status = 200, description = "The passkey", body = Envelope<PasskeyOut>),
    (status = 400, description = "The name breaks its rule", body = ErrorBody),
    (status = 404, description = "One has no such passkey", body = ErrorBody),
))]
async fn rename_passkey(
    me: Me,
    State(app): State<App>,
    tenant: Tenant,
    device: Device,
    Path(id): Path<Uuid>,
    Valid(Json(body)): Valid<Json<PasskeyName>>,
) -> Answer<PasskeyOut> {
    let passkey = app.factors.rename_passkey(tenant.id, &me, id, body.name.trim(), &device).await?;
    Ok(Reply::ok(passkey.into()).with_message("Renamed"))
}

/// Delete a passkey. The user's other sessions end: it may be that of a device that was lost.
#[utoipa::path(delete, path = "/auth/passkeys/{id}", operation_id = "delete_passkey", tag = "factors",
    params(("id" = Uuid, Path, description = "The passkey's id")), security(("bearer" = [])), responses(
    (status = 200, description = "Gone; with the last factor the recovery codes go too", body = Envelope<PasskeyDeletedOut>),
    (status = 403, description = "The second factor was not shown lately: `STEP_UP_REQUIRED`", body = ErrorBody),
    (status = 404, description = "One has no such passkey", body = ErrorBody),
    (status = 409, description = "The tenant demands a second factor, and it is the last: `MFA_DEMANDED`", body = ErrorBody),
))]
async fn delete_passkey(
    me: StepUp,
    State(app): State<App>,
    tenant: Tenant,
    device: Device,
    Path(id): Path<Uuid>,
) -> Answer<PasskeyDeletedOut> {
    let sessions_ended = app.factors.delete_passkey(&tenant, &me, id, &device).await?;
    Ok(Reply::ok(PasskeyDeletedOut { id, sessions_ended }).with_message("Deleted"))
}

/// The pages from which this host's passkeys may be used (Related Origin Requests, WebAuthn Level 3).
#[utoipa::path(get, path = "/.well-known/webauthn", operation_id = "get_passkey_origins", tag = "factors", responses(
    (status = 200, description = "A list of origins", body = Value,
     example = json!({"origins": ["https://api.acme.example", "https://app.acme.example"]})),
))]
async fn get_passkey_origins(tenant: Tenant) -> impl IntoResponse {
    let origins: Vec<_> = site::origins(&tenant).iter().map(|origin| origin.origin().ascii_serialization()).collect();
    let cache = (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    ([cache], axum::Json(json!({ "origins": origins })))
}
