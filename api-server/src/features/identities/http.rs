//! Wire types and handlers.

use axum::extract::State;
use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use uuid::Uuid;

use super::{
    model::{Identity, IdentityError},
    openid::ProviderError,
    service::{self, Begun},
};
use crate::{
    app::App,
    error::ApiError,
    extract::{Json, Me, Path, Tenant, Valid, Validate, Violations},
    features::auth::{Device, Keep, SessionOut, StepUp},
    openapi::routes,
    reply::{Answer, Envelope, ErrorBody, Reply},
    tenancy::TenantSnapshot,
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list_providers))
        .routes(routes!(begin_sign_in))
        .routes(routes!(finish_sign_in))
        .routes(routes!(list_identities))
        .routes(routes!(begin_link))
        .routes(routes!(finish_link))
        .routes(routes!(unlink))
}

/// A provider of identity that the tenant offers.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProviderOut {
    /// For the paths of the sign-in.
    #[schema(example = "google")]
    pub name: String,
    /// What stands on the button.
    #[schema(example = "Google")]
    pub display_name: String,
}

/// Where to come back to.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Begin {
    /// The page of the frontend that finishes; on an origin of the tenant, and registered at the provider.
    #[serde(alias = "redirect_uri")]
    #[schema(example = "https://shop.example.com/signed-in", max_length = 2000)]
    redirect_uri: String,
}

impl Validate for Begin {
    fn validate(&self, violations: &mut Violations) {
        let given = !self.redirect_uri.is_empty();
        violations.require(given, "redirectUri", "REQUIRED", "give the address of the page to come back to");
        violations.require(self.redirect_uri.len() <= 2000, "redirectUri", "TOO_LONG", "use at most 2000 characters");
    }
}

/// A sign-in that has begun.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BegunOut {
    /// Where to send the browser.
    pub authorization_url: String,
    /// Keep it in this browser (`sessionStorage`), and give it back to finish. It proves that both are one.
    pub flow: String,
    /// Seconds until it is too late to finish.
    #[schema(example = 600)]
    pub expires_in: i64,
}

impl From<Begun> for BegunOut {
    fn from(begun: Begun) -> Self {
        let Begun { authorization_url, flow, expires_in } = begun;
        Self { authorization_url, flow: flow.expose(), expires_in }
    }
}

/// What the provider added to the page's address, and the flow from the beginning.
#[derive(Deserialize, ToSchema)]
pub struct Finish {
    /// Query parameter `code`.
    code: String,
    /// Query parameter `state`.
    state: String,
    /// Query parameter `iss`, where there is one (RFC 9207).
    iss: Option<String>,
    flow: String,
}

impl Validate for Finish {
    fn validate(&self, violations: &mut Violations) {
        let fields = [("code", &self.code), ("state", &self.state), ("flow", &self.flow)];
        for (field, value) in fields {
            violations.require(!value.is_empty(), field, "REQUIRED", "give it as it came back");
            violations.require(value.len() <= 4096, field, "TOO_LONG", "it has at most 4096 characters");
        }
    }
}

impl From<Finish> for service::Answer {
    fn from(finish: Finish) -> Self {
        let Finish { code, state, iss, flow } = finish;
        Self { code, state, iss, flow }
    }
}

/// An account elsewhere that one can sign in with.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct IdentityOut {
    pub id: Uuid,
    /// The provider's name, while the tenant offers it.
    #[schema(example = "google")]
    pub provider: Option<String>,
    #[schema(example = "https://accounts.google.com")]
    pub issuer: String,
    /// The address there, as the provider said it last.
    #[schema(example = "ada@example.com")]
    pub email: Option<String>,
    pub created_at: Timestamp,
    pub last_used_at: Timestamp,
}

/// A link that is no more.
#[derive(Serialize, ToSchema)]
struct UnlinkedOut {
    id: Uuid,
}

impl IdentityOut {
    pub fn of(tenant: &TenantSnapshot, identity: Identity) -> Self {
        let Identity { id, issuer, subject: _, email, created_at, last_used_at } = identity;
        let known = tenant.auth.identity_providers.iter().find(|provider| provider.issuer == issuer);
        Self { id, provider: known.map(|provider| provider.name.clone()), issuer, email, created_at, last_used_at }
    }
}

/// The providers of identity that one can sign in with here.
#[utoipa::path(get, path = "/auth/providers", operation_id = "list_identity_providers", tag = "auth", responses(
    (status = 200, description = "In the order of their names", body = Envelope<Vec<ProviderOut>>),
))]
async fn list_providers(tenant: Tenant) -> Answer<Vec<ProviderOut>> {
    let providers = tenant
        .auth
        .identity_providers
        .iter()
        .map(|provider| ProviderOut { name: provider.name.clone(), display_name: provider.display_name.clone() });
    Ok(Reply::ok(providers.collect()))
}

