//! Through the router, with a provider on a real socket.

mod hostile;
mod provider;

use contract::auth::{ExistingAccounts, IdentityProvider, NewAccounts};
use http::StatusCode;
use serde_json::{Value, json};

use self::provider::Provider;
use crate::testing::{Answer, PASSWORD, TestApp, seconds};

const BACK: &str = "https://acme.test/signed-in";

struct World {
    app: TestApp,
    provider: Provider,
}

/// A sign-in under way: what the browser has.
struct Flow {
    code: String,
    state: String,
    secret: String,
}

impl Flow {
    fn body(&self) -> Value {
        json!({ "code": self.code, "state": self.state, "flow": self.secret })
    }
}

impl World {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut IdentityProvider)) -> Self {
        let app = TestApp::new().await;
        let provider = Provider::start(&app.clock).await;
        let mut acme = app.tenant("acme");
        let mut declared = provider.declared(&app, &acme);
        change(&mut declared);
        acme.auth.identity_providers = vec![declared];
        app.serve(&acme);
        Self { app, provider }
    }

    async fn begin(&self) -> Flow {
        let begun = self.app.post("/api/v1/auth/providers/corp", &json!({ "redirectUri": BACK })).send().await;
        self.consent(&begun)
    }

    async fn begin_link(&self, token: &str) -> Flow {
        let body = json!({ "redirectUri": BACK });
        let begun = self.app.post("/api/v1/auth/providers/corp/link", &body).bearer(token).send().await;
        self.consent(&begun)
    }

    fn consent(&self, begun: &Answer) -> Flow {
        assert_eq!(begun.status, StatusCode::OK, "{}", begun.text);
        let (code, state) = self.provider.consent(begun.json["data"]["authorizationUrl"].as_str().unwrap());
        Flow { code, state, secret: begun.json["data"]["flow"].as_str().unwrap().to_owned() }
    }

    async fn finish(&self, flow: &Flow) -> Answer {
        self.app.post("/api/v1/auth/callback", &flow.body()).send().await
    }

    async fn sign_in(&self) -> Answer {
        let flow = self.begin().await;
        self.finish(&flow).await
    }

    async fn link(&self, token: &str) -> Answer {
        let flow = self.begin_link(token).await;
        self.app.post("/api/v1/auth/identities", &flow.body()).bearer(token).send().await
    }

    fn says(&self, claims: Value) {
        self.provider.does.lock().claims = claims;
    }
}

