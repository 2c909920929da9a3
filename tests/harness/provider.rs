//! A payment provider on loopback that speaks as much of Stripe's API as the platform uses: Checkout Sessions and signed
//! webhooks. It has moods, and it remembers what it was asked.
//!
//! Opening a session's `url` pays it, as the customer would in a browser.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use axum::{
    Form, Json, Router,
    extract::{Path, Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::{net::TcpListener, time::sleep};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use crate::node::clock;

/// How the provider behaves from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mood {
    #[default]
    Fine,
    Slow(Duration),
    /// Refuses every new session with a `card_error`.
    Declines,
    /// Answers 503.
    Down,
    /// Answers 429.
    Overloaded,
}

/// One request that the provider got.
#[derive(Debug, Clone)]
pub struct Seen {
    pub key: String,
    pub method: String,
    pub path: String,
    pub idempotency_key: Option<String>,
}

/// Where a merchant wants its events, and what they are signed with.
#[derive(Debug, Clone)]
pub struct Endpoint {
    pub signing_secret: String,
    /// The ingress; `host` goes into the Host header, as test hostnames need not resolve.
    pub address: SocketAddr,
    pub host: String,
    pub path: String,
}

#[derive(Debug)]
pub struct Provider {
    pub url: String,
    state: Arc<Merchant>,
    _server: AbortOnDropHandle<()>,
}

#[derive(Debug, Default)]
struct Merchant {
    url: String,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    mood: Mood,
    /// Secret API key → where its merchant listens, once that is known.
    keys: BTreeMap<String, Option<Endpoint>>,
    sessions: BTreeMap<String, Session>,
    /// Idempotency key → the parameters it came with and the session it made.
    repeats: BTreeMap<String, (BTreeMap<String, String>, String)>,
    seen: Vec<Seen>,
}

#[derive(Debug, Clone)]
struct Session {
    key: String,
    body: Value,
}

impl Provider {
    /// Port 0 takes a free one.
    pub async fn start(address: IpAddr, port: u16) -> Result<Self> {
        let listener = TcpListener::bind((address, port)).await.context("the payment provider cannot listen")?;
        let url = format!("http://{}", listener.local_addr()?);
        let state = Arc::new(Merchant { url: url.clone(), ..Merchant::default() });
        let api = Router::new()
            .route("/v1/account", get(account))
            .route("/v1/balance", get(account))
            .route("/v1/checkout/sessions", post(create_session))
            .route("/v1/checkout/sessions/{id}", get(get_session))
            .route("/v1/checkout/sessions/{id}/expire", post(expire_session))
            .layer(from_fn_with_state(state.clone(), authenticate));
        let router = Router::new().route("/pay/{id}", get(pay)).merge(api).with_state(state.clone());
        let server = tokio::spawn(async move {
            // Ends with the task.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { url, state, _server: AbortOnDropHandle::new(server) })
    }

    /// Makes a secret key valid; events about its sessions go to `endpoint`.
    pub fn accept_key(&self, key: &str, endpoint: Option<Endpoint>) {
        self.state.inner.lock().keys.insert(key.into(), endpoint);
    }

    pub fn revoke_key(&self, key: &str) {
        self.state.inner.lock().keys.remove(key);
    }

    pub fn mood(&self, mood: Mood) {
        self.state.inner.lock().mood = mood;
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state.inner.lock().seen.clone()
    }

    /// The customer pays: the session completes, and the merchant is told with a signed event. Yields its answer.
    pub async fn completes(&self, session: &str) -> Result<StatusCode> {
        complete(&self.state, session).await
    }

    /// The event that [`Self::completes`] would send, for tests that sign and send it themselves.
    pub fn completed_event(&self, session: &str) -> Result<Value> {
        Ok(self.state.complete(session)?.1)
    }
}

/// The `Stripe-Signature` header: `t=<unix>,v1=<hex HMAC-SHA256 of "<t>.<payload>">`.
pub fn signature(secret: &str, timestamp: i64, payload: &str) -> Result<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes())?;
    mac.update(format!("{timestamp}.{payload}").as_bytes());
    Ok(format!("t={timestamp},v1={}", hex::encode(mac.finalize().into_bytes())))
}

