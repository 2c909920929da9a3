//! Everything that is kept about a person, as one document: the right of access. What only proves who they are (hashes, sealed
//! secrets) is not in it; a test holds every table with a user's rows to being named here.

use std::sync::Arc;

use axum::extract::State;
use http::{HeaderValue, header};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{json, value::RawValue};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use uuid::Uuid;

use super::{
    http::{UserOut, oneself_or},
    model::UsersError,
    repo,
    roles::{HeldRoleOut, held},
    service::{Users, holder},
};
use crate::{
    app::App,
    error::ApiError,
    extract::{CurrentUser, Page, Path, Principal, SessionId, Tenant, UserId, permissions::ExportUsers},
    features::{
        api_keys::{self, ApiKeyOut},
        audit::{self, AuditEntryOut, Entry},
        auth::{self, Device},
        factors,
        identities::{self, IdentityOut},
        mail, payments,
    },
    openapi::routes,
    reply::{Answer, Envelope, ErrorBody, Reply},
    tenancy::TenantSnapshot,
};

/// Of one kind of thing; who has more is told so, and pages through the list of it.
const MOST: u32 = 10_000;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(export_user))
}

/// All that is kept about one person.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ExportOut {
    exported_at: Timestamp,
    account: UserOut,
    groups: Vec<String>,
    roles: Vec<HeldRoleOut>,
    /// Every sign-in, also those that ended.
    sessions: Vec<SignInOut>,
    #[schema(example = json!(["totp"]))]
    second_factors: Vec<&'static str>,
    /// Accounts elsewhere that they sign in with.
    identities: Vec<IdentityOut>,
    api_keys: Vec<ApiKeyOut>,
    /// As `GET /payments/{id}` shows each.
    #[schema(value_type = Vec<Object>)]
    payments: Vec<Box<RawValue>>,
    /// What was mailed to them, without what it said.
    mails: Vec<MailedOut>,
    /// What they did, and what was done to their account.
    audit: Vec<AuditEntryOut>,
    /// Parts of which there are more than the newest 10,000 that are here; empty where all is here.
    #[schema(example = json!([]))]
    cut_off: Vec<&'static str>,
}

/// A sign-in, as it is kept.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SignInOut {
    pub id: SessionId,
    pub user_agent: Option<String>,
    pub ip_address: Option<String>,
    pub created_at: Timestamp,
    pub last_used_at: Timestamp,
    pub expires_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    /// `logout`, `reuse`, `password`, `admin` …
    pub ended_for: Option<String>,
}

/// A mail, as it is remembered.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MailedOut {
    pub id: Uuid,
    #[schema(example = "reset-password")]
    pub kind: String,
    pub recipient: String,
    #[schema(example = "sent")]
    pub state: String,
    pub created_at: Timestamp,
}

/// Everything that is kept about a user: about oneself, or about anybody for who holds `users:export`.
#[utoipa::path(get, path = "/users/{id}/export", operation_id = "export_user", tag = "users",
    params(("id" = UserId, Path, description = "The user's id")), security(("bearer" = []), ("apiKey" = [])), responses(
    (status = 200, description = "The document, to be saved as a file", body = Envelope<ExportOut>),
    (status = 403, description = "Somebody else, and the role does not allow it", body = ErrorBody),
    (status = 404, description = "No such user in this tenant", body = ErrorBody),
))]
async fn export_user(
    me: Principal,
    State(app): State<App>,
    tenant: Tenant,
    device: Device,
    Path(id): Path<UserId>,
) -> Answer<ExportOut> {
    oneself_or::<ExportUsers>(&me, id)?;
    let export = app.users.export(&tenant.0, &me, id, &device).await?;
    let file = HeaderValue::from_static("attachment; filename=\"export.json\"");
    Ok(Reply::ok(export).with_header(header::CONTENT_DISPOSITION, file))
}

impl Users {
    async fn export(
        &self,
        tenant: &Arc<TenantSnapshot>,
        by: &CurrentUser,
        id: UserId,
        device: &Device,
    ) -> Result<ExportOut, ApiError> {
        let now = self.clock.now();
        let page = Page { limit: MOST, after: None, number: None, offset: 0 };
        let mut tx = self.db.begin(tenant.id).await?;
        let user = repo::find_user(&mut tx, id).await?.ok_or(UsersError::NoSuchUser)?;
        let assigned = repo::roles_of(&mut tx, id).await?;
        let mut sessions = auth::all_sessions(&mut tx, id, &page).await?;
        let mut keys = api_keys::list(&mut tx, &page, Some(id)).await?;
        let mut payments = payments::shown_of(&mut tx, id, &page).await?;
        let mut mails = mail::about(&mut tx, id, &page).await?;
        let mut audit = audit::about(&mut tx, id, &page).await?;
        let identities = identities::identities_of(&mut tx, id).await?;
        let second_factors = factors::held(&mut tx, id).await?.methods();
        // After the look at the audit: the export itself is not in it, and the chain is held from here on.
        audit::record_in_tx(&mut tx, &Entry::on_user(id, "EXPORT").by(by.id).from(device).with(json!({})), now).await?;
        tx.commit().await?;
        let cut_off = [
            ("sessions", cut(&mut sessions)),
            ("apiKeys", cut(&mut keys)),
            ("payments", cut(&mut payments)),
            ("mails", cut(&mut mails)),
            ("audit", cut(&mut audit)),
        ];
        Ok(ExportOut {
            exported_at: now,
            account: UserOut::from(&user),
            groups: user.groups.clone(),
            roles: held(holder(tenant, user, assigned, now)),
            sessions,
            second_factors,
            identities: identities.into_iter().map(|identity| IdentityOut::of(tenant, identity)).collect(),
            api_keys: keys.into_iter().map(ApiKeyOut::from).collect(),
            payments,
            mails,
            audit: audit.into_iter().map(AuditEntryOut::from).collect(),
            cut_off: cut_off.into_iter().filter_map(|(part, cut)| cut.then_some(part)).collect(),
        })
    }
}

/// Takes the row off that only tells that there are more.
fn cut<T>(rows: &mut Vec<T>) -> bool {
    let most = usize::try_from(MOST).unwrap_or(usize::MAX);
    let more = rows.len() > most;
    rows.truncate(most);
    more
}
