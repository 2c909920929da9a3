//! A few mails of one tenant: taken, given their words, sent, and what came of it written down.

use std::{sync::Arc, time::Duration};

use contract::TenantId;
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use tokio::time::sleep;
use uuid::Uuid;

use super::{
    letter::Letter,
    model::{self, Claimed, Content},
    render::{self, Envelope},
    repo::{self, Standing},
    service::row,
    smtp::{Outcome, Smtp},
};
use crate::{app::App, tenancy::TenantSnapshot};

/// How long a mail belongs to who took it. Much longer than sending takes, so nobody else takes it meanwhile.
pub const LEASE: SignedDuration = SignedDuration::from_mins(5);
/// Mails of one tenant at a time.
const MAILS: i64 = 4;
/// A mail that was sent and is not noted would be sent twice: with ever longer pauses, these last until the lease ends.
const NOTES: u32 = 20;
/// What was finished is shown this long.
const SHOWN: SignedDuration = SignedDuration::from_hours(7 * 24);

/// What came of a look at one tenant's outbox.
#[derive(Debug, Default)]
pub struct Visit {
    /// Mails that were taken in hand.
    pub taken: usize,
    /// How the outbox stands after it; `None` with nothing to do and nothing dead.
    pub standing: Option<Standing>,
    /// Why the server is of no use to anybody now.
    pub away: Option<String>,
}

/// Takes a few of a tenant's mails and sends them.
pub async fn visit(app: &App, tenant: &Arc<TenantSnapshot>) -> Result<Visit, sqlx::Error> {
    let Some(smtp) = app.mail.smtp() else { return Ok(Visit::default()) };
    let (now, lease) = (app.clock.now(), Uuid::new_v4());
    let until = now.saturating_add(LEASE).unwrap_or(Timestamp::MAX);
    let mut tx = app.db.begin(tenant.id).await?;
    let expired = repo::give_up_expired(&mut tx, now).await?;
    let claimed = repo::claim(&mut tx, lease, now, until, MAILS).await?;
    tx.commit().await?;
    app.mail.metrics().given_up.inc_by(expired);

    let taken = claimed.len();
    let sent = join_all(claimed.into_iter().map(|mail| deliver(app, smtp, tenant, mail, lease))).await;
    let away = sent.into_iter().flatten().next();
    if taken > 0 {
        app.metrics.dependencies.seen("smtp", away.is_none());
    }

    let mut tx = app.db.begin(tenant.id).await?;
    repo::forget_finished(&mut tx, now.saturating_sub(SHOWN).unwrap_or(Timestamp::MIN)).await?;
    let standing = repo::survey(&mut tx, &[tenant.id.as_uuid()]).await?;
    tx.commit().await?;
    Ok(Visit { taken, standing: standing.into_iter().next(), away })
}

/// Sends one mail and notes what came of it. Gives the reason where the server is away.
async fn deliver(app: &App, smtp: &Smtp, tenant: &Arc<TenantSnapshot>, mail: Claimed, lease: Uuid) -> Option<String> {
    let content = match prepare(app, tenant, &mail, lease).await {
        Ok(Some(content)) => content,
        // Nobody has the address, or the lease is lost.
        Ok(None) => return None,
        Err(Failure::Database(error)) => {
            tracing::warn!(mail = %mail.id, %error, "a mail could not be prepared: it is tried again");
            return None;
        }
        Err(Failure::Content(reason)) => {
            note(app, tenant, &mail, lease, &Outcome::Refused(reason)).await;
            return None;
        }
    };
    let envelope =
        Envelope { tenant, id: mail.id, to: &mail.recipient, created_at: mail.created_at, from: smtp.from() };
    let mut outcome = match render::render(&envelope, &content) {
        Ok(message) => smtp.send(&message).await,
        Err(error) => Outcome::Refused(error.to_string()),
    };
    let mut away = None;
    if let Outcome::Trouble(reason) = &outcome {
        match smtp.is_there().await {
            // It has trouble with this one mail: others need not wait for it.
            Ok(()) => outcome = Outcome::Later(reason.clone()),
            Err(reason) => away = Some(reason),
        }
    }
    note(app, tenant, &mail, lease, &outcome).await;
    away
}

