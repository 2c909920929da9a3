//! What ends a session closes its sockets on each of three replicas, one of them without Redis, at the very next look; and
//! looks come twice a second.

use contract::tenant::TenantState;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::{
    client::{Client, Ended},
    look, text,
};
use crate::{
    features::realtime::{model::End, run},
    outages::proxy::{Fault, Proxy},
    testing::{PASSWORD, TestApp, binding, seconds},
};

struct Platform {
    replicas: [TestApp; 3],
    addresses: Vec<std::net::SocketAddr>,
    admin: String,
}

impl Platform {
    async fn start() -> Self {
        let app = TestApp::new().await;
        let admin = app.admin().await;
        let replicas = [app.replica(), app.without_redis(), app];
        let mut addresses = vec![];
        for replica in &replicas {
            let mut acme = replica.tenant("acme");
            acme.bindings = vec![binding("admins", "ADMIN", "admin@acme.test")];
            replica.serve(&acme);
            addresses.push(replica.listen().await);
        }
        Self { replicas, addresses, admin }
    }

    /// A socket on each replica.
    async fn join(&self, token: &str) -> Vec<Client> {
        let mut clients = vec![];
        for at in &self.addresses {
            clients.push(Client::join(*at, token).await);
        }
        clients
    }

    async fn look(&self) {
        for replica in &self.replicas {
            look(&replica.app).await;
        }
    }

    async fn act(&self, method: Method, path: &str, token: &str, body: Value) {
        let answer = self.replicas[0].request(method, path).json(&body).bearer(token).send().await;
        assert!(answer.status.is_success(), "{path}: {}", answer.text);
    }
}

#[tokio::test]
async fn every_end_of_a_session_closes_its_sockets_everywhere() {
    let platform = Platform::start().await;
    for what in ["logout", "others", "all", "ban", "deletion", "end of one session", "password", "reuse"] {
        let email = format!("{}@acme.test", what.replace(' ', "-"));
        let first = platform.replicas[0].register(&email).await;
        let login = json!({ "email": email, "password": PASSWORD });
        let second = platform.replicas[0].post("/api/v1/auth/login", &login).send().await.json["data"].clone();
        let (victim, other, id) =
            (text(&first, "accessToken"), text(&second, "accessToken"), text(&first["user"], "id"));
        let (victims, mut others) = (platform.join(victim).await, platform.join(other).await);
        platform.look().await;
        let admin = &platform.admin;
        let logout = |scope| json!({ "scope": scope });
        match what {
            "logout" => platform.act(Method::POST, "/api/v1/auth/logout", victim, logout("local")).await,
            "others" => platform.act(Method::POST, "/api/v1/auth/logout", other, logout("others")).await,
            "all" => platform.act(Method::POST, "/api/v1/auth/logout", other, logout("all")).await,
            "ban" => {
                platform
                    .act(Method::PUT, &format!("/api/v1/admin/users/{id}"), admin, json!({ "isActive": false }))
                    .await;
            }
            "deletion" => {
                platform.act(Method::DELETE, &format!("/api/v1/admin/users/{id}"), admin, json!({})).await;
            }
            "password" => {
                let body = json!({ "currentPassword": PASSWORD, "newPassword": "Better-Horse-8" });
                platform.act(Method::PUT, "/api/v1/auth/password", other, body).await;
            }
            // The refresh token is used twice, the second time too late.
            "reuse" => {
                let refresh = json!({ "refreshToken": first["refreshToken"] });
                for expected in [StatusCode::OK, StatusCode::UNAUTHORIZED] {
                    let answer = platform.replicas[0].post("/api/v1/auth/refresh", &refresh).send().await;
                    assert_eq!(answer.status, expected, "{}", answer.text);
                    platform.replicas[0].clock.advance(seconds(11));
                }
            }
            _ => {
                let sessions = platform.replicas[0].get("/api/v1/auth/sessions").bearer(other).send().await;
                let all = sessions.json["data"].as_array().unwrap();
                let session = all.iter().find(|session| session["current"] == false).unwrap();
                let path = format!("/api/v1/auth/sessions/{}", text(session, "id"));
                platform.act(Method::DELETE, &path, other, json!({})).await;
            }
        }
        // No time has gone by: what any replica remembers of the session counts for nothing here.
        platform.look().await;
        for victim in victims {
            victim.hears_end("session_ended").await;
        }
        let others_go_on = !matches!(what, "all" | "ban" | "deletion");
        for mut other in others.drain(..) {
            if others_go_on {
                other.answers().await;
            } else {
                other.hears_end("session_ended").await;
            }
        }
        for replica in &platform.replicas {
            replica.app.realtime.until_open(0).await;
        }
    }
    assert_eq!(platform.replicas[2].app.metrics.sockets.ended_by(End::SessionEnded), 8 + 3);
}