impl Merchant {
    fn complete(&self, id: &str) -> Result<(Option<Endpoint>, Value)> {
        let mut inner = self.inner.lock();
        let Some(session) = inner.sessions.get_mut(id) else { bail!("there is no session {id}") };
        if session.body["status"] == "expired" {
            bail!("session {id} has expired");
        }
        session.body["status"] = json!("complete");
        session.body["payment_status"] = json!("paid");
        session.body["url"] = Value::Null;
        session.body["payment_intent"] = json!(id.replace("cs_test_", "pi_"));
        let event = json!({
            "id": format!("evt_{}", Uuid::new_v4().simple()),
            "object": "event",
            "api_version": "2025-09-30.clover",
            "created": clock::now().as_second(),
            "type": "checkout.session.completed",
            "livemode": false,
            "pending_webhooks": 1,
            "request": {"id": null, "idempotency_key": null},
            "data": {"object": session.body},
        });
        let key = session.key.clone();
        Ok((inner.keys.get(&key).cloned().flatten(), event))
    }
}

async fn complete(merchant: &Merchant, id: &str) -> Result<StatusCode> {
    let (endpoint, event) = merchant.complete(id)?;
    let endpoint = endpoint.context("the merchant of this session has named no webhook endpoint")?;
    let payload = event.to_string();
    let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build()?;
    let response = client
        .post(format!("http://{}{}", endpoint.address, endpoint.path))
        .header(header::HOST, &endpoint.host)
        .header(header::CONTENT_TYPE, "application/json; charset=utf-8")
        .header("stripe-signature", signature(&endpoint.signing_secret, clock::now().as_second(), &payload)?)
        .body(payload)
        .send()
        .await?;
    Ok(response.status())
}

/// Errors in Stripe's shape.
struct Refusal(StatusCode, Value);

impl Refusal {
    fn new(status: StatusCode, kind: &str, message: impl Into<String>) -> Self {
        Self(status, json!({"error": {"type": kind, "message": message.into()}}))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}

/// The secret key of the request's merchant.
#[derive(Clone)]
struct Key(String);

async fn authenticate(State(merchant): State<Arc<Merchant>>, mut request: Request, next: Next) -> Response {
    let key = header(&request, "authorization").and_then(|value| Some(value.strip_prefix("Bearer ")?.to_owned()));
    let (mood, known) = {
        let mut inner = merchant.inner.lock();
        inner.seen.push(Seen {
            key: key.clone().unwrap_or_default(),
            method: request.method().to_string(),
            path: request.uri().path().into(),
            idempotency_key: header(&request, "idempotency-key"),
        });
        (inner.mood, key.as_ref().is_some_and(|key| inner.keys.contains_key(key)))
    };
    match mood {
        Mood::Fine | Mood::Declines => {}
        Mood::Slow(delay) => sleep(delay).await,
        Mood::Down => return Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "api_error", "Try later").into_response(),
        Mood::Overloaded => {
            let refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", "Too many requests");
            return refusal.into_response();
        }
    }
    match key.filter(|_| known) {
        Some(key) => {
            request.extensions_mut().insert(Key(key));
            next.run(request).await
        }
        None => {
            Refusal::new(StatusCode::UNAUTHORIZED, "invalid_request_error", "Invalid API Key provided").into_response()
        }
    }
}

fn header(request: &Request, name: &str) -> Option<String> {
    Some(request.headers().get(name)?.to_str().ok()?.to_owned())
}

async fn account() -> Json<Value> {
    Json(json!({"id": "acct_local", "object": "account", "charges_enabled": true}))
}

