//! Wire types and handlers.

use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use uuid::Uuid;

use super::model::{Listed, MailError, MailState};
use crate::{
    app::App,
    error::ApiError,
    extract::{
        Can, Page, PageQuery, Path, Query, Tenant, UserId,
        permissions::{ReadMail, RetryMail},
    },
    features::auth::Device,
    openapi::routes,
    reply::{Answer, Envelope, ErrorBody, Reply},
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list_mail)).routes(routes!(retry_mail))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct MailQuery {
    /// Mails in this state; all when left out.
    #[param(inline)]
    state: Option<MailState>,
}

/// A mail, without what it says.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct MailOut {
    /// Its Message-ID begins with it.
    id: Uuid,
    /// Whom it is about.
    user_id: Option<UserId>,
    #[schema(example = "reset-password")]
    kind: String,
    #[schema(example = "ada@example.com")]
    recipient: String,
    #[schema(value_type = MailState)]
    state: String,
    /// Tries that the server refused.
    attempts: u32,
    /// What the server said last.
    #[schema(example = "permanent error (550): mailbox unavailable")]
    last_error: Option<String>,
    /// When it is tried next; absent where it is not.
    next_attempt_at: Option<Timestamp>,
    created_at: Timestamp,
    /// It is not sent after this.
    expires_at: Timestamp,
    /// When it was sent or given up.
    finished_at: Option<Timestamp>,
}

impl From<Listed> for MailOut {
    fn from(mail: Listed) -> Self {
        let queued = mail.state == MailState::Queued.as_str();
        let Listed { id, user, kind, recipient, state, attempts, last_error, due_at, .. } = mail;
        Self {
            id,
            user_id: user,
            kind,
            recipient,
            state,
            attempts,
            last_error,
            next_attempt_at: queued.then_some(due_at),
            created_at: mail.created_at,
            expires_at: mail.expires_at,
            finished_at: mail.finished_at,
        }
    }
}

/// The tenant's mails, newest first: what waits, what was sent in the last week, what was given up.
#[utoipa::path(get, path = "/admin/mail", operation_id = "list_mail", tag = "mail", params(PageQuery, MailQuery),
    security(("bearer" = ["mail:read"])), responses(
    (status = 200, description = "A page of mails", body = Envelope<Vec<MailOut>>),
    (status = 400, description = "A parameter breaks its rule", body = ErrorBody),
    (status = 403, description = "The role does not allow it", body = ErrorBody),
))]
async fn list_mail(
    _may: Can<ReadMail>,
    State(app): State<App>,
    tenant: Tenant,
    page: Page,
    Query(query): Query<MailQuery>,
) -> Answer<Vec<MailOut>> {
    let (mails, pagination) = app.mail.list(tenant.id, &page, query.state).await?;
    Ok(Reply::ok(mails.into_iter().map(MailOut::from).collect()).with_pagination(pagination))
}

/// Try a mail anew that was given up.
#[utoipa::path(post, path = "/admin/mail/{id}/retry", operation_id = "retry_mail", tag = "mail",
    params(("id" = Uuid, Path, description = "The mail's id")), security(("bearer" = ["mail:retry"])), responses(
    (status = 200, description = "It waits to be sent again", body = Envelope<MailOut>),
    (status = 403, description = "The role does not allow it", body = ErrorBody),
    (status = 404, description = "No such mail in this tenant", body = ErrorBody),
    (status = 409, description = "It was not given up, or what it offers has expired, or no mail server is configured", body = ErrorBody),
))]
async fn retry_mail(
    may: Can<RetryMail>,
    State(app): State<App>,
    tenant: Tenant,
    device: Device,
    Path(id): Path<Uuid>,
) -> Answer<MailOut> {
    Ok(Reply::ok(app.mail.retry(tenant.id, &may, id, &device).await?.into()).with_message("Queued"))
}

impl From<MailError> for ApiError {
    fn from(error: MailError) -> Self {
        match error {
            MailError::NotConfigured => {
                Self::conflict("This platform sends no mail: whoever runs it names a mail server in Platform.spec.mail")
                    .with_code("MAIL_NOT_CONFIGURED")
            }
            MailError::NoSuchMail => Self::not_found("No such mail"),
            MailError::NotDead => {
                Self::conflict("Only a mail that was given up is tried anew").with_code("MAIL_NOT_DEAD")
            }
            MailError::Expired => Self::conflict("What this mail offers has expired: have the user ask for a new one")
                .with_code("MAIL_EXPIRED"),
            MailError::Database(error) => error.into(),
        }
    }
}
