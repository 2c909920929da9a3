mod own_databases;
pub mod server;
mod through_a_server;
mod words;

use std::sync::Arc;

use contract::TenantId;
use sqlx::query_as;
use uuid::Uuid;

use super::{
    delivery::{LEASE, prepare, visit, write},
    letter::Letter,
    model::Message,
    repo,
    smtp::Outcome,
};
use crate::{app::App, tenancy::TenantSnapshot, testing::TestApp};

/// Sends all that is due now, of all tenants, and says how many mails were taken in hand. What the sender does, once.
pub async fn run_once(app: &App) -> usize {
    let mut taken = 0;
    for tenant in app.tenants.active() {
        loop {
            let visit = visit(app, &tenant).await.unwrap();
            taken += visit.taken;
            if visit.taken == 0 || visit.away.is_some() {
                break;
            }
        }
    }
    taken
}

/// Makes letters of all requests of a tenant, and sends nothing.
async fn prepare_all(app: &App, tenant: &Arc<TenantSnapshot>) {
    let (now, lease) = (app.clock.now(), Uuid::new_v4());
    let mut tx = app.db.begin(tenant.id).await.unwrap();
    let claimed = repo::claim(&mut tx, lease, now, now + LEASE, 1000).await.unwrap();
    tx.commit().await.unwrap();
    for mail in claimed {
        prepare(app, tenant, &mail, lease).await.unwrap();
        write(app, tenant.id, &mail, lease, &Outcome::Trouble(String::new())).await.unwrap();
    }
}

/// Writes a mail down and has it sent with all others that are due.
pub async fn write_and_send(app: &TestApp, to: &str) -> Result<(), sqlx::Error> {
    let tenant = app.app.tenants.by_name("acme").unwrap();
    let letter = Letter::EmailChanged { new: to.to_owned() };
    let mut tx = app.app.db.begin(tenant.id).await?;
    app.app.mail.enqueue(&mut tx, &Message::to_address(to, letter)).await?;
    tx.commit().await?;
    loop {
        let visit = visit(&app.app, &tenant).await?;
        if visit.taken == 0 || visit.away.is_some() {
            return Ok(());
        }
    }
}

/// What waits to be sent at acme: recipients and letters, oldest first. Requests have become letters, or are gone.
pub async fn letters(app: &TestApp) -> Vec<(String, Letter)> {
    let tenant = app.app.tenants.by_name("acme").unwrap();
    prepare_all(&app.app, &tenant).await;
    let mut tx = app.app.db.begin(tenant.id).await.unwrap();
    let rows: Vec<(Uuid, String, String)> =
        query_as("SELECT id, recipient, content FROM mail.outbox WHERE state = 'queued' ORDER BY created_at, id")
            .fetch_all(tx.conn())
            .await
            .unwrap();
    let open = |id, content: &str| app.app.mail.open(tenant.id, id, content).unwrap().letter;
    rows.into_iter().map(|(id, recipient, content)| (recipient, open(id, &content))).collect()
}

/// The kinds of the letters that wait for an address.
pub async fn kinds(app: &TestApp, to: &str) -> Vec<&'static str> {
    letters(app).await.iter().filter(|(recipient, _)| recipient == to).map(|(_, letter)| letter.kind()).collect()
}

/// The token in the newest letter of a kind.
pub async fn token(app: &TestApp, to: &str, kind: &str) -> String {
    let found =
        letters(app).await.into_iter().rev().find(|(recipient, letter)| recipient == to && letter.kind() == kind);
    match found.unwrap_or_else(|| panic!("no {kind} to {to}")).1 {
        Letter::Invitation { token }
        | Letter::ResetPassword { token }
        | Letter::VerifyEmail { token, .. }
        | Letter::LeaveAddress { token, .. }
        | Letter::TakeAddress { token }
        | Letter::AccountLocked { token } => token.expose().to_owned(),
        other => panic!("{other:?} has no token"),
    }
}

/// Rows of acme's outbox as `state kind attempts`, oldest first.
async fn rows(app: &TestApp) -> Vec<String> {
    let mut tx = app.app.db.begin(TenantId::derive("test", "acme")).await.unwrap();
    let rows: Vec<(String, String, i32)> =
        query_as("SELECT state, kind, attempts FROM mail.outbox ORDER BY created_at, id")
            .fetch_all(tx.conn())
            .await
            .unwrap();
    rows.into_iter().map(|(state, kind, attempts)| format!("{state} {kind} {attempts}")).collect()
}
