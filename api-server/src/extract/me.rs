//! Who asks, as a handler's parameter.

use std::{ops::Deref, sync::Arc};

use axum::extract::FromRequestParts;
use http::request::Parts;

use super::CurrentUser;
use crate::{error::ApiError, middleware::Scope};

/// A person: refuses who is not signed in, and programs that act by an API key.
#[derive(Clone)]
pub struct Me(pub Arc<CurrentUser>);

/// A person, or a program that acts for one.
#[derive(Clone)]
pub struct Principal(pub Arc<CurrentUser>);

impl Deref for Me {
    type Target = CurrentUser;
    fn deref(&self) -> &CurrentUser {
        &self.0
    }
}

impl Deref for Principal {
    type Target = CurrentUser;
    fn deref(&self) -> &CurrentUser {
        &self.0
    }
}

impl Me {
    /// The person who asks, where no handler's parameter can say so.
    pub fn of(scope: &Scope) -> Result<Self, ApiError> {
        scope.signed_in()?;
        Self::even_limited(scope)
    }

    /// The same, also where the session may only set up a second factor.
    pub fn even_limited(scope: &Scope) -> Result<Self, ApiError> {
        let user = scope.recognized()?;
        user.person()?;
        Ok(Self(Arc::clone(user)))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Me {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        Self::of(&Scope::from_request_parts(parts, state).await?)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Principal {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let scope = Scope::from_request_parts(parts, state).await?;
        scope.signed_in().cloned().map(Self)
    }
}
