//! The answer to whoever comes in, by whichever way.

use serde::Serialize;
use utoipa::ToSchema;

use super::{enter::Entered, service::SignedIn};
use crate::{extract::User, features::users::UserOut};

/// Who signed in, and with what they stay so.
///
/// Where a second factor is asked for there are no tokens, but `mfaRequired` and `mfaToken`.
#[derive(Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionOut {
    /// Absent while a second factor is to be shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<UserOut>,
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
    /// True where the account has a second factor: show it with `POST /auth/2fa/verify`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mfa_required: Option<bool>,
    /// Names the sign-in that waits for its second factor; good once, for `expiresIn` seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mfa_token: Option<String>,
    /// What the account can show: `totp`, `passkey`, `recoveryCode`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = json!(["totp", "recoveryCode"]))]
    pub methods: Option<Vec<&'static str>>,
    /// True where the tenant demands a second factor and the account has none: the access token is good for setting one
    /// up, and for nothing else. There is no refresh token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mfa_enrolment_required: Option<bool>,
}

impl From<Entered> for SessionOut {
    fn from(entered: Entered) -> Self {
        match entered {
            Entered::SignedIn(signed_in) => Self::from(*signed_in),
            Entered::SecondFactor(pending) => Self {
                mfa_required: Some(true),
                mfa_token: Some(pending.token.expose().to_owned()),
                methods: Some(pending.held.methods()),
                expires_in: Some(pending.expires_in),
                ..Self::default()
            },
            Entered::Enrolment(limited) => Self {
                user: Some(UserOut::from(&limited.user)),
                token: Some(limited.access_token.clone()),
                access_token: Some(limited.access_token),
                token_type: Some("Bearer"),
                expires_in: Some(limited.expires_in),
                mfa_enrolment_required: Some(true),
                ..Self::default()
            },
        }
    }
}

impl From<SignedIn> for SessionOut {
    fn from(signed_in: SignedIn) -> Self {
        Self {
            user: Some(UserOut::from(&signed_in.user)),
            token: Some(signed_in.access_token.clone()),
            access_token: Some(signed_in.access_token),
            refresh_token: Some(signed_in.refresh_token.expose().to_owned()),
            token_type: Some("Bearer"),
            expires_in: Some(signed_in.expires_in),
            ..Self::default()
        }
    }
}

impl From<User> for SessionOut {
    fn from(unverified: User) -> Self {
        Self { user: Some(UserOut::from(&unverified)), verification_required: Some(true), ..Self::default() }
    }
}
