//! The room's handle: others write mails down with it, administrators look after them.

use std::{collections::HashSet, sync::Arc};

use contract::{
    Secret, TenantId,
    seal::{SealError, Sealed, SealingKey},
};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Notify;
use uuid::Uuid;

use super::{
    letter::Letter,
    metrics::MailMetrics,
    model::{Content, Listed, MailError, MailState, Message},
    repo::{self, NewRow},
    smtp::Smtp,
};
use crate::{
    extract::{CurrentUser, Page},
    features::{
        audit::{self, Entry},
        auth::Device,
    },
    infra::{Clock, Db, TenantTx},
    reply::Pagination,
};

/// The room's handle. Cheap to clone.
#[derive(Clone)]
pub struct Mail(Arc<Inner>);

struct Inner {
    db: Db,
    clock: Clock,
    key: SealingKey,
    smtp: Option<Smtp>,
    metrics: MailMetrics,
    woken: Arc<Woken>,
}

/// Tenants for which this process wrote a mail down.
#[derive(Default)]
pub(super) struct Woken {
    tenants: Mutex<HashSet<TenantId>>,
    bell: Notify,
}

impl Woken {
    fn wake(&self, tenant: TenantId) {
        self.tenants.lock().insert(tenant);
        self.bell.notify_one();
    }

    pub(super) fn take(&self) -> HashSet<TenantId> {
        std::mem::take(&mut *self.tenants.lock())
    }

    /// Returns when there is something to take, now or since the last time.
    pub(super) async fn bell(&self) {
        self.bell.notified().await;
    }
}

impl Mail {
    pub fn new(db: Db, clock: Clock, key: SealingKey, smtp: Option<Smtp>, metrics: MailMetrics) -> Self {
        Self(Arc::new(Inner { db, clock, key, smtp, metrics, woken: Arc::default() }))
    }

    /// An error where no mail can be sent, for what makes no sense without.
    pub fn required(&self) -> Result<(), MailError> {
        if self.0.smtp.is_some() { Ok(()) } else { Err(MailError::NotConfigured) }
    }

    /// Writes a mail down in the transaction of the act that it is about; it goes out after the commit. Where no mail
    /// server is configured, nothing is written.
    ///
    /// Call it before the audit entry, which comes last in a transaction.
    pub async fn enqueue(&self, tx: &mut TenantTx, message: &Message) -> Result<(), sqlx::Error> {
        if self.0.smtp.is_none() {
            tracing::debug!(kind = message.letter.kind(), "no mail server is configured: nothing is sent");
            return Ok(());
        }
        let (now, id, tenant) = (self.0.clock.now(), Uuid::now_v7(), tx.tenant());
        let content = self.seal(tenant, id, message)?;
        repo::insert(tx, &row(id, message, &content, now), now).await?;
        let woken = Arc::clone(&self.0.woken);
        tx.after_commit(move || woken.wake(tenant));
        Ok(())
    }

    /// A page of the tenant's mails, newest first.
    pub async fn list(
        &self,
        tenant: TenantId,
        page: &Page,
        state: Option<MailState>,
    ) -> Result<(Vec<Listed>, Pagination), MailError> {
        let mut tx = self.0.db.begin(tenant).await?;
        let mut mails = repo::list(&mut tx, page, state).await?;
        let total = if page.wants_total() { Some(repo::count(&mut tx, state).await?) } else { None };
        tx.commit().await?;
        let pagination = page.cut(&mut mails, total, |mail| (mail.created_at, mail.id));
        Ok((mails, pagination))
    }

    /// Lets a dead mail be tried anew.
    pub async fn retry(
        &self,
        tenant: TenantId,
        by: &CurrentUser,
        id: Uuid,
        device: &Device,
    ) -> Result<Listed, MailError> {
        self.required()?;
        let now = self.0.clock.now();
        let mut tx = self.0.db.begin(tenant).await?;
        let mail = repo::find(&mut tx, id).await?.ok_or(MailError::NoSuchMail)?;
        if mail.state != MailState::Dead.as_str() {
            return Err(MailError::NotDead);
        }
        if mail.expires_at <= now {
            return Err(MailError::Expired);
        }
        repo::revive(&mut tx, id, now).await?;
        let woken = Arc::clone(&self.0.woken);
        tx.after_commit(move || woken.wake(tenant));
        let mail = repo::find(&mut tx, id).await?.ok_or(MailError::NoSuchMail)?;
        let entry = Entry::new("mail", "RETRY_MAIL").of(id.to_string()).by(by.id).from(device);
        audit::record_in_tx(&mut tx, &entry.with(json!({ "kind": mail.kind })), now).await?;
        tx.commit().await?;
        Ok(mail)
    }

    /// Seals what a mail says, for its row alone.
    pub(super) fn seal(&self, tenant: TenantId, id: Uuid, message: &Message) -> Result<String, sqlx::Error> {
        let content = Content { name: message.name.clone(), letter: message.letter.clone() };
        let plain = serde_json::to_string(&content).map_err(|error| sqlx::Error::Encode(error.into()))?;
        let sealed = self.0.key.seal(tenant, &field(id), &Secret::new(plain));
        sealed.map(|sealed| sealed.as_str().to_owned()).map_err(|error| sqlx::Error::Encode(error.into()))
    }

    /// Opens what [`Self::seal`] sealed.
    pub(super) fn open(&self, tenant: TenantId, id: Uuid, content: &str) -> Result<Content, SealError> {
        let plain = self.0.key.open(tenant, &field(id), &Sealed::from(content.to_owned()))?;
        serde_json::from_str(plain.expose()).map_err(|_| SealError::Malformed { field: field(id) })
    }

    pub(super) fn smtp(&self) -> Option<&Smtp> {
        self.0.smtp.as_ref()
    }

    pub(super) fn woken(&self) -> &Woken {
        &self.0.woken
    }

    pub(super) fn metrics(&self) -> &MailMetrics {
        &self.0.metrics
    }
}

/// The row of a message.
pub(super) fn row<'a>(id: Uuid, message: &'a Message, content: &'a str, now: Timestamp) -> NewRow<'a> {
    let Message { to, user, letter, expires_at, .. } = message;
    let worth = || now.saturating_add(Letter::WORTH).unwrap_or(Timestamp::MAX);
    let expires_at = expires_at.unwrap_or_else(worth);
    NewRow { id, user: *user, kind: letter.kind(), recipient: to, content, expires_at }
}

fn field(id: Uuid) -> String {
    format!("mail/{id}")
}
