//! Mails through a real server, which refuses, hangs, dies and comes back.

use std::collections::HashSet;

use futures::future::join_all;
use http::StatusCode;
use serde_json::{Value, json};

use super::{rows, run_once, server::Server};
use crate::{
    features::mail::{Letter, Message, Place, sender},
    testing::{PASSWORD, TestApp, seconds},
};

/// A replica that sends through this server, unencrypted.
fn sending(world: &TestApp, server: &Server) -> TestApp {
    flagged(world, server, &["--smtp-tls", "none"])
}

fn flagged(world: &TestApp, server: &Server, flags: &[&str]) -> TestApp {
    let own = server.flags();
    let all: Vec<_> = own.iter().map(String::as_str).chain(flags.iter().copied()).collect();
    let app = world.with_flags(&all);
    app.serve(&app.tenant("acme"));
    app
}

async fn write_down(app: &TestApp, to: &str) {
    let tenant = app.app.tenants.by_name("acme").unwrap();
    let place = Place { ip: "192.0.2.7".into(), user_agent: None, at: app.clock.now() };
    let mut tx = app.app.db.begin(tenant.id).await.unwrap();
    let message = Message::to_address(to, Letter::PasswordChanged { place });
    app.app.mail.enqueue(&mut tx, &message).await.unwrap();
    tx.commit().await.unwrap();
}

