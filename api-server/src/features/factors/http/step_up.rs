//! To prove again who one is.

use axum::extract::State;
use contract::Secret;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;

use super::{CeremonyOut, FactorBody, SiteOf};
use crate::{
    app::App,
    error::{ApiError, Detail},
    extract::{Json, Me, Tenant},
    features::auth::{Device, RECENT},
    openapi::routes,
    reply::{Answer, Envelope, ErrorBody, Reply},
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(step_up)).routes(routes!(begin_passkey_step_up))
}

/// A proof of who one is: one of the fields. The password does where the account has no second factor.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct StepUpBody {
    #[schema(format = Password)]
    password: Option<String>,
    #[serde(flatten)]
    factor: FactorBody,
}

/// How one proved who one is, as of now.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct StandingOut {
    authenticated_at: Timestamp,
    /// `aal1`, one factor, or `aal2`, two.
    #[schema(example = "aal2")]
    aal: &'static str,
    #[schema(example = json!(["pwd", "otp", "mfa"]))]
    amr: Vec<String>,
    /// For how many seconds routes that ask for a recent proof are open.
    #[schema(example = 600)]
    recent_for: i64,
    /// Says the same; the one in use stays good too.
    access_token: String,
}

/// Prove again who one is, for the routes that ask for a recent proof (`STEP_UP_REQUIRED`).
#[utoipa::path(post, path = "/auth/step-up", operation_id = "step_up", tag = "factors", request_body = StepUpBody,
    security(("bearer" = [])), responses(
    (status = 200, description = "Those routes are open to this session for ten minutes", body = Envelope<StandingOut>),
    (status = 400, description = "The proof is wrong, missing, or one of several", body = ErrorBody),
    (status = 429, description = "Too many attempts", body = ErrorBody),
))]
async fn step_up(
    me: Me,
    State(app): State<App>,
    tenant: Tenant,
    device: Device,
    site: SiteOf,
    Json(body): Json<StepUpBody>,
) -> Answer<StandingOut> {
    let standing = match (body.password, body.factor.read(&site)?) {
        (Some(password), None) => app.factors.step_up_by_password(&tenant, &me, Secret::new(password), &device).await?,
        (None, Some(shown)) => app.factors.step_up(&tenant, &me, shown, &device).await?,
        _ => {
            let message = "give one of password, code, recoveryCode and passkey";
            return Err(ApiError::validation(vec![Detail::new("password", "REQUIRED", message)]));
        }
    };
    Ok(Reply::ok(StandingOut {
        authenticated_at: standing.authenticated_at,
        aal: standing.proof.level(),
        amr: standing.proof.amr(),
        recent_for: RECENT.as_secs(),
        access_token: app.auth.access_token(&tenant, &me, &standing)?,
    }))
}

/// Begin to prove again who one is by a passkey.
#[utoipa::path(post, path = "/auth/step-up/options", operation_id = "begin_passkey_step_up", tag = "factors",
    security(("bearer" = [])), responses(
    (status = 200, description = "For `navigator.credentials.get`; its answer goes to `POST /auth/step-up`", body = Envelope<CeremonyOut>),
    (status = 409, description = "The account has no passkey for this host: `NO_FACTOR`", body = ErrorBody),
))]
async fn begin_passkey_step_up(me: Me, State(app): State<App>, tenant: Tenant, site: SiteOf) -> Answer<CeremonyOut> {
    Ok(Reply::ok(app.factors.begin_step_up(&tenant, site.get()?, &me).await?.into()))
}
