//! Wire types and handlers.

use axum::{extract::State, response::IntoResponse};
use contract::Secret;
use http::{HeaderMap, HeaderValue, header};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;

use super::{
    device::Device,
    keep::Keep,
    model::{self, LogoutScope, NewUser},
    service::Registered,
    session_out::SessionOut,
    step_up::{Asked, FactorStepUp},
    tokens::RefreshSecret,
};
use crate::{
    app::App,
    error::{ApiError, Detail},
    extract::{Json, Me, Path, Principal, Query, SessionId, Tenant, Valid, Validate, Violations},
    features::users::{self, FullName, UserOut, email_rules, name_rules},
    middleware::{Scope, bearer},
    openapi::routes,
    reply::{Answer, Envelope, ErrorBody, Reply},
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(register))
        .routes(routes!(login))
        .routes(routes!(refresh))
        .routes(routes!(logout))
        .routes(routes!(get_me))
        .routes(routes!(change_password))
        .routes(routes!(list_sessions))
        .routes(routes!(end_session))
}

pub fn well_known() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(get_jwks))
}

/// Somebody new. Give `name`, or `fullName`, or `firstName` and `lastName`.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Registration {
    #[schema(example = "ada@example.com", max_length = 255)]
    email: String,
    /// Held to the tenant's password policy.
    #[schema(example = "Correct-Horse-7", max_length = 100, format = Password)]
    password: String,
    #[serde(alias = "fullName", alias = "full_name")]
    #[schema(example = "Ada Lovelace", max_length = 100)]
    name: Option<String>,
    #[serde(alias = "first_name")]
    first_name: Option<String>,
    #[serde(alias = "last_name")]
    last_name: Option<String>,
}

impl Registration {
    fn full_name(&self) -> Option<FullName> {
        FullName::of(self.name.as_deref(), self.first_name.as_deref(), self.last_name.as_deref())
    }
}

impl Validate for Registration {
    fn validate(&self, violations: &mut Violations) {
        email_rules(&self.email, violations);
        violations.require(!self.password.is_empty(), "password", "REQUIRED", "give a password");
        name_rules(self.full_name().as_ref(), violations);
    }
}

/// Address and password.
#[derive(Deserialize, ToSchema)]
pub struct Credentials {
    #[schema(example = "ada@example.com")]
    email: String,
    #[schema(example = "Correct-Horse-7", format = Password)]
    password: String,
}

impl Validate for Credentials {
    fn validate(&self, violations: &mut Violations) {
        violations.require(!self.email.trim().is_empty(), "email", "REQUIRED", "give an address");
        violations.require(!self.password.is_empty(), "password", "REQUIRED", "give a password");
        let short = self.password.chars().count() <= model::MAX_PASSWORD_CHARS;
        violations.require(short, "password", "TOO_LONG", "use at most 100 characters");
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RefreshRequest {
    /// As the last sign-in or refresh gave it.
    ///
    /// Left out by a client that keeps it in the cookie.
    #[serde(alias = "refresh_token")]
    refresh_token: Option<String>,
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LogoutRequest {
    /// For a client whose access token has expired.
    #[serde(alias = "refresh_token")]
    refresh_token: Option<String>,
    scope: Option<LogoutScope>,
}

#[derive(Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct LogoutQuery {
    /// Which sessions to end; also taken from the body.
    #[param(inline)]
    scope: Option<LogoutScope>,
}

/// The old password as proof, and the new one.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PasswordChange {
    #[serde(alias = "current_password", alias = "oldPassword")]
    #[schema(format = Password)]
    current_password: String,
    /// Held to the tenant's password policy.
    #[serde(alias = "new_password")]
    #[schema(max_length = 100, format = Password)]
    new_password: String,
}

impl Validate for PasswordChange {
    fn validate(&self, violations: &mut Violations) {
        let short = self.current_password.chars().count() <= model::MAX_PASSWORD_CHARS;
        violations.require(short, "currentPassword", "TOO_LONG", "use at most 100 characters");
        violations.require(
            !self.current_password.is_empty(),
            "currentPassword",
            "REQUIRED",
            "give the current password",
        );
        let differs = self.new_password != self.current_password;
        violations.require(differs, "newPassword", "UNCHANGED", "use another password than the current one");
    }
}

/// A sign-in on one device.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeviceOut {
    pub id: SessionId,
    /// What the device called itself at its sign-in.
    #[schema(example = "Mozilla/5.0 …")]
    pub user_agent: Option<String>,
    /// Where the sign-in came from.
    #[schema(example = "203.0.113.7")]
    pub ip_address: Option<String>,
    pub created_at: Timestamp,
    pub last_used_at: Timestamp,
    pub expires_at: Timestamp,
    /// Whether it is this one.
    pub current: bool,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LogoutOut {
    /// How many sessions were ended.
    #[schema(example = 1)]
    pub sessions_ended: usize,
}

/// Make an account and sign in.
#[utoipa::path(post, path = "/auth/register", operation_id = "register", tag = "auth",
    params(("X-Refresh-Token" = Option<String>, Header, description = "`cookie`: the refresh token goes to a cookie that scripts cannot read, and not into the answer")), request_body = Registration, responses(
    (status = 201, description = "The account exists; the user is signed in, unless the address is to be verified first", body = Envelope<SessionOut>),
    (status = 400, description = "A field breaks its rule", body = ErrorBody),
    (status = 403, description = "The tenant has as many users as its quota allows", body = ErrorBody),
    (status = 409, description = "A user with this address exists; or the address is to be verified, and the platform sends no mail", body = ErrorBody),
    (status = 429, description = "Too many attempts", body = ErrorBody),
    (status = 503, description = "Too many are signing in: come again after `Retry-After`", body = ErrorBody),
))]
async fn register(
    State(app): State<App>,
    tenant: Tenant,
    device: Device,
    keep: Keep,
    Valid(Json(body)): Valid<Json<Registration>>,
) -> Answer<SessionOut> {
    let (Some(email), Some(name)) = (users::email(&body.email), body.full_name()) else {
        return Err(ApiError::internal("a checked registration without address or name"));
    };
    let session = match app
        .auth
        .register(&tenant.0, NewUser { email, password: Secret::new(body.password), name }, &device)
        .await?
    {
        Registered::Entered(entered) => SessionOut::from(entered),
        Registered::Unverified(user) => SessionOut::from(*user),
    };
    Ok(keep.place(Reply::created(session).with_message("Registered")))
}