/// Begin to sign in with an account at a provider.
///
/// Keep `flow`, send the browser to `authorizationUrl`; it comes back to `redirectUri` with `code` and `state`.
#[utoipa::path(post, path = "/auth/providers/{provider}", operation_id = "begin_provider_sign_in", tag = "auth",
    params(("provider" = String, Path, description = "The provider's name")), request_body = Begin, responses(
    (status = 200, description = "Where to go", body = Envelope<BegunOut>),
    (status = 400, description = "The address to come back to is none of the tenant's", body = ErrorBody),
    (status = 404, description = "The tenant has no such provider", body = ErrorBody),
    (status = 502, description = "The provider's settings do not fit: its operator has to look after that", body = ErrorBody),
    (status = 503, description = "The provider does not answer", body = ErrorBody),
))]
async fn begin_sign_in(
    State(app): State<App>,
    tenant: Tenant,
    Path(provider): Path<String>,
    Valid(Json(body)): Valid<Json<Begin>>,
) -> Answer<BegunOut> {
    let begun = app.identities.begin(&tenant, &provider, &body.redirect_uri, None).await?;
    Ok(Reply::ok(begun.into()))
}

/// Finish a sign-in at a provider.
#[utoipa::path(post, path = "/auth/callback", operation_id = "finish_provider_sign_in", tag = "auth",
    request_body = Finish, responses(
    (status = 200, description = "Signed in; with a new account at the first time", body = Envelope<SessionOut>),
    (status = 401, description = "The sign-in is unknown, used, expired or of another browser, or the provider refuses it", body = ErrorBody),
    (status = 403, description = "The provider vouches for no address, the tenant takes no new accounts, or this one is deactivated", body = ErrorBody),
    (status = 409, description = "An account with this address exists: sign in to it and link the provider", body = ErrorBody),
    (status = 502, description = "The provider's settings do not fit: its operator has to look after that", body = ErrorBody),
    (status = 503, description = "The provider does not answer", body = ErrorBody),
))]
async fn finish_sign_in(
    State(app): State<App>,
    tenant: Tenant,
    device: Device,
    keep: Keep,
    Valid(Json(body)): Valid<Json<Finish>>,
) -> Answer<SessionOut> {
    let entered = app.identities.sign_in(&tenant.0, &body.into(), &device).await?;
    let message = entered.message();
    Ok(keep.place(Reply::ok(entered.into()).with_message(message)))
}

/// The accounts elsewhere that one can sign in with.
#[utoipa::path(get, path = "/auth/identities", operation_id = "list_identities", tag = "auth", security(("bearer" = [])), responses(
    (status = 200, description = "The oldest first", body = Envelope<Vec<IdentityOut>>),
))]
async fn list_identities(me: Me, State(app): State<App>, tenant: Tenant) -> Answer<Vec<IdentityOut>> {
    let identities = app.identities.list(&tenant, &me).await?;
    Ok(Reply::ok(identities.into_iter().map(|identity| IdentityOut::of(&tenant, identity)).collect()))
}

/// Begin to link an account at a provider to one's own here.
#[utoipa::path(post, path = "/auth/providers/{provider}/link", operation_id = "begin_identity_link", tag = "auth",
    params(("provider" = String, Path, description = "The provider's name")), request_body = Begin,
    security(("bearer" = [])), responses(
    (status = 200, description = "Where to go", body = Envelope<BegunOut>),
    (status = 400, description = "The address to come back to is none of the tenant's", body = ErrorBody),
    (status = 404, description = "The tenant has no such provider", body = ErrorBody),
    (status = 502, description = "The provider's settings do not fit: its operator has to look after that", body = ErrorBody),
    (status = 503, description = "The provider does not answer", body = ErrorBody),
))]
async fn begin_link(
    me: StepUp,
    State(app): State<App>,
    tenant: Tenant,
    Path(provider): Path<String>,
    Valid(Json(body)): Valid<Json<Begin>>,
) -> Answer<BegunOut> {
    let begun = app.identities.begin(&tenant, &provider, &body.redirect_uri, Some(me.id)).await?;
    Ok(Reply::ok(begun.into()))
}