fn recipients(server: &Server) -> Vec<String> {
    server.took().iter().map(|mail| mail["to"][0].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn two_replicas_send_a_hundred_mails_once_each() {
    let world = TestApp::new().await;
    let server = Server::start();
    let replicas = [sending(&world, &server), sending(&world, &server)];
    for n in 0..100 {
        write_down(&replicas[n % 2], &format!("user{n}@acme.test")).await;
    }
    let taken = join_all(replicas.iter().map(|replica| run_once(&replica.app))).await;
    assert_eq!(taken.iter().sum::<usize>(), 100, "{taken:?}");
    assert!(taken.iter().all(|n| *n > 0), "both had their share: {taken:?}");

    let mails = server.took();
    let different = |key: &dyn Fn(&Value) -> String| mails.iter().map(key).collect::<HashSet<_>>().len();
    assert_eq!(mails.len(), 100);
    assert_eq!(different(&|mail| mail["to"][0].to_string()), 100);
    assert_eq!(different(&|mail| mail["headers"]["Message-ID"].to_string()), 100);
    assert_eq!(rows(&world).await, vec!["sent password-changed 0"; 100]);
    assert_eq!(run_once(&replicas[0].app).await, 0);
}

#[tokio::test]
async fn a_mail_that_is_refused_for_now_waits_longer_each_time_and_is_sent_in_the_end() {
    let world = TestApp::new().await;
    let server = Server::start();
    let app = sending(&world, &server);
    write_down(&app, "busy-ada@acme.test").await;
    write_down(&app, "bob@acme.test").await;
    assert_eq!(run_once(&app.app).await, 2);
    // Nobody waits for the one that has to.
    assert_eq!(recipients(&server), ["bob@acme.test"]);
    for (wait, attempts) in [(29, 1), (9, 2), (100, 3)] {
        app.clock.advance(seconds(wait));
        run_once(&app.app).await;
        assert_eq!(rows(&world).await[0], format!("queued password-changed {attempts}"), "after {wait} s more");
    }
    server.forgive();
    app.clock.advance(seconds(300));
    run_once(&app.app).await;
    assert_eq!(recipients(&server), ["bob@acme.test", "busy-ada@acme.test"]);
    assert_eq!(rows(&world).await[0], "sent password-changed 3");
}

#[tokio::test]
async fn a_mail_that_is_refused_for_good_is_dead_at_once_and_an_administrator_tries_it_anew() {
    let world = TestApp::new().await;
    let server = Server::start();
    let app = sending(&world, &server);
    let admin = app.admin().await;
    run_once(&app.app).await;
    write_down(&app, "gone-ada@acme.test").await;
    run_once(&app.app).await;

    let list = "/api/v1/admin/mail?state=dead";
    let dead = app.get(list).bearer(&admin).send().await;
    assert_eq!(dead.status, StatusCode::OK, "{}", dead.json);
    let mail = &dead.json["data"][0];
    assert_eq!((&mail["recipient"], &mail["attempts"]), (&json!("gone-ada@acme.test"), &json!(1)));
    assert!(mail["lastError"].as_str().unwrap().contains("no such mailbox"), "{mail}");
    assert!(mail["nextAttemptAt"].is_null() && !dead.text.contains("192.0.2.7"), "{mail}");

    let retry = format!("/api/v1/admin/mail/{}/retry", mail["id"].as_str().unwrap());
    let again = app.post(&retry, &json!({})).bearer(&admin).send().await;
    assert_eq!((again.status, &again.json["data"]["state"]), (StatusCode::OK, &json!("queued")), "{}", again.json);
    let twice = app.post(&retry, &json!({})).bearer(&admin).send().await;
    assert_eq!(twice.code(), "MAIL_NOT_DEAD");
    run_once(&app.app).await;
    assert_eq!(rows(&world).await.last().unwrap(), "dead password-changed 1", "{:?}", errors(&app).await);
    app.clock.advance(seconds(73 * 3600));
    let late = app.post(&retry, &json!({})).bearer(&admin_again(&app).await).send().await;
    assert_eq!(late.code(), "MAIL_EXPIRED", "{}", late.json);

    let audit = app.get("/api/v1/admin/audit-logs?action=RETRY_MAIL").bearer(&admin_again(&app).await).send().await;
    assert_eq!(audit.json["data"].as_array().unwrap().len(), 1, "{}", audit.json);
}

/// A new access token: the old one has expired.
async fn admin_again(app: &TestApp) -> String {
    let login = json!({ "email": "admin@acme.test", "password": PASSWORD });
    let signed_in = app.post("/api/v1/auth/login", &login).send().await;
    signed_in.json["data"]["accessToken"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn mails_wait_for_a_server_that_is_away_and_none_is_given_up_for_it() {
    let world = TestApp::new().await;
    let mut server = Server::start();
    let app = sending(&world, &server);
    write_down(&app, "first@acme.test").await;
    run_once(&app.app).await;
    server.kill();
    // Requests are answered as ever.
    app.register("ada@acme.test").await;
    for n in 0..5 {
        write_down(&app, &format!("user{n}@acme.test")).await;
        run_once(&app.app).await;
    }
    assert_eq!(rows(&world).await.iter().filter(|row| row.starts_with("queued") && row.ends_with(" 0")).count(), 6);

    let server = server.again();
    run_once(&app.app).await;
    let mut got = recipients(&server);
    got.sort();
    let expected =
        ["ada", "first", "user0", "user1", "user2", "user3", "user4"].map(|name| format!("{name}@acme.test"));
    assert_eq!(got, expected);
}

#[tokio::test]
async fn the_sender_of_a_replica_wakes_by_itself_and_outlives_the_servers_restarts() {
    let world = TestApp::new().await;
    let mut server = Server::start();
    let app = sending(&world, &server);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(sender::run(app.app.clone(), async { drop(stopped.await) }));
    write_down(&app, "one@acme.test").await;
    until(|| recipients(&server) == ["one@acme.test"]).await;
    server.kill();
    write_down(&app, "two@acme.test").await;
    let server = server.again();
    until(|| recipients(&server).len() == 2).await;
    // Written down by a replica that is gone before it could send.
    let gone = world.replica();
    gone.serve(&gone.tenant("acme"));
    write_down(&gone, "three@acme.test").await;
    until(|| recipients(&server).len() == 3).await;
    drop(stop);
    running.await.unwrap();
    assert_eq!(rows(&world).await, vec!["sent password-changed 0"; 3]);
}

/// What was said about mails that were not taken.
async fn errors(app: &TestApp) -> Vec<Option<String>> {
    let mut tx = app.app.db.begin(app.tenant("acme").id).await.unwrap();
    sqlx::query_scalar("SELECT last_error FROM mail.outbox").fetch_all(tx.conn()).await.unwrap()
}

/// Waits for a condition; the bound is against hanging.
async fn until(is: impl Fn() -> bool) {
    let waiting = async {
        while !is() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(90), waiting).await.unwrap();
}

#[tokio::test]
async fn a_mail_whose_news_is_old_is_not_sent() {
    let world = TestApp::new().await;
    let server = Server::start();
    let app = sending(&world, &server);
    write_down(&app, "busy-ada@acme.test").await;
    run_once(&app.app).await;
    app.clock.advance(seconds(73 * 3600));
    server.forgive();
    run_once(&app.app).await;
    assert_eq!(rows(&world).await, ["dead password-changed 1"]);
    assert!(recipients(&server).is_empty());
    app.clock.advance(seconds(8 * 24 * 3600));
    run_once(&app.app).await;
    assert!(rows(&world).await.is_empty(), "what was finished long ago is forgotten");
}

#[tokio::test]
async fn a_lease_keeps_others_away_until_it_ends() {
    let world = TestApp::new().await;
    let server = Server::start();
    let app = sending(&world, &server);
    write_down(&app, "ada@acme.test").await;
    let tenant = app.app.tenants.by_name("acme").unwrap();
    // A replica that takes the mail and dies.
    let now = app.clock.now();
    let mut tx = app.app.db.begin(tenant.id).await.unwrap();
    let claimed = super::super::repo::claim(&mut tx, uuid::Uuid::new_v4(), now, now + seconds(300), 4).await.unwrap();
    assert_eq!(claimed.len(), 1);
    tx.commit().await.unwrap();
    assert_eq!(run_once(&app.app).await, 0);
    app.clock.advance(seconds(301));
    assert_eq!(run_once(&app.app).await, 1);
    let id = server.took()[0]["headers"]["Message-ID"].as_str().unwrap().to_owned();
    assert!(id.contains(&claimed[0].id.to_string()), "{id}: the same mail to a mailbox that has it already");
}

#[tokio::test]
async fn tls_is_spoken_and_a_password_is_sent_over_it_only() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let (certificate, key) = (certificate.to_str().unwrap(), key.to_str().unwrap());
    let world = TestApp::new().await;
    let base = [("CERTIFICATE", certificate), ("KEY", key), ("USERNAME", "mailer"), ("PASSWORD", "pass:w rd")];
    let login = ["--smtp-username", "mailer", "--smtp-password", "pass:w rd", "--smtp-ca-file", certificate];
    for implicit in ["0", "1"] {
        let server = Server::with(&[&base[..], &[("IMPLICIT", implicit)]].concat());
        let tls = ["--smtp-tls", if implicit == "1" { "implicit" } else { "starttls" }];
        let app = flagged(&world, &server, &[&tls[..], &login].concat());
        write_down(&app, "ada@acme.test").await;
        assert_eq!(run_once(&app.app).await, 1);
        let took = server.took();
        assert_eq!(took.len(), 1, "{:?}", errors(&app).await);
        assert_eq!((&took[0]["tls"], &took[0]["user"]), (&json!(true), &json!("mailer")), "{took:?}");
    }

    // Neither a certificate that nobody vouches for, nor a wrong password, nor a server without STARTTLS takes a mail;
    // and none is given up for it.
    let server = Server::with(&base);
    let plain = Server::start();
    let wrong = ["--smtp-username", "mailer", "--smtp-password", "wrong", "--smtp-ca-file", certificate];
    let untrusted = ["--smtp-username", "mailer", "--smtp-password", "pass:w rd"];
    write_down(&flagged(&world, &server, &untrusted), "bob@acme.test").await;
    for (server, flags) in [(&server, &untrusted[..]), (&server, &wrong), (&plain, &[])] {
        let app = flagged(&world, server, flags);
        run_once(&app.app).await;
        assert_eq!(rows(&world).await.last().unwrap(), "queued password-changed 0");
        assert!(server.took().is_empty());
    }
}

#[tokio::test]
async fn a_server_that_hangs_delays_no_request_and_no_other_mail() {
    let world = TestApp::new().await;
    let server = Server::start();
    let app = sending(&world, &server);
    write_down(&app, "stuck-ada@acme.test").await;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(sender::run(app.app.clone(), async { drop(stopped.await) }));
    let tenant = app.app.tenants.by_name("acme").unwrap();
    until_claimed(&app, tenant.id).await;
    // The mail is in the middle of its conversation, for as long as the server likes.
    app.register("bob@acme.test").await;
    let me = app.post("/api/v1/auth/login", &json!({ "email": "bob@acme.test", "password": PASSWORD })).send().await;
    assert_eq!(me.status, StatusCode::OK);
    let other = world.replica();
    other.serve(&other.tenant("acme"));
    let other = sending(&world, &server);
    run_once(&other.app).await;
    assert_eq!(recipients(&server), ["bob@acme.test"]);
    drop(stop);
    running.abort();
}

async fn until_claimed(app: &TestApp, tenant: contract::TenantId) {
    let waiting = async {
        loop {
            let mut tx = app.app.db.begin(tenant).await.unwrap();
            let held: i64 = sqlx::query_scalar("SELECT count(*) FROM mail.outbox WHERE lease IS NOT NULL")
                .fetch_one(tx.conn())
                .await
                .unwrap();
            if held == 1 {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_mins(1), waiting).await.unwrap();
}

#[tokio::test]
async fn tenants_of_their_own_databases_are_served_too_and_figures_are_told() {
    let world = TestApp::new().await;
    let server = Server::start();
    let app = sending(&world, &server);
    app.serve(&app.tenant("beta"));
    for host in ["acme.test", "beta.test"] {
        app.register_at(host, "ada@acme.test").await;
    }
    write_down(&app, "gone-ada@acme.test").await;
    let standing = |tenants: [&str; 2]| {
        let ids = tenants.map(|name| contract::TenantId::derive("test", name).as_uuid());
        let app = app.app.clone();
        async move {
            let mut tx = app.db.begin(contract::TenantId::derive("test", "nobody")).await.unwrap();
            let standing = super::super::repo::survey(&mut tx, &ids).await.unwrap();
            let after: String =
                sqlx::query_scalar("SELECT current_setting('app.tenant_id')").fetch_one(tx.conn()).await.unwrap();
            assert_eq!(after, contract::TenantId::derive("test", "nobody").as_uuid().to_string());
            standing.into_iter().map(|one| (one.queued, one.dead)).collect::<Vec<_>>()
        }
    };
    assert_eq!(standing(["acme", "beta"]).await, [(2, 0), (1, 0)]);
    assert_eq!(run_once(&app.app).await, 3);
    assert_eq!(standing(["acme", "beta"]).await, [(0, 1)]);
    let metrics = app.app.metrics.encode().unwrap();
    assert!(metrics.contains("tenantry_api_mails_sent_total 2"), "{metrics}");
    assert!(metrics.contains("tenantry_api_mails_given_up_total 1"), "{metrics}");
}
