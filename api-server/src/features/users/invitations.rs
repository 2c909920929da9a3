//! Asking somebody once more to choose the password of an account that was made for them.

use std::sync::Arc;

use axum::extract::State;
use utoipa_axum::router::OpenApiRouter;

use super::{http::UserOut, model::UsersError, repo, service::Users};
use crate::{
    app::App,
    extract::{Can, CurrentUser, Path, Tenant, User, UserId, permissions::CreateUsers},
    features::{
        audit::{self, Entry},
        auth::{AuthError, Device},
        mail::{Letter, Message, Wish},
    },
    openapi::routes,
    reply::{Answer, Envelope, ErrorBody, Reply},
    tenancy::TenantSnapshot,
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(admin_invite_user))
}

/// Mail a user without a password an invitation to choose one, for the first time or again.
///
/// The link is good once, for 7 days; former ones are good no more.
#[utoipa::path(post, path = "/admin/users/{id}/invite", operation_id = "admin_invite_user", tag = "users",
    params(("id" = UserId, Path, description = "The user's id")), security(("bearer" = ["users:create"])), responses(
    (status = 200, description = "The user; an invitation is on its way", body = Envelope<UserOut>),
    (status = 403, description = "The role does not allow it", body = ErrorBody),
    (status = 404, description = "No such user in this tenant", body = ErrorBody),
    (status = 409, description = "The user has a password (`HAS_PASSWORD`) or is deactivated, or this platform sends no mail", body = ErrorBody),
    (status = 429, description = "Too many mails went to this address", body = ErrorBody),
))]
async fn admin_invite_user(
    me: Can<CreateUsers>,
    State(app): State<App>,
    tenant: Tenant,
    device: Device,
    Path(id): Path<UserId>,
) -> Answer<UserOut> {
    let user = app.users.invite(&tenant.0, &me, id, &device).await?;
    Ok(Reply::ok(UserOut::from(&user)).with_message("An invitation is on its way"))
}

impl Users {
    async fn invite(
        &self,
        tenant: &Arc<TenantSnapshot>,
        by: &CurrentUser,
        id: UserId,
        device: &Device,
    ) -> Result<User, AuthError> {
        let user = self.find(tenant.id, id).await?;
        self.recovery.may_invite(tenant.id, &user.email).await?;
        let mut tx = self.db.begin(tenant.id).await?;
        // Under the lock: an account that is changed or deleted meanwhile is not mailed as it was.
        repo::lock_user(&mut tx, id).await?;
        let user = repo::find_user(&mut tx, id).await?.ok_or(UsersError::NoSuchUser)?;
        if !user.is_active {
            return Err(UsersError::Deactivated.into());
        }
        if repo::password_hash(&mut tx, id).await?.is_some() {
            return Err(UsersError::HasPassword.into());
        }
        let wish = Letter::Wish { wish: Wish::Invitation };
        self.mail.enqueue(&mut tx, &Message::to_user(&user, wish)).await?;
        audit::record_in_tx(&mut tx, &Entry::on_user(id, "INVITE").by(by.id).from(device), self.clock.now()).await?;
        tx.commit().await?;
        Ok(user)
    }
}
