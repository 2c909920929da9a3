//! Wire types and handlers.

use axum::{extract::State, response::IntoResponse};
use contract::{RoleName, Secret};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    hashing::HashError,
    model::{self, AuthError, FullName, LogoutScope, NewUser},
    service::{Device, Registered, SignedIn},
    tokens::{RefreshSecret, TokenError},
};
use crate::{
    app::App,
    error::{ApiError, Detail},
    extract::{CurrentUser, Json, Me, Query, Tenant, User, UserId, Valid, Validate, Violations},
    middleware::{Scope, bearer},
    reply::{Answer, Envelope, ErrorBody, Reply},
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(register))
        .routes(routes!(login))
        .routes(routes!(refresh))
        .routes(routes!(logout))
        .routes(routes!(get_me))
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
        violations.require(
            model::email(&self.email).is_some(),
            "email",
            "INVALID",
            "write an address such as ada@example.com",
        );
        violations.require(!self.password.is_empty(), "password", "REQUIRED", "give a password");
        match self.full_name() {
            None => violations.require(false, "name", "REQUIRED", "give a name, or firstName and lastName"),
            Some(name) => violations.require(name.is_short_enough(), "name", "TOO_LONG", "use at most 100 characters"),
        }
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
    #[serde(alias = "refresh_token")]
    refresh_token: String,
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

/// Who signed in, and with what they stay so.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionOut {
    pub user: UserOut,
    /// For the header `Authorization: Bearer …`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_token: Option<String>,
    /// Good once, for `POST /auth/refresh`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<String>,
    /// The same as `accessToken`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "Bearer")]
    pub token_type: Option<&'static str>,
    /// Seconds until the access token expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 900)]
    pub expires_in: Option<u32>,
    /// True, and no tokens, when the tenant wants the address verified first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verification_required: Option<bool>,
}

impl From<SignedIn> for SessionOut {
    fn from(signed_in: SignedIn) -> Self {
        Self {
            user: UserOut::from(&signed_in.user),
            token: Some(signed_in.access_token.clone()),
            access_token: Some(signed_in.access_token),
            refresh_token: Some(signed_in.refresh_token.expose().to_owned()),
            token_type: Some("Bearer"),
            expires_in: Some(signed_in.expires_in),
            verification_required: None,
        }
    }
}

impl From<User> for SessionOut {
    fn from(unverified: User) -> Self {
        Self {
            user: UserOut::from(&unverified),
            access_token: None,
            refresh_token: None,
            token: None,
            token_type: None,
            expires_in: None,
            verification_required: Some(true),
        }
    }
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LogoutOut {
    /// How many sessions were ended.
    #[schema(example = 1)]
    pub sessions_ended: usize,
}

/// Make an account and sign in.
#[utoipa::path(post, path = "/auth/register", operation_id = "register", tag = "auth", request_body = Registration, responses(
    (status = 201, description = "The account exists; the user is signed in, unless the address is to be verified first", body = Envelope<SessionOut>),
    (status = 400, description = "A field breaks its rule", body = ErrorBody),
    (status = 403, description = "The tenant has as many users as its quota allows", body = ErrorBody),
    (status = 409, description = "A user with this address exists", body = ErrorBody),
    (status = 429, description = "Too many attempts", body = ErrorBody),
    (status = 503, description = "Too many are signing in: come again after `Retry-After`", body = ErrorBody),
))]
async fn register(
    State(app): State<App>,
    tenant: Tenant,
    device: Device,
    Valid(Json(body)): Valid<Json<Registration>>,
) -> Answer<SessionOut> {
    let (Some(email), Some(name)) = (model::email(&body.email), body.full_name()) else {
        return Err(ApiError::internal("a checked registration without address or name"));
    };
    let session = match app
        .auth
        .register(&tenant.0, NewUser { email, password: Secret::new(body.password), name }, &device)
        .await?
    {
        Registered::SignedIn(signed_in) => SessionOut::from(*signed_in),
        Registered::Unverified(user) => SessionOut::from(*user),
    };
    Ok(Reply::created(session).with_message("Registered"))
}

/// Sign in with address and password.
#[utoipa::path(post, path = "/auth/login", operation_id = "login", tag = "auth", request_body = Credentials, responses(
    (status = 200, description = "Signed in", body = Envelope<SessionOut>),
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
    Valid(Json(body)): Valid<Json<Credentials>>,
) -> Answer<SessionOut> {
    let signed_in = app.auth.login(&tenant.0, &body.email, Secret::new(body.password), &device).await?;
    Ok(Reply::ok(signed_in.into()).with_message("Signed in"))
}

