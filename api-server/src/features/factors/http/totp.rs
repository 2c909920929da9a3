//! The authenticator app and recovery codes.

use axum::extract::State;
use contract::{Secret, auth::Mfa};
use http::{HeaderValue, header};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;

use super::{ActivatedOut, FactorBody, SiteOf};
use crate::{
    app::App,
    extract::{Can, Json, Me, Path, Tenant, UserId, permissions::UpdateUsers},
    features::auth::{Device, MayEnrol, StepUp},
    openapi::routes,
    reply::{Answer, Envelope, ErrorBody, Reply},
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(get_factors))
        .routes(routes!(set_up_totp))
        .routes(routes!(activate_totp))
        .routes(routes!(disable_totp))
        .routes(routes!(renew_recovery_codes))
        .routes(routes!(admin_remove_factors))
}

/// The signed-in user's second factors.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct FactorsOut {
    /// What the tenant says about second factors: `Off`, `Optional` or `Required`.
    #[schema(value_type = String, example = "Optional")]
    policy: Mfa,
    /// Whether a sign-in with the password asks for a second factor.
    enabled: bool,
    /// What a sign-in can show.
    #[schema(example = json!(["totp", "recoveryCode"]))]
    methods: Vec<&'static str>,
    totp: TotpOut,
    /// How many passkeys there are: `GET /auth/passkeys` lists them.
    #[schema(example = 1)]
    passkeys: i64,
    /// How many recovery codes were not used yet.
    #[schema(example = 10)]
    recovery_codes_left: i64,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct TotpOut {
    enabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    activated_at: Option<Timestamp>,
}

/// What to tell an authenticator app: scan the picture, or type the secret.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct SetupOut {
    /// Base32. SHA-1, six digits, 30 seconds.
    #[schema(example = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP")]
    secret: String,
    #[schema(example = "otpauth://totp/Acme:ada%40example.com?secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP&issuer=Acme")]
    otpauth_url: String,
    /// The URL as a picture: a PNG in a `data:` URL.
    #[schema(example = "data:image/png;base64,iVBORw0KGgo…")]
    qr_code: String,
    /// Until when a code may activate it.
    expires_at: Timestamp,
}

#[derive(Deserialize, ToSchema)]
struct CodeBody {
    /// Of the authenticator app, as it shows it now.
    #[schema(example = "287082")]
    code: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct DisableBody {
    #[schema(format = Password)]
    password: String,
    #[serde(flatten)]
    factor: FactorBody,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct DisabledOut {
    /// How many other sessions of the user ended.
    #[schema(example = 1)]
    sessions_ended: usize,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct RecoveryCodesOut {
    /// Told this once. Each stands in for a factor once; those there were before are void.
    #[schema(example = json!(["k7mq-3xta-b2ny-hc5e"]))]
    recovery_codes: Vec<String>,
}

/// Who lost factors.
#[derive(Serialize, ToSchema)]
struct RemovedOut {
    id: UserId,
    /// What they had.
    #[schema(example = json!(["totp", "recoveryCode"]))]
    removed: Vec<&'static str>,
}

/// The signed-in user's second factors.
#[utoipa::path(get, path = "/auth/2fa", operation_id = "get_factors", tag = "factors", security(("bearer" = [])), responses(
    (status = 200, description = "What there is, and what the tenant asks for", body = Envelope<FactorsOut>),
))]
async fn get_factors(me: Me, State(app): State<App>, tenant: Tenant) -> Answer<FactorsOut> {
    let status = app.factors.status(&tenant, me.id).await?;
    let policy = tenant.auth.mfa;
    Ok(Reply::ok(FactorsOut {
        policy,
        enabled: status.held.any() && policy != Mfa::Off,
        methods: status.held.methods(),
        totp: TotpOut { enabled: status.held.totp, activated_at: status.totp_since },
        passkeys: status.held.passkeys,
        recovery_codes_left: status.held.recovery_codes,
    }))
}

/// Set up an authenticator app. It counts after `POST /auth/2fa/activate`; one that counts already does so until then.
#[utoipa::path(post, path = "/auth/2fa/setup", operation_id = "set_up_totp", tag = "factors", security(("bearer" = [])), responses(
    (status = 200, description = "What to tell the app", body = Envelope<SetupOut>),
    (status = 403, description = "The last proof of who one is is too long ago: `STEP_UP_REQUIRED`", body = ErrorBody),
    (status = 409, description = "The tenant does not use second factors: `MFA_OFF`", body = ErrorBody),
))]
async fn set_up_totp(me: MayEnrol, State(app): State<App>, tenant: Tenant) -> Answer<SetupOut> {
    let setup = app.factors.set_up_totp(&tenant, &me).await?;
    Ok(Reply::ok(SetupOut {
        secret: setup.secret.expose().to_owned(),
        otpauth_url: setup.url,
        qr_code: setup.picture,
        expires_at: setup.expires_at,
    })
    .with_header(header::CACHE_CONTROL, HeaderValue::from_static("no-store")))
}

