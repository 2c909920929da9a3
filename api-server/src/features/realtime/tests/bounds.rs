//! How many sockets there may be, and what one may send.

use http::StatusCode;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::{
    client::{Client, Ended, QUERY},
    look, text,
};
use crate::{
    features::realtime::{
        model::{Allowance, End},
        packet::MAX_PAYLOAD,
    },
    testing::{PASSWORD, TestApp},
};

#[tokio::test]
async fn a_session_and_a_user_have_so_many_sockets_and_no_more() {
    let app = TestApp::new().await;
    let at = app.listen().await;
    let ada = app.register("ada@acme.test").await;
    let mut tokens = vec![text(&ada, "accessToken").to_owned()];
    for _ in 0..5 {
        let login = json!({ "email": "ada@acme.test", "password": PASSWORD });
        let answer = app.post("/api/v1/auth/login", &login).send().await;
        tokens.push(text(&answer.json["data"], "accessToken").to_owned());
    }
    let mut open = vec![];
    for token in &tokens[..5] {
        for _ in 0..10 {
            open.push(Client::join(at, token).await);
        }
        let (_, refused) = Client::show(at, token).await;
        assert!(refused.starts_with("44") && refused.contains("TOO_MANY_SOCKETS"), "{refused}");
    }
    // Fifty are open: a new session has no place either.
    let (client, refused) = Client::show(at, &tokens[5]).await;
    assert!(refused.contains("TOO_MANY_SOCKETS"), "{refused}");
    assert_eq!(client.end().await.code, Some(1008));
    let bob = app.register("bob@acme.test").await;
    Client::join(at, text(&bob, "accessToken")).await.answers().await;
    drop(open.pop());
    app.app.realtime.until_open(49).await;
    Client::join(at, &tokens[5]).await.answers().await;
}

#[tokio::test]
async fn a_replica_has_so_many_places_and_half_of_them_for_one_tenant() {
    let world = TestApp::new().await;
    let app = world.with_flags(&["--max-sockets", "4"]);
    for tenant in ["acme", "beta", "gamma"] {
        app.serve(&app.tenant(tenant));
    }
    let at = app.listen().await;
    // Who has not shown a token yet takes a place as well.
    let mut open = vec![];
    for (host, expected) in [
        ("acme.test", None),
        ("acme.test", None),
        ("acme.test", Some(503)),
        ("beta.test", None),
        ("gamma.test", None),
        ("gamma.test", Some(503)),
    ] {
        let client = Client::open(at, host, QUERY, &[]).await;
        assert_eq!(client.as_ref().err().map(StatusCode::as_u16), expected, "{host}");
        open.extend(client);
    }
    assert_eq!(app.app.metrics.sockets.refused.get(), 2);
    drop(open);
    app.app.realtime.until_open(0).await;
    Client::open(at, "acme.test", QUERY, &[]).await.unwrap();
}

#[tokio::test]
async fn who_sends_nonsense_or_too_much_is_cut_off_and_nobody_else() {
    let app = TestApp::new().await;
    let at = app.listen().await;
    let ada = app.register("ada@acme.test").await;
    let bob = app.register("bob@acme.test").await;
    let token = text(&ada, "accessToken");
    let mut other = Client::join(at, text(&bob, "accessToken")).await;
    let long = format!("42[\"join-room\",\"{}\"]", "x".repeat(MAX_PAYLOAD));
    let deep = format!("42[\"join-room\",{}", "[".repeat(5_000));
    let nonsense = ["", "x", "0", "42{}", "42[7]", "45", "451-[\"a\",{\"_placeholder\":true,\"num\":0}]", &deep, &long];
    let messages: Vec<_> =
        nonsense.iter().map(|text| Message::text(*text)).chain([Message::binary(vec![4, 2])]).collect();
    for message in messages {
        let mut client = Client::join(at, token).await;
        client.send(message.clone()).await;
        let ended = client.end().await;
        // Of a message that is too long the rest is still on its way, and then the connection is just cut.
        assert!(ended.heard.is_empty() && matches!(ended.code, Some(1002) | None), "{message:?}: {ended:?}");
    }
    // An event before the token.
    let mut client = Client::open(at, "acme.test", QUERY, &[]).await.unwrap();
    client.say(r#"42["join-room","x"]"#).await;
    assert_eq!(client.end().await.code, Some(1002));

    let mut flood = Client::join(at, token).await;
    for _ in 0..=Allowance::BURST * 4 {
        flood.send(Message::text(r#"42["no-such-event"]"#)).await;
    }
    let heard = flood.end().await.heard;
    let last: Vec<_> = heard.iter().rev().take(2).collect();
    assert_eq!(last, ["41", &format!("42{}", json!(["going-away", { "reason": "too_many_events" }]))]);
    app.app.realtime.until_open(1).await;
    other.answers().await;
    assert_eq!(app.app.metrics.sockets.ended_by(End::TooManyEvents), 1);
    assert_eq!(app.app.metrics.sockets.ended_by(End::Protocol), 11);
}

#[tokio::test]
async fn who_does_not_read_is_closed_all_the_same() {
    let app = TestApp::new().await;
    let at = app.listen().await;
    let ada = app.register("ada@acme.test").await;
    let _never_reads = Client::join(at, text(&ada, "accessToken")).await;
    let [socket] = &app.app.realtime.sockets()[..] else { panic!("one is open") };
    // More than any buffer on the way holds.
    let much = Value::String("x".repeat(1 << 20));
    for _ in 0..40 {
        socket.emit("much", &much);
        tokio::task::yield_now().await;
    }
    let logout = app.post("/api/v1/auth/logout", &json!({})).bearer(text(&ada, "accessToken")).send().await;
    assert!(logout.status.is_success());
    look(&app.app).await;
    app.app.realtime.until_open(0).await;
}

#[tokio::test]
async fn who_never_shows_a_token_or_answers_no_ping_is_cut_off() {
    let app = TestApp::new().await;
    let at = app.listen().await;
    let ada = app.register("ada@acme.test").await;
    let joined = Client::join(at, text(&ada, "accessToken")).await;
    let silent = Client::open(at, "acme.test", QUERY, &[]).await.unwrap();
    // From here time flies from one timer to the next.
    tokio::time::pause();
    assert_eq!(silent.end().await, Ended { heard: vec![], code: Some(1008) });
    assert_eq!(joined.end().await, Ended { heard: vec!["2".into()], code: Some(1008) });
    assert_eq!(app.app.metrics.sockets.ended_by(End::NeverJoined), 1);
    assert_eq!(app.app.metrics.sockets.ended_by(End::Silent), 1);
}