/// Exchange a refresh token for a new pair.
///
/// The token is the credential. An access token that comes along may have expired, and must be of the same session.
#[utoipa::path(post, path = "/auth/refresh", operation_id = "refresh", tag = "auth", request_body = RefreshRequest, responses(
    (status = 200, description = "A new pair; the old refresh token is used up", body = Envelope<SessionOut>),
    (status = 401, description = "Unknown, expired or used before; a reuse ends the session", body = ErrorBody),
))]
async fn refresh(
    State(app): State<App>,
    tenant: Tenant,
    device: Device,
    headers: HeaderMap,
    Json(body): Json<RefreshRequest>,
) -> Answer<SessionOut> {
    let token = RefreshSecret::given(&body.refresh_token);
    let signed_in = app.auth.refresh(&tenant.0, &token, bearer(&headers), &device).await?;
    Ok(Reply::ok(signed_in.into()))
}

/// End this session, all others, or all.
#[utoipa::path(post, path = "/auth/logout", operation_id = "logout", tag = "auth", params(LogoutQuery),
    request_body(content = Option<LogoutRequest>), security(("bearer" = [])), responses(
    (status = 200, description = "Ended, on every replica", body = Envelope<LogoutOut>),
    (status = 401, description = "Neither an access token nor a refresh token of a session", body = ErrorBody),
))]
async fn logout(
    State(app): State<App>,
    tenant: Tenant,
    scope: Scope,
    device: Device,
    Query(query): Query<LogoutQuery>,
    body: Option<Json<LogoutRequest>>,
) -> Answer<LogoutOut> {
    let body = body.map(|Json(body)| body).unwrap_or_default();
    let (user, session) = match (scope.signed_in(), &body.refresh_token) {
        (Ok(me), _) => (me.id, me.session),
        (Err(_), Some(token)) => app.auth.owner(tenant.id, &RefreshSecret::given(token)).await?,
        (Err(error), None) => return Err(error),
    };
    let which = body.scope.or(query.scope).unwrap_or_default();
    let sessions_ended = app.auth.logout(tenant.id, user, session, which, &device).await?;
    Ok(Reply::ok(LogoutOut { sessions_ended }).with_message("Signed out"))
}

/// The signed-in user.
#[utoipa::path(get, path = "/auth/me", operation_id = "get_me", tag = "auth", security(("bearer" = [])), responses(
    (status = 200, description = "The user, with all roles as of now", body = Envelope<UserOut>),
    (status = 401, description = "Not signed in", body = ErrorBody),
))]
async fn get_me(me: Me) -> Answer<UserOut> {
    Ok(Reply::ok(UserOut::from(&*me.0)))
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

impl<S: Send + Sync> axum::extract::FromRequestParts<S> for Device {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut http::request::Parts, state: &S) -> Result<Self, ApiError> {
        let scope = Scope::from_request_parts(parts, state).await?;
        let user_agent = parts.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
        Ok(Self {
            ip: scope.client_ip().to_string(),
            user_agent: user_agent.map(|text| text.chars().take(500).collect()),
        })
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        let unauthorized = |code, message: &'static str| Self::new(StatusCode::UNAUTHORIZED, code, message);
        match error {
            AuthError::EmailTaken => Self::conflict("A user with this address exists")
                .with_code("EMAIL_TAKEN")
                .with_details(vec![Detail::new("email", "TAKEN", "sign in, or use another address")]),
            AuthError::QuotaReached => {
                Self::forbidden("This tenant has as many users as its quota allows").with_code("QUOTA_REACHED")
            }
            AuthError::Password(faults) => Self::validation(faults),
            AuthError::InvalidCredentials => unauthorized("INVALID_CREDENTIALS", "Invalid credentials"),
            AuthError::EmailNotVerified => Self::forbidden("Verify your address first").with_code("EMAIL_NOT_VERIFIED"),
            AuthError::InvalidRefreshToken => {
                unauthorized("INVALID_REFRESH_TOKEN", "Invalid refresh token: sign in again")
            }
            AuthError::TokenReused => {
                unauthorized("TOKEN_REUSED", "Token reuse detected: the session has ended, sign in again")
            }
            AuthError::SessionEnded => Self::invalid_token("The session has ended: sign in again"),
            AuthError::Token(TokenError::Expired) => Self::invalid_token("Token expired"),
            AuthError::Token(error) => Self::invalid_token(error.to_string()),
            AuthError::Hash(HashError::Busy) => {
                Self::unavailable("Too many are signing in at this moment: try again", 2)
            }
            AuthError::Hash(error) => Self::internal(error),
            AuthError::Sign(error) => Self::internal(error),
            AuthError::Database(error) => error.into(),
        }
    }
}