#[derive(Debug)]
pub(super) enum Failure {
    Database(sqlx::Error),
    /// It will never be sendable.
    Content(String),
}

/// What the mail says. A request by address becomes a letter here, or nothing.
pub(super) async fn prepare(
    app: &App,
    tenant: &Arc<TenantSnapshot>,
    mail: &Claimed,
    lease: Uuid,
) -> Result<Option<Content>, Failure> {
    let Some(sealed) = &mail.content else { return Err(Failure::Content("it says nothing any more".into())) };
    let content = app.mail.open(tenant.id, mail.id, sealed).map_err(|error| Failure::Content(error.to_string()))?;
    let Letter::Wish { wish } = content.letter else { return Ok(Some(content)) };
    let mut tx = app.db.begin(tenant.id).await.map_err(Failure::Database)?;
    let message = app.recovery.grant(&mut tx, tenant, &mail.recipient, wish).await.map_err(Failure::Database)?;
    let ours = match &message {
        None => repo::delete(&mut tx, mail.id, lease).await,
        Some(message) => {
            let content = app.mail.seal(tenant.id, mail.id, message).map_err(Failure::Database)?;
            repo::replace(&mut tx, &row(mail.id, message, &content, app.clock.now()), lease).await
        }
    };
    // The token and the letter that holds it, or neither.
    if !ours.map_err(Failure::Database)? {
        return Ok(None);
    }
    tx.commit().await.map_err(Failure::Database)?;
    Ok(message.map(|message| Content { name: message.name, letter: message.letter }))
}

/// Writes the outcome down.
async fn note(app: &App, tenant: &TenantSnapshot, mail: &Claimed, lease: Uuid, outcome: &Outcome) {
    let metrics = app.mail.metrics();
    match outcome {
        Outcome::Taken => metrics.sent.inc(),
        Outcome::Later(_) => metrics.put_back.inc(),
        Outcome::Refused(_) => {
            // Not with the server's words, which may hold the address: GET /admin/mail has them.
            tracing::warn!(tenant = %tenant.name, mail = %mail.id, "a mail was given up");
            metrics.given_up.inc()
        }
        Outcome::Trouble(_) => 0,
    };
    for attempt in 1..=NOTES {
        match write(app, tenant.id, mail, lease, outcome).await {
            Ok(true) => return,
            Ok(false) => {
                tracing::warn!(mail = %mail.id, "the lease of a mail was lost: it may be sent twice");
                return;
            }
            Err(error) if attempt == NOTES => {
                tracing::error!(mail = %mail.id, %error, "what became of a mail could not be noted: it may be sent twice");
            }
            Err(_) => sleep(Duration::from_secs(attempt.into())).await,
        }
    }
}

pub(super) async fn write(
    app: &App,
    tenant: TenantId,
    mail: &Claimed,
    lease: Uuid,
    outcome: &Outcome,
) -> Result<bool, sqlx::Error> {
    let now = app.clock.now();
    let mut tx = app.db.begin(tenant).await?;
    let ours = match outcome {
        Outcome::Taken => repo::mark_sent(&mut tx, mail.id, lease, now).await?,
        Outcome::Refused(reason) => repo::give_up(&mut tx, mail.id, lease, reason, now).await?,
        Outcome::Later(reason) => {
            let delay = model::delay(mail.attempts + 1, rand::random());
            let due = now.saturating_add(delay).unwrap_or(Timestamp::MAX);
            repo::put_back(&mut tx, mail.id, lease, due, true, reason).await?
        }
        // Due at once: this process and the others wait for the server, not for the mail.
        Outcome::Trouble(reason) => repo::put_back(&mut tx, mail.id, lease, now, false, reason).await?,
    };
    tx.commit().await?;
    Ok(ours)
}
