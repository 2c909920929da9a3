//! The second step of a login, and the login by a passkey alone.

use axum::extract::State;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;

use super::{CeremonyOut, FactorBody, PasskeyAnswer, SiteOf};
use crate::{
    app::App,
    extract::{Json, Tenant},
    features::auth::{Device, Keep, SessionOut},
    infra::Token,
    openapi::routes,
    reply::{Answer, Envelope, ErrorBody, Reply},
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(verify_second_factor))
        .routes(routes!(begin_passkey_second_factor))
        .routes(routes!(begin_passkey_login))
        .routes(routes!(finish_passkey_login))
}

/// The second step of a sign-in.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct SecondFactor {
    /// As the first step gave it.
    #[serde(alias = "mfa_token")]
    mfa_token: String,
    #[serde(flatten)]
    factor: FactorBody,
}

/// The login that waits.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct WaitingLogin {
    /// As the first step gave it.
    #[serde(alias = "mfa_token")]
    mfa_token: String,
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(default)]
struct PasskeyLoginOptions {
    /// True for a form whose address field offers passkeys (conditional mediation).
    conditional: bool,
}

/// The second step of a sign-in: show the second factor.
#[utoipa::path(post, path = "/auth/2fa/verify", operation_id = "verify_second_factor", tag = "factors",
    request_body = SecondFactor, responses(
    (status = 200, description = "Signed in", body = Envelope<SessionOut>),
    (status = 400, description = "A field is missing, or there are several proofs", body = ErrorBody),
    (status = 401, description = "The proof is wrong or was used before (`INVALID_MFA_CODE`), or the sign-in is to be begun anew (`INVALID_MFA_TOKEN`)", body = ErrorBody),
    (status = 429, description = "Too many attempts", body = ErrorBody),
))]
async fn verify_second_factor(
    State(app): State<App>,
    tenant: Tenant,
    device: Device,
    site: SiteOf,
    keep: Keep,
    Json(body): Json<SecondFactor>,
) -> Answer<SessionOut> {
    let (token, shown) = (Token::given(&body.mfa_token), body.factor.required(&site)?);
    let entered = app.factors.finish_login(&tenant.0, &token, shown, &device).await?;
    Ok(keep.place(Reply::ok(entered.into()).with_message("Signed in")))
}

/// Begin the second step of a sign-in by a passkey.
#[utoipa::path(post, path = "/auth/2fa/passkey/options", operation_id = "begin_passkey_second_factor", tag = "factors",
    request_body = WaitingLogin, responses(
    (status = 200, description = "For `navigator.credentials.get`; its answer goes to `POST /auth/2fa/verify`", body = Envelope<CeremonyOut>),
    (status = 401, description = "The sign-in is to be begun anew: `INVALID_MFA_TOKEN`", body = ErrorBody),
    (status = 409, description = "The account has no passkey for this host: `NO_FACTOR`", body = ErrorBody),
))]
async fn begin_passkey_second_factor(
    State(app): State<App>,
    tenant: Tenant,
    site: SiteOf,
    Json(body): Json<WaitingLogin>,
) -> Answer<CeremonyOut> {
    let login = Token::given(&body.mfa_token);
    Ok(Reply::ok(app.factors.begin_second_factor(&tenant, site.get()?, &login).await?.into()))
}

/// Begin a sign-in by a passkey, without an address and without a password.
#[utoipa::path(post, path = "/auth/passkeys/login/options", operation_id = "begin_passkey_login", tag = "factors",
    request_body(content = Option<PasskeyLoginOptions>), responses(
    (status = 200, description = "For `navigator.credentials.get`; its answer goes to `POST /auth/passkeys/login`", body = Envelope<CeremonyOut>),
    (status = 409, description = "The tenant has no hostname: `NO_HOST`", body = ErrorBody),
))]
async fn begin_passkey_login(
    State(app): State<App>,
    tenant: Tenant,
    site: SiteOf,
    body: Option<Json<PasskeyLoginOptions>>,
) -> Answer<CeremonyOut> {
    let options = body.map(|Json(body)| body).unwrap_or_default();
    Ok(Reply::ok(app.factors.begin_login(&tenant, site.get()?, options.conditional).await?.into()))
}

/// Sign in by a passkey. It counts as two factors: the device, and the finger or PIN that it asked for.
#[utoipa::path(post, path = "/auth/passkeys/login", operation_id = "finish_passkey_login", tag = "factors",
    request_body = PasskeyAnswer, responses(
    (status = 200, description = "Signed in", body = Envelope<SessionOut>),
    (status = 400, description = "A field is missing or malformed", body = ErrorBody),
    (status = 401, description = "Not known here, not right, or a copy (`INVALID_PASSKEY`), or the ceremony is over (`INVALID_CEREMONY`)", body = ErrorBody),
    (status = 403, description = "The address is to be verified first", body = ErrorBody),
))]
async fn finish_passkey_login(
    State(app): State<App>,
    tenant: Tenant,
    device: Device,
    site: SiteOf,
    keep: Keep,
    Json(body): Json<PasskeyAnswer>,
) -> Answer<SessionOut> {
    let answered = body.read(site.get()?)?;
    let entered = app.factors.finish_passkey_login(&tenant.0, &answered, &device).await?;
    Ok(keep.place(Reply::ok(entered.into()).with_message("Signed in")))
}
