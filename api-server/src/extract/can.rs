//! What may be done, as a handler's parameter: `may: Can<ReadUsers>`.

use std::{marker::PhantomData, ops::Deref, sync::Arc};

use axum::extract::FromRequestParts;
use http::request::Parts;

use super::{CurrentUser, Principal};
use crate::error::ApiError;

/// A permission that a route asks for, by name.
pub trait Permission: Send + Sync + 'static {
    const RESOURCE: &'static str;
    const VERB: &'static str;
}

/// Proof that who asks holds the permission `P`: a person, or a machine within its scopes. Gives the user.
pub struct Can<P>(pub Arc<CurrentUser>, PhantomData<P>);

impl<P> Deref for Can<P> {
    type Target = CurrentUser;
    fn deref(&self) -> &CurrentUser {
        &self.0
    }
}

impl<P: Permission, S: Send + Sync> FromRequestParts<S> for Can<P> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Principal(user) = Principal::from_request_parts(parts, state).await?;
        if user.may(P::RESOURCE, P::VERB) {
            Ok(Self(user, PhantomData))
        } else {
            Err(ApiError::forbidden("Insufficient permissions"))
        }
    }
}

macro_rules! permissions {
    ($($(#[$doc:meta])* $name:ident = $resource:literal : $verb:literal;)*) => {
        $(
            $(#[$doc])*
            pub struct $name;
            impl Permission for $name {
                const RESOURCE: &'static str = $resource;
                const VERB: &'static str = $verb;
            }
        )*
    };
}

/// Every permission that a route can ask for; roles hold them (`contract::access`).
pub mod permissions {
    use super::Permission;

    permissions! {
        /// See other users.
        ReadUsers = "users": "read";
        /// Make accounts for others.
        CreateUsers = "users": "create";
        /// Change accounts of others.
        UpdateUsers = "users": "update";
        /// Delete accounts of others.
        DeleteUsers = "users": "delete";
        /// Take out everything that is kept about another.
        ExportUsers = "users": "export";
        /// See which roles there are and who has them.
        ReadRoles = "roles": "read";
        /// Give roles to users and take them.
        AssignRoles = "roles": "assign";
        /// Make keys for machines that act for oneself.
        CreateApiKeys = "api-keys": "create";
        /// See the keys of others.
        ReadApiKeys = "api-keys": "read";
        /// Revoke the keys of others.
        RevokeApiKeys = "api-keys": "revoke";
        /// See what was done, by whom.
        ReadAudit = "audit": "read";
        /// See which mails wait, were sent and were given up.
        ReadMail = "mail": "read";
        /// Try a mail anew that was given up.
        RetryMail = "mail": "retry";
        /// See the tenant's figures.
        ReadMetrics = "metrics": "read";
        /// Ask a customer for money.
        InitiatePayments = "payments": "initiate";
        /// Pay.
        PayPayments = "payments": "pay";
        /// See payments of others.
        ReadPayments = "payments": "read";
        /// Change payments.
        UpdatePayments = "payments": "update";
        /// Cancel payments.
        CancelPayments = "payments": "cancel";
        /// See sums over payments.
        ReportPayments = "payments": "report";
    }
}
