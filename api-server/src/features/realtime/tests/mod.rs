//! Through the real router on a real listener, with a client written by hand.

mod bounds;
mod client;
mod felt;
mod news;

use contract::tenant::TenantState;
use http::StatusCode;
use serde_json::{Value, json};

use self::client::{Client, Ended, QUERY};
use super::{look::look, model::End};
use crate::testing::{TestApp, binding, seconds};

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("{field}: {value}"))
}

#[tokio::test]
async fn an_access_token_opens_a_socket_by_the_packet_or_by_the_header() {
    let app = TestApp::new().await;
    let at = app.listen().await;
    let ada = app.register("ada@acme.test").await;
    let token = text(&ada, "accessToken");
    Client::join(at, token).await.answers().await;

    let bearer = format!("Bearer {token}");
    let mut by_header = Client::open(at, "acme.test", QUERY, &[("authorization", &bearer)]).await.unwrap();
    by_header.say("40").await;
    assert!(by_header.hear().await.starts_with("40{"));
    by_header.answers().await;
    // Its own room needs no right, by any name that frontends have for it, and there are no others.
    let id = text(&ada["user"], "id");
    for room in [format!("user:{id}"), format!("user-{id}"), id.to_owned()] {
        let joined = by_header.ask("join-room", &json!(room)).await;
        assert_eq!(joined, json!({ "room": format!("user:{id}"), "ok": true }));
    }
    for room in [json!("public"), json!("user:"), json!("admins"), json!(7), Value::Null, json!({ "room": id })] {
        assert_eq!(by_header.ask("join-room", &room).await["error"]["code"], "VALIDATION_ERROR", "{room}");
    }
    // Who wants no acknowledgement is told of a refusal.
    by_header.say(r#"42["join-room","public"]"#).await;
    assert!(
        by_header.hear().await.starts_with(r#"42["refused",{"event":"join-room","error":{"code":"VALIDATION_ERROR""#)
    );
    by_header.say("40/admin,{}").await;
    assert_eq!(by_header.hear().await, r#"44/admin,{"message":"Invalid namespace","data":null}"#);
    by_header.say("41").await;
    assert_eq!(by_header.end().await.heard, Vec::<String>::new());
    app.app.realtime.until_open(0).await;
}

#[tokio::test]
async fn no_other_token_opens_one() {
    let app = TestApp::new().await;
    app.serve(&app.tenant("beta"));
    let at = app.listen().await;
    let admin = app.admin().await;
    let key = app.post("/api/v1/api-keys", &json!({ "name": "all", "scopes": ["*:*"] })).bearer(&admin).send().await;
    let ada = app.register("ada@acme.test").await;
    let good = text(&ada, "accessToken").to_owned();
    let eve = app.register_at("beta.test", "eve@beta.test").await;
    let gone = app.register("gone@acme.test").await;
    let logout = app.post("/api/v1/auth/logout", &json!({})).bearer(text(&gone, "accessToken")).send().await;
    assert_eq!(logout.status, StatusCode::OK);
    let forged = format!("{}x", &good[..good.len() - 1]);

    for (token, code) in [
        (text(&eve, "accessToken"), "INVALID_TOKEN"),
        (text(&gone, "accessToken"), "INVALID_TOKEN"),
        (text(&ada, "refreshToken"), "INVALID_TOKEN"),
        (text(&key.json["data"], "key"), "PERSON_REQUIRED"),
        (&forged, "INVALID_TOKEN"),
        (&"x".repeat(9_000), "INVALID_TOKEN"),
        ("tnt_x", "INVALID_TOKEN"),
        ("", "UNAUTHORIZED"),
    ] {
        let (client, answer) = Client::show(at, token).await;
        let error = answer.strip_prefix("44").map(|error| serde_json::from_str::<Value>(error).unwrap());
        let error = error.unwrap_or_else(|| panic!("{token}: {answer}"));
        assert_eq!(
            (&error["message"], &error["data"]["code"]),
            (&json!("Authentication error"), &json!(code)),
            "{token}"
        );
        assert_eq!(client.end().await, Ended { heard: vec![], code: Some(1008) });
    }
    for auth in ["", "null", "[]", "7", r#"{"token":7}"#, r#"{"token":null}"#, r#"{"Token":"x"}"#] {
        let mut client = Client::open(at, "acme.test", QUERY, &[]).await.unwrap();
        client.say(&format!("40{auth}")).await;
        assert!(
            client.hear().await.starts_with(r#"44{"message":"Authentication error","data":{"code":"UNAUTHORIZED""#)
        );
    }
    // On the host of another tenant the token of this one is as good as none.
    let mut client = Client::open(at, "beta.test", QUERY, &[]).await.unwrap();
    client.say(&format!("40{}", json!({ "token": good }))).await;
    assert!(client.hear().await.starts_with("44"));
    app.clock.advance(seconds(15 * 60 + 30));
    let (_, answer) = Client::show(at, &good).await;
    assert!(answer.contains("Token expired"), "{answer}");
    app.app.realtime.until_open(0).await;
    assert_eq!(app.app.metrics.sockets.ended_by(End::Refused), 17);
}

#[tokio::test]
async fn what_cannot_become_a_socket_is_refused_before() {
    let app = TestApp::new().await;
    let mut beta = app.tenant("beta");
    beta.state = TenantState::Suspended;
    app.serve(&beta);
    let mut acme = app.tenant("acme");
    acme.cors.allowed_origins = vec!["https://shop.example".into()];
    app.serve(&acme);
    let at = app.listen().await;
    for (host, query, status) in [
        ("acme.test", "EIO=4&transport=polling", 400),
        ("acme.test", "EIO=3&transport=websocket", 400),
        ("acme.test", "", 400),
        ("beta.test", QUERY, 403),
        ("nobody.test", QUERY, 404),
    ] {
        let refused = Client::open(at, host, query, &[]).await.err().map(|status| status.as_u16());
        assert_eq!(refused, Some(status), "{host}?{query}");
    }
    for (origin, opens) in [
        ("https://shop.example", true),
        ("https://acme.test", true),
        ("http://acme.test:8080", true),
        ("https://evil.example", false),
        ("https://acme.test.evil.example", false),
        ("null", false),
    ] {
        let opened = Client::open(at, "acme.test", QUERY, &[("origin", origin)]).await;
        assert_eq!(opened.err().map(|status| status.as_u16()), (!opens).then_some(403), "{origin}");
    }
    // A request without an upgrade is told what is missing.
    let plain = app.get(&format!("/socket.io/?{QUERY}")).send().await;
    assert_eq!((plain.status, plain.code()), (StatusCode::UPGRADE_REQUIRED, "UPGRADE_REQUIRED"), "{}", plain.text);
    // Who begins with polling is told what to do where its developer looks, and nothing is kept of it.
    let polling = app.get("/socket.io/?EIO=4&transport=polling").send().await;
    let (open, refused) = polling.text.split_once('\u{1e}').unwrap();
    assert!(polling.status == StatusCode::OK && open.starts_with("0{\"sid\":"), "{}", polling.text);
    let refused: Value = serde_json::from_str(refused.strip_prefix("44").unwrap()).unwrap();
    assert!(text(&refused, "message").starts_with(r#"Connect with `transports: ["websocket"]`"#), "{refused}");
    assert_eq!(refused["data"]["code"], "POLLING_UNSUPPORTED");
    // Any other request of polling gets the error.
    let further = "/socket.io/?EIO=4&transport=polling&sid=0192f0c17a0070008000000000000001";
    for request in
        [app.get(further), app.post(further, &json!({})), app.post("/socket.io/?EIO=4&transport=polling", &json!({}))]
    {
        let refused = request.send().await;
        assert_eq!(
            (refused.status, refused.code()),
            (StatusCode::BAD_REQUEST, "POLLING_UNSUPPORTED"),
            "{}",
            refused.text
        );
    }
    assert_eq!(app.app.metrics.sockets.open.get(), 0);
}

#[tokio::test]
async fn a_socket_lives_as_long_as_its_token_or_the_next_one() {
    let app = TestApp::new().await;
    let at = app.listen().await;
    let ada = app.register("ada@acme.test").await;
    let bob = app.register("bob@acme.test").await;
    let mut renewed = Client::join(at, text(&ada, "accessToken")).await;
    let left = Client::join(at, text(&ada, "accessToken")).await;
    app.clock.advance(seconds(14 * 60));
    let refresh = json!({ "refreshToken": ada["refreshToken"] });
    let next = app.post("/api/v1/auth/refresh", &refresh).send().await.json["data"].clone();
    // Another's token is refused, and so is one that does not count; the old one goes on counting.
    for (token, code) in [(text(&bob, "accessToken"), "FORBIDDEN"), ("nonsense", "INVALID_TOKEN"), ("", "UNAUTHORIZED")]
    {
        let refused = renewed.ask("authenticate", &json!({ "token": token })).await;
        assert_eq!((&refused["ok"], &refused["error"]["code"]), (&json!(false), &json!(code)));
    }
    assert_eq!(
        renewed.ask("authenticate", &json!({ "token": text(&next, "accessToken") })).await,
        json!({ "ok": true })
    );
    // With the leeway that requests have too.
    app.clock.advance(seconds(60 + 29));
    look(&app.app).await;
    app.app.realtime.until_open(2).await;
    app.clock.advance(seconds(1));
    look(&app.app).await;
    left.hears_end("token_expired").await;
    renewed.answers().await;
    app.clock.advance(seconds(14 * 60));
    look(&app.app).await;
    renewed.hears_end("token_expired").await;
    assert_eq!(app.app.metrics.sockets.ended_by(End::TokenExpired), 2);
}

#[tokio::test]
async fn rooms_of_others_are_for_who_may_see_other_users_now() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let replicas = [app.replica(), app.without_redis(), app];
    let mut acme = replicas[0].tenant("acme");
    acme.bindings = vec![binding("admins", "ADMIN", "admin@acme.test")];
    let mut clients = vec![];
    let ada = replicas[2].register("ada@acme.test").await;
    for replica in &replicas {
        replica.serve(&acme);
        let at = replica.listen().await;
        clients.push((Client::join(at, text(&ada, "accessToken")).await, Client::join(at, &admin).await));
    }
    let bob = replicas[2].register("bob@acme.test").await;
    let (id, bob_id) = (text(&ada["user"], "id"), text(&bob["user"], "id"));
    let bob = format!("user:{bob_id}");
    let me = replicas[2].get("/api/v1/auth/me").bearer(&admin).send().await;
    let admin_room = format!("user:{}", text(&me.json["data"], "id"));
    let roles = format!("/api/v1/users/{id}/roles");
    for (ada, _) in &mut clients {
        assert_eq!(ada.ask("join-room", &json!(bob)).await["error"]["code"], "FORBIDDEN");
    }
    let given = replicas[0].post(&roles, &json!({ "role": "SUPPORT" })).bearer(&admin).send().await;
    assert!(given.status.is_success(), "{}", given.text);
    replicas[0].clock.advance(seconds(1));
    for (replica, (ada, admin)) in replicas.iter().zip(&mut clients) {
        look(&replica.app).await;
        assert_eq!(ada.hear_of(&format!("user:{id}")).await["roles"], json!(["USER", "SUPPORT"]));
        // The token is the same, and says the same.
        assert_eq!(ada.ask("join-room", &json!(bob)).await, json!({ "room": bob, "ok": true }));
        assert_eq!(ada.ask("join-room", &json!(format!("user:{id}"))).await["ok"], true);
        assert_eq!(admin.ask("join-room", &json!(bob)).await["ok"], true);
        let nobody = json!("user:0192f0c1-7a00-7000-8000-000000000001");
        assert_eq!(admin.ask("join-room", &nobody).await["error"]["code"], "NOT_FOUND");
    }
    // What becomes of him is told to his room everywhere, once.
    let path = format!("/api/v1/admin/users/{bob_id}");
    let changed = replicas[0].request(http::Method::PUT, &path).json(&json!({ "isActive": false }));
    assert!(changed.bearer(&admin).send().await.status.is_success());
    for (replica, (ada, admin)) in replicas.iter().zip(&mut clients) {
        look(&replica.app).await;
        look(&replica.app).await;
        for client in [ada, admin] {
            assert_eq!(client.hear_of(&bob).await["isActive"], false);
            client.answers().await;
        }
    }
    let taken = replicas[0].request(http::Method::DELETE, &format!("{roles}/SUPPORT")).bearer(&admin).send().await;
    assert!(taken.status.is_success(), "{}", taken.text);
    // Felt at the next look, with no time gone by.
    for (replica, (ada, admin)) in replicas.iter().zip(&mut clients) {
        look(&replica.app).await;
        assert_eq!(ada.hear_of(&format!("user:{id}")).await["roles"], json!(["USER"]));
        let said = format!("42{}", json!(["room-left", { "room": bob, "reason": "forbidden" }]));
        assert_eq!(ada.hear().await, said);
        ada.answers().await;
        admin.answers().await;
    }
    // Who is deleted has no room.
    assert!(replicas[0].request(http::Method::DELETE, &path).bearer(&admin).send().await.status.is_success());
    for (replica, (_, admin)) in replicas.iter().zip(&mut clients) {
        look(&replica.app).await;
        assert_eq!(admin.hear().await, format!("42{}", json!(["room-left", { "room": bob, "reason": "gone" }])));
        assert_eq!(admin.ask("join-room", &json!(format!("user:{id}"))).await["ok"], true);
    }
    // And a binding that is gone is felt as well.
    acme.bindings.clear();
    for (replica, (_, admin)) in replicas.iter().zip(&mut clients) {
        replica.serve(&acme);
        look(&replica.app).await;
        assert_eq!(admin.hear_of(&admin_room).await["roles"], json!(["USER"]));
        let said = format!("42{}", json!(["room-left", { "room": format!("user:{id}"), "reason": "forbidden" }]));
        assert_eq!(admin.hear().await, said);
        assert_eq!(admin.ask("join-room", &json!(format!("user:{id}"))).await["error"]["code"], "FORBIDDEN");
        assert_eq!(admin.ask("leave-room", &json!(format!("user:{id}"))).await["ok"], true);
    }
}
