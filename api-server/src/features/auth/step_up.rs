//! Some routes ask for more than a session: that its user proved who they are a short while ago, and with their second
//! factor where the account has one. A stolen access token alone changes no password and removes no factor.
//!
//! A handler says so by its first parameter: `me: StepUp`. A route whose body carries the current password is content with
//! that where the account has no second factor: `me: FactorStepUp`.

use std::{ops::Deref, sync::Arc};

use axum::extract::FromRequestParts;
use contract::auth::Mfa;
use http::request::Parts;
use jiff::{SignedDuration, Timestamp};

use super::{model::AuthError, proof::Proof, repo, service::Auth};
use crate::{
    app::App,
    error::ApiError,
    extract::{CurrentUser, Me, SessionId, Tenant, UserId},
    features::factors::{self, Held},
    middleware::Scope,
    tenancy::TenantSnapshot,
};

/// How long a proof counts as a short while ago.
pub const RECENT: SignedDuration = SignedDuration::from_mins(10);

/// When and how the user of a session proved who they are.
#[derive(Debug, Clone)]
pub struct Standing {
    pub proof: Proof,
    pub authenticated_at: Timestamp,
    /// With a second factor or a passkey.
    pub factor_at: Option<Timestamp>,
}

impl Standing {
    fn is_recent(&self, now: Timestamp) -> bool {
        now.duration_since(self.authenticated_at) < RECENT
    }

    fn factor_is_recent(&self, now: Timestamp) -> bool {
        self.factor_at.is_some_and(|at| now.duration_since(at) < RECENT)
    }
}

/// How much a route asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// A recent proof; with the second factor where the account has one.
    Recent,
    /// A recent second factor where the account has one. The route asks for the password itself.
    Factor,
}

impl Auth {
    /// Whether the user of this session proved who they are as lately, and as surely, as is asked.
    pub async fn step_up(
        &self,
        tenant: &TenantSnapshot,
        user: UserId,
        session: SessionId,
        asked: Asked,
    ) -> Result<(), AuthError> {
        let now = self.clock.now();
        let mut tx = self.db.begin(tenant.id).await?;
        let held = factors::held(&mut tx, user).await?;
        let standing = repo::standing(&mut tx, session).await?.ok_or(AuthError::SessionEnded)?;
        tx.commit().await?;
        let held = if tenant.auth.mfa == Mfa::Off { Held::default() } else { held };
        let enough = match (held.any(), asked) {
            (true, _) => standing.factor_is_recent(now),
            (false, Asked::Recent) => standing.is_recent(now),
            (false, Asked::Factor) => true,
        };
        if enough { Ok(()) } else { Err(AuthError::StepUpRequired(held)) }
    }
}

/// The signed-in user, who proved a short while ago who they are, with their second factor if they have one.
pub struct StepUp(pub Arc<CurrentUser>);

/// The signed-in user, who showed their second factor a short while ago if they have one. For routes that take the current
/// password besides.
pub struct FactorStepUp(pub Arc<CurrentUser>);

/// Who may set up a factor: a signed-in user with a recent proof, or somebody whom the tenant lets in for that alone.
pub struct MayEnrol(pub Arc<CurrentUser>);

async fn checked(parts: &mut Parts, app: &App, asked: Asked) -> Result<Arc<CurrentUser>, ApiError> {
    let Me(user) = Me::from_request_parts(parts, app).await?;
    let tenant = Tenant::from_request_parts(parts, app).await?;
    app.auth.step_up(&tenant, user.id, user.session, asked).await?;
    Ok(user)
}

impl FromRequestParts<App> for StepUp {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        checked(parts, app, Asked::Recent).await.map(Self)
    }
}

impl FromRequestParts<App> for FactorStepUp {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        checked(parts, app, Asked::Factor).await.map(Self)
    }
}

impl FromRequestParts<App> for MayEnrol {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let scope = Scope::from_request_parts(parts, app).await?;
        let Me(user) = Me::even_limited(&scope)?;
        if user.limited {
            return Ok(Self(user));
        }
        checked(parts, app, Asked::Recent).await.map(Self)
    }
}

macro_rules! deref {
    ($($name:ident),*) => {
        $(impl Deref for $name {
            type Target = CurrentUser;
            fn deref(&self) -> &CurrentUser {
                &self.0
            }
        })*
    };
}
deref!(StepUp, FactorStepUp, MayEnrol);
