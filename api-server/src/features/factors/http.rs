//! Wire types and handlers: the authenticator app, recovery codes, the second step of a login, step-up.

use axum::extract::State;
use contract::{Secret, auth::Mfa};
use http::{HeaderValue, StatusCode, header};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    challenges::Token,
    model::{FactorsError, Shown},
    service::Activated,
};
use crate::{
    app::App,
    error::{ApiError, Detail},
    extract::{Can, Json, Me, Path, Tenant, UserId, permissions::UpdateUsers},
    features::auth::{Device, MayEnrol, RECENT, SessionOut, StepUp},
    reply::{Answer, Envelope, ErrorBody, Reply},
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(get_factors))
        .routes(routes!(set_up_totp))
        .routes(routes!(activate_totp))
        .routes(routes!(verify_second_factor))
        .routes(routes!(disable_totp))
        .routes(routes!(renew_recovery_codes))
        .routes(routes!(step_up))
        .routes(routes!(admin_remove_factors))
}

pub fn well_known() -> OpenApiRouter<App> {
    OpenApiRouter::new()
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

/// A factor that counts from now on.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActivatedOut {
    /// Told this once, and with the first factor only. Each stands in for a factor once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(example = json!(["k7mq-3xta-b2ny-hc5e"]))]
    pub recovery_codes: Vec<String>,
    /// How many other sessions of the user ended.
    #[schema(example = 1)]
    pub sessions_ended: usize,
    /// The tokens of a whole session, for who came with a token that was good for setting up a factor only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionOut>,
}

impl From<Activated> for ActivatedOut {
    fn from(activated: Activated) -> Self {
        Self {
            recovery_codes: activated.recovery_codes.iter().map(ToString::to_string).collect(),
            sessions_ended: activated.sessions_ended,
            session: activated.entered.map(SessionOut::from),
        }
    }
}

/// A factor: one of the fields.
#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct FactorBody {
    /// Of the authenticator app.
    #[schema(example = "287082")]
    code: Option<String>,
    /// In any case, with or without dashes. Good once.
    #[serde(alias = "recovery_code")]
    #[schema(example = "k7mq-3xta-b2ny-hc5e")]
    recovery_code: Option<String>,
}

impl FactorBody {
    fn read(self) -> Result<Option<Shown>, ApiError> {
        let code = self.code.map(|code| Shown::Code(Secret::new(code)));
        let recovery = self.recovery_code.map(|code| Shown::RecoveryCode(Secret::new(code)));
        let mut shown = [code, recovery].into_iter().flatten();
        match (shown.next(), shown.next()) {
            (one, None) => Ok(one),
            (_, Some(second)) => {
                let message = "give one proof, not several";
                Err(ApiError::validation(vec![Detail::new(second.field(), "TOO_MANY", message)]))
            }
        }
    }

    fn required(self) -> Result<Shown, ApiError> {
        let missing = || Detail::new("code", "REQUIRED", "give code, recoveryCode or passkey");
        self.read()?.ok_or_else(|| ApiError::validation(vec![missing()]))
    }
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

/// The second step of a sign-in: show the second factor.
#[utoipa::path(post, path = "/auth/2fa/verify", operation_id = "verify_second_factor", tag = "factors",
    request_body = SecondFactor, responses(
    (status = 200, description = "Signed in", body = Envelope<SessionOut>),
    (status = 400, description = "A field is missing, or there are several proofs", body = ErrorBody),
    (status = 401, description = "The proof is wrong or was used before (`INVALID_CODE`), or the sign-in is to be begun anew (`INVALID_MFA_TOKEN`)", body = ErrorBody),
    (status = 429, description = "Too many attempts", body = ErrorBody),
))]
async fn verify_second_factor(
    State(app): State<App>,
    tenant: Tenant,
    device: Device,
    Json(body): Json<SecondFactor>,
) -> Answer<SessionOut> {
    let (token, shown) = (Token::given(&body.mfa_token), body.factor.required()?);
    let entered = app.factors.finish_login(&tenant.0, &token, shown, &device).await?;
    Ok(Reply::ok(entered.into()).with_message("Signed in"))
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
    Json(body): Json<DisableBody>,
) -> Answer<DisabledOut> {
    let (password, shown) = (Secret::new(body.password), body.factor.required()?);
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
    Json(body): Json<StepUpBody>,
) -> Answer<StandingOut> {
    let standing = match (body.password, body.factor.read()?) {
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

impl From<FactorsError> for ApiError {
    fn from(error: FactorsError) -> Self {
        let unauthorized = |code, message: &'static str| Self::new(StatusCode::UNAUTHORIZED, code, message);
        match error {
            FactorsError::Off => {
                Self::conflict("This tenant does not use second factors (auth.mfa: Off)").with_code("MFA_OFF")
            }
            FactorsError::Demanded => {
                Self::conflict("This tenant demands a second factor, and it is your last: set up another one first")
                    .with_code("MFA_DEMANDED")
            }
            FactorsError::NotSetUp => {
                Self::conflict("No authenticator app is being set up, or its time is over: POST /auth/2fa/setup")
                    .with_code("MFA_NOT_SET_UP")
            }
            FactorsError::NoFactor => {
                Self::conflict("The account has no such factor: see GET /auth/2fa").with_code("NO_FACTOR")
            }
            FactorsError::WrongProof => {
                unauthorized("INVALID_CODE", "The code is wrong, or was used before: wait for the next one")
            }
            FactorsError::Wrong(field) => Self::validation(vec![Detail::new(
                field,
                "WRONG",
                "it is wrong, or was used before; a code of an app is good once, for a minute",
            )]),
            FactorsError::InvalidToken => {
                unauthorized("INVALID_MFA_TOKEN", "The sign-in is unknown, finished or over: begin it anew")
            }
            FactorsError::Seal(error) => Self::internal(error),
            FactorsError::Totp(error) => Self::internal(error),
            FactorsError::Auth(error) => error.into(),
            FactorsError::Users(error) => error.into(),
            FactorsError::Database(error) => error.into(),
        }
    }
}