/// Sign in with address and password.
#[utoipa::path(post, path = "/auth/login", operation_id = "login", tag = "auth",
    params(("X-Refresh-Token" = Option<String>, Header, description = "`cookie`: the refresh token goes to a cookie that scripts cannot read, and not into the answer")), request_body = Credentials, responses(
    (status = 200, description = "Signed in; or the second factor is to be shown (`mfaRequired`), or set up (`mfaEnrolmentRequired`)", body = Envelope<SessionOut>),
    (status = 400, description = "A field is missing", body = ErrorBody),
    (status = 401, description = "Wrong address or password; which of them is not said", body = ErrorBody),
    (status = 403, description = "The address is to be verified first", body = ErrorBody),
    (status = 429, description = "Too many attempts", body = ErrorBody),
    (status = 503, description = "Too many are signing in: come again after `Retry-After`", body = ErrorBody),
))]
async fn login(
    State(app): State<App>,
    tenant: Tenant,
    device: Device,
    keep: Keep,
    Valid(Json(body)): Valid<Json<Credentials>>,
) -> Answer<SessionOut> {
    let entered = app.auth.login(&tenant.0, &body.email, Secret::new(body.password), &device).await?;
    let message = entered.message();
    Ok(keep.place(Reply::ok(entered.into()).with_message(message)))
}

/// Exchange a refresh token for a new pair.
///
/// The token is the credential. An access token that comes along may have expired, and must be of the same session.
#[utoipa::path(post, path = "/auth/refresh", operation_id = "refresh", tag = "auth",
    params(("X-Refresh-Token" = Option<String>, Header, description = "`cookie`: the refresh token goes to a cookie that scripts cannot read, and not into the answer")), request_body(content = Option<RefreshRequest>), responses(
    (status = 200, description = "A new pair; the old refresh token is used up", body = Envelope<SessionOut>),
    (status = 401, description = "Unknown, expired or used before; a reuse ends the session", body = ErrorBody),
))]
async fn refresh(
    State(app): State<App>,
    tenant: Tenant,
    device: Device,
    headers: HeaderMap,
    keep: Keep,
    body: Option<Json<RefreshRequest>>,
) -> Answer<SessionOut> {
    let missing = || {
        let message = "give the refresh token; or keep it in the cookie, and send X-Refresh-Token: cookie";
        ApiError::validation(vec![Detail::new("refreshToken", "REQUIRED", message)])
    };
    let token = keep.token(body.and_then(|Json(body)| body.refresh_token)).ok_or_else(missing)?;
    let token = RefreshSecret::given(&token);
    let signed_in = app.auth.refresh(&tenant.0, &token, bearer(&headers), &device).await?;
    Ok(keep.place(Reply::ok(signed_in.into())))
}