fn token(answer: &Answer) -> String {
    assert!(answer.status.is_success(), "{}", answer.text);
    answer.json["data"]["accessToken"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn somebody_new_gets_an_account_and_comes_back_to_it() {
    let world = World::new().await;
    let first = world.sign_in().await;
    let user = &first.json["data"]["user"];
    assert_eq!((&user["email"], &user["name"]), (&json!("ada@example.com"), &json!("Ada Lovelace")), "{}", first.text);
    assert_eq!(user["emailVerified"], true);
    // The address there may change; the subject is the person.
    world.says(json!({ "email": "ada@elsewhere.example", "email_verified": false }));
    let second = world.sign_in().await;
    assert_eq!(second.json["data"]["user"]["id"], user["id"], "{}", second.text);
    assert_eq!(second.json["data"]["user"]["email"], "ada@example.com");
    let listed = world.app.get("/api/v1/auth/identities").bearer(&token(&second)).send().await;
    let identity = &listed.json["data"][0];
    assert_eq!((&identity["provider"], &identity["email"]), (&json!("corp"), &json!("ada@elsewhere.example")));
    // There is no password to try.
    let body = json!({ "email": "ada@example.com", "password": PASSWORD });
    assert_eq!(world.app.post("/api/v1/auth/login", &body).send().await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn the_providers_of_a_tenant_are_listed_without_their_secrets() {
    let world = World::new().await;
    let listed = world.app.get("/api/v1/auth/providers").send().await;
    assert_eq!(listed.json["data"], json!([{ "name": "corp", "displayName": "Corp" }]));
    let unknown = world.app.post("/api/v1/auth/providers/other", &json!({ "redirectUri": BACK })).send().await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    let evil = json!({ "redirectUri": "https://evil.test/" });
    let evil = world.app.post("/api/v1/auth/providers/corp", &evil).send().await;
    assert_eq!(evil.json["error"]["details"][0]["code"], "UNKNOWN_ORIGIN", "{}", evil.text);
}

#[tokio::test]
async fn an_address_takes_over_no_account_that_exists() {
    let world = World::new().await;
    world.app.register("ada@example.com").await;
    let refused = world.sign_in().await;
    assert_eq!((refused.status, refused.code()), (StatusCode::CONFLICT, "ACCOUNT_EXISTS"));
}

#[tokio::test]
async fn a_trusted_provider_links_an_address_that_both_sides_have_verified() {
    let world = World::with(|provider| provider.existing_accounts = ExistingAccounts::LinkVerifiedEmail).await;
    let ada = world.app.register("ada@example.com").await;
    // Whoever registered here has not shown that the address is theirs.
    assert_eq!(world.sign_in().await.code(), "ACCOUNT_EXISTS");
    let id = ada["user"]["id"].as_str().unwrap();
    let mut tx = world.app.app.db.begin(world.app.tenant("acme").id).await.unwrap();
    let id = crate::extract::UserId(id.parse().unwrap());
    crate::features::users::repo::mark_verified(&mut tx, id, world.app.app.clock.now()).await.unwrap();
    tx.commit().await.unwrap();
    world.says(json!({ "email_verified": false }));
    assert_eq!(world.sign_in().await.code(), "EMAIL_NOT_VERIFIED");
    world.says(json!({ "email": "ADA@example.com", "email_verified": "true" }));
    let signed_in = world.sign_in().await;
    assert_eq!(signed_in.json["data"]["user"]["id"], ada["user"]["id"], "{}", signed_in.text);
}

#[tokio::test]
async fn a_tenant_may_take_no_new_accounts_and_a_provider_must_vouch_for_the_address() {
    let world = World::with(|provider| provider.new_accounts = NewAccounts::Refuse).await;
    let refused = world.sign_in().await;
    assert_eq!((refused.status, refused.code()), (StatusCode::FORBIDDEN, "NO_ACCOUNT"));
    let world = World::new().await;
    for claims in [json!({ "email_verified": false }), json!({ "email": null }), json!({ "email": "none" })] {
        world.provider.does.lock().userinfo = json!({ "sub": "ada-1" });
        world.says(claims);
        assert_eq!(world.sign_in().await.code(), "EMAIL_NOT_VERIFIED");
    }
}

#[tokio::test]
async fn a_user_links_and_unlinks_but_keeps_a_way_in() {
    let world = World::new().await;
    let ada = world.app.register("ada@acme.test").await;
    let ada_token = ada["accessToken"].as_str().unwrap();
    let linked = world.link(ada_token).await;
    assert_eq!(linked.status, StatusCode::CREATED, "{}", linked.text);
    assert_eq!(world.sign_in().await.json["data"]["user"]["id"], ada["user"]["id"]);
    // The same identity for somebody else.
    let bob = world.app.register("bob@acme.test").await;
    assert_eq!(world.link(bob["accessToken"].as_str().unwrap()).await.code(), "IDENTITY_TAKEN");
    // Ada has a password, so the link may go.
    let path = format!("/api/v1/auth/identities/{}", linked.json["data"]["id"].as_str().unwrap());
    let foreign =
        world.app.request(http::Method::DELETE, &path).bearer(bob["accessToken"].as_str().unwrap()).send().await;
    assert_eq!(foreign.status, StatusCode::NOT_FOUND);
    let gone = world.app.request(http::Method::DELETE, &path).bearer(ada_token).send().await;
    assert_eq!(gone.status, StatusCode::OK, "{}", gone.text);
    // Who came by the provider has no other way in.
    let carol = world.sign_in().await;
    assert_eq!(carol.json["message"], "Signed in");
    let listed = world.app.get("/api/v1/auth/identities").bearer(&token(&carol)).send().await;
    let path = format!("/api/v1/auth/identities/{}", listed.json["data"][0]["id"].as_str().unwrap());
    let last = world.app.request(http::Method::DELETE, &path).bearer(&token(&carol)).send().await;
    assert_eq!((last.status, last.code()), (StatusCode::CONFLICT, "LAST_SIGN_IN_METHOD"));
}

#[tokio::test]
async fn a_flow_counts_once_and_for_the_browser_that_began_it() {
    let world = World::new().await;
    let (mine, theirs) = (world.begin().await, world.begin().await);
    // An attacker's code and state in the victim's browser.
    let slipped_in = Flow { code: theirs.code.clone(), state: theirs.state.clone(), secret: mine.secret.clone() };
    assert_eq!(world.finish(&slipped_in).await.code(), "SIGN_IN_REFUSED");
    assert_eq!(world.finish(&mine).await.code(), "SIGN_IN_REFUSED", "the flow is used up by the wrong answer");
    let other_code = Flow { code: "code-unknown".into(), state: theirs.state.clone(), secret: theirs.secret.clone() };
    assert_eq!(world.finish(&other_code).await.code(), "SIGN_IN_REFUSED");

    let flow = world.begin().await;
    let replica = world.app.replica();
    let mut acme = world.app.tenant("acme");
    acme.auth.identity_providers = vec![world.provider.declared(&world.app, &acme)];
    replica.serve(&acme);
    let body = flow.body();
    let at_both = tokio::join!(
        world.app.post("/api/v1/auth/callback", &body).send(),
        replica.post("/api/v1/auth/callback", &body).send()
    );
    let mut statuses = [at_both.0.status.as_u16(), at_both.1.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 401]);

    let late = world.begin().await;
    world.app.clock.advance(seconds(601));
    assert_eq!(world.finish(&late).await.code(), "SIGN_IN_REFUSED");
}

#[tokio::test]
async fn a_flow_to_link_signs_nobody_in_and_links_nobody_else() {
    let world = World::new().await;
    let ada = world.app.register("ada@acme.test").await;
    let bob = world.app.register("bob@acme.test").await;
    let flow = world.begin_link(ada["accessToken"].as_str().unwrap()).await;
    assert_eq!(world.finish(&flow).await.code(), "SIGN_IN_REFUSED");
    let flow = world.begin_link(ada["accessToken"].as_str().unwrap()).await;
    let callback = "/api/v1/auth/identities";
    let bobs = world.app.post(callback, &flow.body()).bearer(bob["accessToken"].as_str().unwrap()).send().await;
    assert_eq!(bobs.code(), "SIGN_IN_REFUSED");
    let flow = world.begin().await;
    let signed = world.app.post(callback, &flow.body()).bearer(ada["accessToken"].as_str().unwrap()).send().await;
    assert_eq!(signed.code(), "SIGN_IN_REFUSED", "a flow to sign in links nobody");
}

#[tokio::test]
async fn a_deactivated_or_deleted_account_is_not_signed_in() {
    let world = World::new().await;
    let first = world.sign_in().await;
    let id = first.json["data"]["user"]["id"].as_str().unwrap().to_owned();
    let mut tx = world.app.app.db.begin(world.app.tenant("acme").id).await.unwrap();
    let user = crate::extract::UserId(id.parse().unwrap());
    crate::features::users::repo::update_active(&mut tx, user, false, world.app.app.clock.now()).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(world.sign_in().await.code(), "ACCOUNT_DEACTIVATED");
    let mut tx = world.app.app.db.begin(world.app.tenant("acme").id).await.unwrap();
    crate::features::users::repo::anonymise(&mut tx, user, world.app.app.clock.now()).await.unwrap();
    tx.commit().await.unwrap();
    let again = world.sign_in().await;
    assert_eq!(again.status, StatusCode::OK, "the link went with the account, so a new one begins: {}", again.text);
    assert_ne!(again.json["data"]["user"]["id"], id.as_str());
}

#[tokio::test]
async fn an_account_that_is_banned_while_the_provider_is_asked_gets_no_session_and_no_link() {
    let world = World::new().await;
    let app = &world.app;
    world.sign_in().await;
    let sessions = async || {
        let mut tx = app.app.db.begin(app.tenant("acme").id).await.unwrap();
        let counted = "SELECT (SELECT count(*) FROM auth.sessions), (SELECT count(*) FROM auth.identities)";
        sqlx::query_as::<_, (i64, i64)>(counted).fetch_one(tx.conn()).await.unwrap()
    };
    let ban = "UPDATE auth.users SET is_active = false";
    let before = sessions().await;
    let flow = world.begin().await;
    let held = app.hold(ban).await;
    let answer = app.beside(world.finish(&flow), async || held.commit().await.unwrap()).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{}", answer.text);
    assert_eq!(sessions().await, before);

    let bob = app.register("bob@acme.test").await;
    let bearer = bob["accessToken"].as_str().unwrap();
    world.says(json!({ "sub": "another" }));
    let flow = world.begin_link(bearer).await;
    let before = sessions().await;
    let held = app.hold(ban).await;
    let link = app.post("/api/v1/auth/identities", &flow.body()).bearer(bearer).send();
    let answer = app.beside(link, async || held.commit().await.unwrap()).await;
    assert!(answer.status.is_client_error(), "{}", answer.text);
    assert_eq!(sessions().await, before);
}