/// Activate the authenticator app that was set up, with its first code. The user's other sessions end.
#[utoipa::path(post, path = "/auth/2fa/activate", operation_id = "activate_totp", tag = "factors", request_body = CodeBody,
    security(("bearer" = [])), responses(
    (status = 200, description = "It counts from now on; the recovery codes are told this once", body = Envelope<ActivatedOut>),
    (status = 400, description = "The code is wrong", body = ErrorBody),
    (status = 403, description = "The last proof of who one is is too long ago: `STEP_UP_REQUIRED`", body = ErrorBody),
    (status = 409, description = "No app is being set up: `MFA_NOT_SET_UP`", body = ErrorBody),
    (status = 429, description = "Too many attempts", body = ErrorBody),
))]
async fn activate_totp(
    me: MayEnrol,
    State(app): State<App>,
    tenant: Tenant,
    device: Device,
    Json(body): Json<CodeBody>,
) -> Answer<ActivatedOut> {
    let activated = app.factors.activate_totp(&tenant.0, &me, &Secret::new(body.code), &device).await?;
    Ok(Reply::ok(activated.into()).with_message("The second factor is active"))
}

/// Take the authenticator app away, with the password and a code. The user's other sessions end.
#[utoipa::path(post, path = "/auth/2fa/disable", operation_id = "disable_totp", tag = "factors", request_body = DisableBody,
    security(("bearer" = [])), responses(
    (status = 200, description = "Gone; with the last factor the recovery codes go too", body = Envelope<DisabledOut>),
    (status = 400, description = "Password or code are wrong", body = ErrorBody),
    (status = 409, description = "There is none (`NO_FACTOR`), or the tenant demands one and it is the last (`MFA_DEMANDED`)", body = ErrorBody),
    (status = 429, description = "Too many attempts", body = ErrorBody),
))]
async fn disable_totp(
    me: Me,
    State(app): State<App>,
    tenant: Tenant,
    device: Device,
    site: SiteOf,
    Json(body): Json<DisableBody>,
) -> Answer<DisabledOut> {
    let (password, shown) = (Secret::new(body.password), body.factor.required(&site)?);
    let sessions_ended = app.factors.disable_totp(&tenant.0, &me, password, shown, &device).await?;
    Ok(Reply::ok(DisabledOut { sessions_ended }).with_message("The authenticator app is gone"))
}

/// Ten new recovery codes in place of those there were.
#[utoipa::path(post, path = "/auth/2fa/recovery-codes", operation_id = "renew_recovery_codes", tag = "factors",
    security(("bearer" = [])), responses(
    (status = 200, description = "The codes, told this once", body = Envelope<RecoveryCodesOut>),
    (status = 403, description = "The second factor was not shown lately: `STEP_UP_REQUIRED`", body = ErrorBody),
    (status = 409, description = "The account has no second factor: `NO_FACTOR`", body = ErrorBody),
))]
async fn renew_recovery_codes(
    me: StepUp,
    State(app): State<App>,
    tenant: Tenant,
    device: Device,
) -> Answer<RecoveryCodesOut> {
    let codes = app.factors.renew_recovery_codes(&tenant, &me, &device).await?;
    let recovery_codes = codes.iter().map(ToString::to_string).collect();
    Ok(Reply::ok(RecoveryCodesOut { recovery_codes })
        .with_header(header::CACHE_CONTROL, HeaderValue::from_static("no-store")))
}

/// Take all factors of a user who lost them. Their sessions end; the next sign-in takes the password alone, and where the
/// tenant demands a second factor, leads to setting one up.
#[utoipa::path(delete, path = "/admin/users/{id}/factors", operation_id = "admin_remove_factors", tag = "factors",
    params(("id" = UserId, Path, description = "The user's id")), security(("bearer" = ["users:update"])), responses(
    (status = 200, description = "They have no second factor any more", body = Envelope<RemovedOut>),
    (status = 403, description = "The role does not allow it, or the account reaches further", body = ErrorBody),
    (status = 404, description = "No such user in this tenant", body = ErrorBody),
))]
async fn admin_remove_factors(
    me: Can<UpdateUsers>,
    State(app): State<App>,
    tenant: Tenant,
    device: Device,
    Path(id): Path<UserId>,
) -> Answer<RemovedOut> {
    let held = app.factors.remove_all(&tenant, &me, id, &device).await?;
    Ok(Reply::ok(RemovedOut { id, removed: held.methods() }).with_message("Removed"))
}