/// End this session, all others, or all.
#[utoipa::path(post, path = "/auth/logout", operation_id = "logout", tag = "auth", params(LogoutQuery, ("X-Refresh-Token" = Option<String>, Header, description = "`cookie`: the refresh token is in the cookie, which goes")),
    request_body(content = Option<LogoutRequest>), security(("bearer" = [])), responses(
    (status = 200, description = "Ended, on every replica", body = Envelope<LogoutOut>),
    (status = 401, description = "Neither an access token nor a refresh token of a session", body = ErrorBody),
    (status = 403, description = "More than this session, and the last proof of who one is too long ago: `STEP_UP_REQUIRED`", body = ErrorBody),
))]
async fn logout(
    State(app): State<App>,
    tenant: Tenant,
    scope: Scope,
    device: Device,
    Query(query): Query<LogoutQuery>,
    keep: Keep,
    body: Option<Json<LogoutRequest>>,
) -> Answer<LogoutOut> {
    let body = body.map(|Json(body)| body).unwrap_or_default();
    let (user, session) = match (Me::even_limited(&scope), &keep.token(body.refresh_token)) {
        (Ok(me), _) => (me.id, me.session),
        (Err(_), Some(token)) => app.auth.owner(tenant.id, &RefreshSecret::given(token)).await?,
        (Err(error), None) => return Err(error),
    };
    let which = body.scope.or(query.scope).unwrap_or_default();
    if which != LogoutScope::Local {
        app.auth.step_up(&tenant, user, session, Asked::Recent).await?;
    }
    let sessions_ended = app.auth.logout(tenant.id, user, session, which, &device).await?;
    let reply = Reply::ok(LogoutOut { sessions_ended }).with_message("Signed out");
    Ok(if which == LogoutScope::Others { reply } else { keep.clear(reply) })
}

/// The signed-in user.
#[utoipa::path(get, path = "/auth/me", operation_id = "get_me", tag = "auth",
    security(("bearer" = []), ("apiKey" = [])), responses(
    (status = 200, description = "The user, with all roles as of now", body = Envelope<UserOut>),
    (status = 401, description = "Not signed in", body = ErrorBody),
))]
async fn get_me(me: Principal) -> Answer<UserOut> {
    Ok(Reply::ok(UserOut::from(&*me.0)))
}

/// Change one's own password. All other sessions of the user end.
#[utoipa::path(put, path = "/auth/password", operation_id = "change_password", tag = "auth", request_body = PasswordChange,
    security(("bearer" = [])), responses(
    (status = 200, description = "Changed; this session goes on", body = Envelope<LogoutOut>),
    (status = 400, description = "The current password is wrong, or the new one breaks the tenant's policy", body = ErrorBody),
    (status = 403, description = "The account has a second factor, which was not shown lately: `STEP_UP_REQUIRED`", body = ErrorBody),
    (status = 503, description = "Too many are signing in: come again after `Retry-After`", body = ErrorBody),
))]
async fn change_password(
    me: FactorStepUp,
    State(app): State<App>,
    tenant: Tenant,
    device: Device,
    Valid(Json(body)): Valid<Json<PasswordChange>>,
) -> Answer<LogoutOut> {
    let (current, new) = (Secret::new(body.current_password), Secret::new(body.new_password));
    let sessions_ended = app.auth.change_password(&tenant.0, &me, current, new, &device).await?;
    Ok(Reply::ok(LogoutOut { sessions_ended }).with_message("Password changed"))
}

/// Where one is signed in, the session used last first.
#[utoipa::path(get, path = "/auth/sessions", operation_id = "list_sessions", tag = "auth", security(("bearer" = [])), responses(
    (status = 200, description = "The sessions that count", body = Envelope<Vec<DeviceOut>>),
))]
async fn list_sessions(me: Me, State(app): State<App>, tenant: Tenant) -> Answer<Vec<DeviceOut>> {
    let sessions = app.auth.sessions(tenant.id, me.id).await?;
    let out = sessions.into_iter().map(|session| DeviceOut {
        current: session.id == me.session,
        id: session.id,
        user_agent: session.user_agent,
        ip_address: session.ip,
        created_at: session.created_at,
        last_used_at: session.last_used_at,
        expires_at: session.expires_at,
    });
    Ok(Reply::ok(out.collect()))
}

/// End one of one's sessions: a device that was lost.
#[utoipa::path(delete, path = "/auth/sessions/{id}", operation_id = "end_session", tag = "auth",
    params(("id" = SessionId, Path, description = "The session's id")), security(("bearer" = [])), responses(
    (status = 200, description = "Ended, on every replica", body = Envelope<LogoutOut>),
    (status = 404, description = "One has no such session", body = ErrorBody),
))]
async fn end_session(
    me: Me,
    State(app): State<App>,
    tenant: Tenant,
    device: Device,
    Path(id): Path<SessionId>,
) -> Answer<LogoutOut> {
    app.auth.end_session(tenant.id, me.id, id, &device).await?;
    Ok(Reply::ok(LogoutOut { sessions_ended: 1 }).with_message("Signed out"))
}

/// The public keys that check the tenant's access tokens (RFC 7517).
#[utoipa::path(get, path = "/.well-known/jwks.json", operation_id = "get_jwks", tag = "auth", responses(
    (status = 200, description = "A JWK set", body = serde_json::Value,
     example = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": "…", "x": "…"}]})),
))]
async fn get_jwks(tenant: Tenant) -> impl IntoResponse {
    let cache = (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    ([cache], axum::Json(tenant.keys.jwks.clone()))
}