async fn create_session(
    State(merchant): State<Arc<Merchant>>,
    axum::Extension(Key(key)): axum::Extension<Key>,
    headers: HeaderMap,
    Form(form): Form<BTreeMap<String, String>>,
) -> Result<Json<Value>, Refusal> {
    let invalid = |message: &str| Refusal::new(StatusCode::BAD_REQUEST, "invalid_request_error", message);
    let mut inner = merchant.inner.lock();
    if inner.mood == Mood::Declines {
        return Err(Refusal::new(StatusCode::PAYMENT_REQUIRED, "card_error", "Your card was declined."));
    }
    let repeat =
        headers.get("idempotency-key").and_then(|value| value.to_str().ok()).map(|repeat| format!("{key} {repeat}"));
    if let Some((before, id)) = repeat.as_ref().and_then(|repeat| inner.repeats.get(repeat)) {
        if *before != form {
            let message =
                "Keys for idempotent requests can only be used with the same parameters they were first used with.";
            return Err(Refusal::new(StatusCode::BAD_REQUEST, "idempotency_error", message));
        }
        return Ok(Json(inner.sessions[id].body.clone()));
    }

    let field = |name: &str| form.get(name).cloned();
    let mode = field("mode").ok_or_else(|| invalid("Missing required param: mode."))?;
    let currency = field("line_items[0][price_data][currency]").ok_or_else(|| invalid("Missing currency."))?;
    let unit: i64 = field("line_items[0][price_data][unit_amount]")
        .and_then(|amount| amount.parse().ok())
        .filter(|amount| *amount > 0)
        .ok_or_else(|| invalid("Invalid positive integer: unit_amount."))?;
    let quantity: i64 = field("line_items[0][quantity]").and_then(|text| text.parse().ok()).unwrap_or(1);
    let metadata: BTreeMap<_, _> = form
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix("metadata[")?.strip_suffix(']')?, value)))
        .collect();

    let id = format!("cs_test_{}", Uuid::new_v4().simple());
    let now = clock::now().as_second();
    let body = json!({
        "id": id, "object": "checkout.session", "mode": mode, "livemode": false,
        "amount_subtotal": unit * quantity, "amount_total": unit * quantity, "currency": currency.to_lowercase(),
        "client_reference_id": field("client_reference_id"), "metadata": metadata,
        "success_url": field("success_url"), "cancel_url": field("cancel_url"),
        "status": "open", "payment_status": "unpaid", "payment_intent": null,
        "url": format!("{}/pay/{id}", merchant.url), "created": now, "expires_at": now + 24 * 3600,
    });
    inner.sessions.insert(id.clone(), Session { key, body: body.clone() });
    if let Some(repeat) = repeat {
        inner.repeats.insert(repeat, (form, id));
    }
    Ok(Json(body))
}

async fn get_session(
    State(merchant): State<Arc<Merchant>>,
    axum::Extension(Key(key)): axum::Extension<Key>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Refusal> {
    let inner = merchant.inner.lock();
    let session = inner.sessions.get(&id).filter(|session| session.key == key).ok_or_else(|| no_such(&id))?;
    Ok(Json(session.body.clone()))
}

async fn expire_session(
    State(merchant): State<Arc<Merchant>>,
    axum::Extension(Key(key)): axum::Extension<Key>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Refusal> {
    let mut inner = merchant.inner.lock();
    let session = inner.sessions.get_mut(&id).filter(|session| session.key == key).ok_or_else(|| no_such(&id))?;
    if session.body["status"] != "open" {
        let message = "Only Checkout Sessions with a status in [\"open\"] can be expired.";
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "invalid_request_error", message));
    }
    session.body["status"] = json!("expired");
    session.body["url"] = Value::Null;
    Ok(Json(session.body.clone()))
}

fn no_such(id: &str) -> Refusal {
    let message = format!("No such checkout.session: {id}");
    Refusal::new(StatusCode::NOT_FOUND, "invalid_request_error", message)
}

/// The page that a customer would see.
async fn pay(State(merchant): State<Arc<Merchant>>, Path(id): Path<String>) -> (StatusCode, String) {
    match complete(&merchant, &id).await {
        Ok(status) if status.is_success() => (StatusCode::OK, "Paid. The platform has been told.\n".into()),
        Ok(status) => (StatusCode::BAD_GATEWAY, format!("Paid, but the platform's webhook answered {status}.\n")),
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error:#}\n")),
    }
}