/// Finish to link.
#[utoipa::path(post, path = "/auth/identities", operation_id = "finish_identity_link", tag = "auth",
    request_body = Finish, security(("bearer" = [])), responses(
    (status = 201, description = "Linked: one can sign in with it from now on", body = Envelope<IdentityOut>),
    (status = 401, description = "The link was not begun by this user and browser, is used or expired, or the provider refuses it", body = ErrorBody),
    (status = 409, description = "It is linked already, here or to another account", body = ErrorBody),
    (status = 502, description = "The provider's settings do not fit: its operator has to look after that", body = ErrorBody),
    (status = 503, description = "The provider does not answer", body = ErrorBody),
))]
async fn finish_link(
    me: Me,
    State(app): State<App>,
    tenant: Tenant,
    device: Device,
    Valid(Json(body)): Valid<Json<Finish>>,
) -> Answer<IdentityOut> {
    let identity = app.identities.link(&tenant, &me, &body.into(), &device).await?;
    Ok(Reply::created(IdentityOut::of(&tenant, identity)).with_message("Linked"))
}

/// Take a link away.
#[utoipa::path(delete, path = "/auth/identities/{id}", operation_id = "unlink_identity", tag = "auth",
    params(("id" = Uuid, Path, description = "The identity's id")), security(("bearer" = [])), responses(
    (status = 200, description = "It signs nobody in any more", body = Envelope<UnlinkedOut>),
    (status = 403, description = "The second factor was not shown lately: `STEP_UP_REQUIRED`", body = ErrorBody),
    (status = 404, description = "One has no such identity", body = ErrorBody),
    (status = 409, description = "It is the last way to sign in", body = ErrorBody),
))]
async fn unlink(
    me: StepUp,
    State(app): State<App>,
    tenant: Tenant,
    device: Device,
    Path(id): Path<Uuid>,
) -> Answer<UnlinkedOut> {
    app.identities.unlink(&tenant, &me, id, &device).await?;
    Ok(Reply::ok(UnlinkedOut { id }).with_message("Unlinked"))
}

impl From<IdentityError> for ApiError {
    fn from(error: IdentityError) -> Self {
        let unauthorized = |message: &'static str| Self::new(StatusCode::UNAUTHORIZED, "SIGN_IN_REFUSED", message);
        match error {
            IdentityError::NoSuchProvider => Self::not_found("This tenant has no such provider of identity"),
            IdentityError::RedirectUri(detail) => Self::validation(vec![detail]),
            IdentityError::NoSuchFlow => {
                unauthorized("The sign-in is unknown, was finished before, or took too long: begin it again")
            }
            IdentityError::OtherFlow => {
                unauthorized("The answer belongs to another sign-in: begin it again in this browser")
            }
            IdentityError::NoSuchIdentity => Self::not_found("No such identity"),
            IdentityError::NoVerifiedEmail => {
                Self::forbidden("The provider vouches for no address of yours: verify one there")
                    .with_code("EMAIL_NOT_VERIFIED")
            }
            IdentityError::AccountExists => {
                Self::conflict("An account with this address exists: sign in to it, then link this provider")
                    .with_code("ACCOUNT_EXISTS")
            }
            IdentityError::NoNewAccounts => {
                Self::forbidden("There is no account for you here: ask who runs this for one").with_code("NO_ACCOUNT")
            }
            IdentityError::LinkedElsewhere => {
                Self::conflict("It is linked already, to your account or another").with_code("IDENTITY_TAKEN")
            }
            IdentityError::LastWayIn => {
                Self::conflict("It is the last way to sign in to your account: set a password first")
                    .with_code("LAST_SIGN_IN_METHOD")
            }
            IdentityError::Deactivated => {
                Self::forbidden("The account is deactivated").with_code("ACCOUNT_DEACTIVATED")
            }
            IdentityError::Provider(error) => error.into(),
            IdentityError::Auth(error) => error.into(),
            IdentityError::Users(error) => error.into(),
            IdentityError::Database(error) => error.into(),
        }
    }
}

impl From<ProviderError> for ApiError {
    fn from(error: ProviderError) -> Self {
        let refused = |message: &'static str| Self::new(StatusCode::UNAUTHORIZED, "SIGN_IN_REFUSED", message);
        match &error {
            ProviderError::Unavailable { .. } => {
                Self::unavailable("The provider of identity does not answer: try again", 5)
                    .with_code("PROVIDER_UNAVAILABLE")
            }
            ProviderError::Settings(_) => Self::new(
                StatusCode::BAD_GATEWAY,
                "PROVIDER_SETTINGS",
                "The provider of identity is not set up for this tenant: its operator has to look after that",
            ),
            ProviderError::Refused(_) => refused("The provider refuses the code: begin the sign-in again"),
            ProviderError::Untrusted(_) => {
                refused("What the provider says cannot be believed: begin the sign-in again")
            }
        }
        .with_cause(error)
    }
}
