//! The outboxes of tenants that have a database of their own.

use std::{collections::HashSet, time::Duration};

use contract::Secret;
use sqlx::query_scalar;
use tokio::{
    net::TcpListener,
    sync::oneshot::{Sender, channel},
    task::JoinHandle,
};

use super::server::Server;
use crate::{
    features::mail::sender,
    infra::{apart, db, provisioned},
    jobs::login,
    testing::{TestApp, database_url},
};

/// A replica that sends through this server; `None` has none that answers, and only writes mails down.
fn replica(world: &TestApp, server: Option<&Server>, uri: &Secret) -> TestApp {
    let app = match server {
        Some(server) => {
            let own = server.flags();
            world.with_flags(&own.iter().map(String::as_str).chain(["--smtp-tls", "none"]).collect::<Vec<_>>())
        }
        None => world.replica(),
    };
    app.serve(&app.tenant("acme"));
    app.serve(&apart(&app, "beta", uri));
    app
}

fn start(app: &TestApp) -> (Sender<()>, JoinHandle<()>) {
    let (stop, stopped) = channel();
    (stop, tokio::spawn(sender::run(app.app.clone(), async { drop(stopped.await) })))
}

async fn until_taken(server: &Server, mails: usize) {
    let taken = async {
        while server.took().len() < mails {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_mins(1), taken).await;
    assert!(waited.is_ok(), "{} of {mails} mails", server.took().len());
}

#[tokio::test]
async fn two_replicas_send_the_mails_of_a_tenant_with_its_own_database_once_each() {
    let world = TestApp::new().await;
    let (login, uri) = provisioned().await;
    let server = Server::start();
    // Written down by a replica that is gone before it sends anything: the others have to find them.
    let gone = replica(&world, None, &uri);
    for n in 0..10 {
        gone.register_at("beta.test", &format!("found{n}@beta.test")).await;
    }
    let replicas = [replica(&world, Some(&server), &uri), replica(&world, Some(&server), &uri)];
    let running: Vec<_> = replicas.iter().map(start).collect();
    until_taken(&server, 10).await;
    // Those that are their own are sent at once.
    for n in 0..10 {
        replicas[n % 2].register_at("beta.test", &format!("own{n}@beta.test")).await;
    }
    replicas[0].register_at("acme.test", "ada@acme.test").await;
    until_taken(&server, 21).await;
    // Who stops finishes what it has in hand: whatever was sent twice would be seen now.
    for (stop, task) in running {
        drop(stop);
        task.await.unwrap();
    }
    let mails = server.took();
    let ids: HashSet<_> = mails.iter().map(|mail| mail["headers"]["Message-ID"].to_string()).collect();
    let to: HashSet<_> = mails.iter().map(|mail| mail["to"][0].to_string()).collect();
    assert_eq!((mails.len(), ids.len(), to.len()), (21, 21, 21));

    let mut tx = gone.app.db.begin(gone.tenant("beta").id).await.unwrap();
    let database: String = query_scalar("SELECT current_database()::text").fetch_one(tx.conn()).await.unwrap();
    let sent: i64 = query_scalar("SELECT count(*) FROM mail.outbox WHERE state = 'sent' AND content IS NULL")
        .fetch_one(tx.conn())
        .await
        .unwrap();
    assert_eq!((database, sent), (login.database.clone(), 20));
    drop(tx);
    for app in replicas.iter().chain([&gone]) {
        app.app.db.close().await;
    }
    login::drop(&db::options(Some(&database_url())).unwrap(), &login.user, &login.database).await.unwrap();
}

#[tokio::test]
async fn databases_that_swallow_everything_stop_no_other_tenants_mail() {
    let world = TestApp::new().await;
    // Takes connections, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut held = vec![];
        while let Ok((connection, _)) = silent.accept().await {
            held.push(connection);
        }
    });
    let uri = Secret::new(format!("postgres://a:b@127.0.0.1:{port}/c?sslmode=disable"));
    let server = Server::start();
    world.register("found@acme.test").await;
    let app = replica(&world, Some(&server), &uri);
    // Many more than visits at a time.
    for n in 0..20 {
        app.serve(&apart(&app, &format!("gamma{n}"), &uri));
    }
    let (stop, task) = start(&app);
    until_taken(&server, 1).await;
    app.register("own@acme.test").await;
    until_taken(&server, 2).await;
    drop(stop);
    task.abort();
}