#[tokio::test]
async fn sockets_of_a_tenant_that_is_suspended_or_gone_are_closed() {
    let app = TestApp::new().await;
    let at = app.listen().await;
    let ada = app.register("ada@acme.test").await;
    let token = text(&ada, "accessToken");
    let client = Client::join(at, token).await;
    let mut acme = app.tenant("acme");
    acme.state = TenantState::Suspended;
    app.serve(&acme);
    look(&app.app).await;
    client.hears_end("tenant_suspended").await;
    app.serve(&app.tenant("acme"));
    let client = Client::join(at, token).await;
    app.app.tenants.remove("acme");
    look(&app.app).await;
    client.hears_end("tenant_gone").await;
}

#[tokio::test]
async fn while_nobody_knows_a_socket_is_kept_for_ten_seconds() {
    let world = TestApp::new().await;
    let mut proxies =
        [Proxy::before(world.database_address()).await, Proxy::before("127.0.0.1:1".parse().unwrap()).await];
    let app = world.through(proxies[0].address, proxies[1].address, "127.0.0.1:1".parse().unwrap());
    app.serve(&app.tenant("acme"));
    let at = app.listen().await;
    let ada = app.register("ada@acme.test").await;
    let mut client = Client::join(at, text(&ada, "accessToken")).await;
    proxies[0].set(Fault::Refuses).await;
    look(&app.app).await;
    app.clock.advance(seconds(9));
    look(&app.app).await;
    client.answers().await;
    // Back in time: the patience begins anew.
    proxies[0].set(Fault::None).await;
    while app.get("/api/v1/auth/me").bearer(text(&ada, "accessToken")).send().await.status != StatusCode::OK {
        tokio::task::yield_now().await;
    }
    look(&app.app).await;
    proxies[0].set(Fault::Refuses).await;
    look(&app.app).await;
    app.clock.advance(seconds(9));
    look(&app.app).await;
    client.answers().await;
    app.clock.advance(seconds(1));
    look(&app.app).await;
    // A bare close: its client comes again, and finds out.
    let said = format!("42{}", json!(["going-away", { "reason": "unavailable" }]));
    assert_eq!(client.end().await, Ended { heard: vec![said], code: Some(1001) });
}

#[tokio::test]
async fn the_looks_go_on_by_themselves_and_a_shutdown_tells_all() {
    let world = TestApp::new().await;
    let app = world.replica();
    app.serve(&app.tenant("acme"));
    let at = app.listen().await;
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(run(app.app.clone(), async move { drop(stopped.await) }));
    let (ada, bob) = (app.register("ada@acme.test").await, app.register("bob@acme.test").await);
    let client = Client::join(at, text(&ada, "accessToken")).await;
    let mut stays = Client::join(at, text(&bob, "accessToken")).await;
    let silent = Client::open(at, "acme.test", super::QUERY, &[]).await.unwrap();
    // On another replica.
    let logout = world.post("/api/v1/auth/logout", &json!({})).bearer(text(&ada, "accessToken")).send().await;
    assert_eq!(logout.status, StatusCode::OK);
    client.hears_end("session_ended").await;
    stays.answers().await;

    app.app.health.drain();
    // Still taken while draining, as load balancers may not have noticed.
    let late = Client::join(at, text(&bob, "accessToken")).await;
    drop(stop);
    running.await.unwrap();
    for client in [stays, late, silent] {
        let said = format!("42{}", json!(["going-away", { "reason": "shutdown" }]));
        assert_eq!(client.end().await, Ended { heard: vec![said], code: Some(1001) });
    }
    assert_eq!(Client::open(at, "acme.test", super::QUERY, &[]).await.err(), Some(StatusCode::SERVICE_UNAVAILABLE));
    assert_eq!(app.app.metrics.sockets.ended_by(End::Shutdown), 3);
}
