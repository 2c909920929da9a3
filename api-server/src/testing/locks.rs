//! Two transactions in an order that a test decides.

use std::pin::pin;

use sqlx::AssertSqlSafe;

use super::TestApp;
use crate::infra::TenantTx;

impl TestApp {
    /// A transaction of acme, with this statement carried out and not yet committed.
    pub async fn hold(&self, statement: &str) -> TenantTx {
        let mut tx = self.app.db.begin(self.tenant("acme").id).await.unwrap();
        sqlx::query(AssertSqlSafe(statement.to_owned())).execute(tx.conn()).await.unwrap();
        tx
    }

    /// Begins `act` beside a held transaction, and goes on as `then` says once `act` waits for that one, or is done.
    pub async fn beside<T>(&self, act: impl Future<Output = T>, then: impl AsyncFnOnce()) -> T {
        let mut act = pin!(act);
        let early = tokio::select! {
            done = &mut act => Some(done),
            () = self.until_somebody_waits() => None,
        };
        match early {
            Some(done) => {
                then().await;
                done
            }
            None => tokio::join!(act, then()).0,
        }
    }

    async fn until_somebody_waits(&self) {
        let waiting =
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        loop {
            // Anew each time: within one transaction PostgreSQL shows what it saw first.
            let mut look = self.app.db.begin(self.tenant("acme").id).await.unwrap();
            if sqlx::query_scalar::<_, i64>(waiting).fetch_one(look.conn()).await.unwrap() > 0 {
                return;
            }
        }
    }
}
