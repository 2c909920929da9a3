//! People, and what they do. They speak HTTP to the ingress and know nothing else.
//!
//! ```text
//! let acme = platform.tenant("acme").await?;
//! let alice = acme.user("alice");
//! alice.registers().await?;
//! let payment = alice.pays(10, "EUR").await?;
//! ```

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use http::{HeaderMap, Method, StatusCode};
use parking_lot::Mutex;
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use url::Url;

use crate::{Platform, objects::secret, platform::PLATFORM, provider::Endpoint, wait};

/// A tenant from the outside: its hostname.
#[derive(Debug, Clone)]
pub struct Tenant {
    pub name: String,
    pub hostname: String,
    ingress: SocketAddr,
    client: reqwest::Client,
}

impl Tenant {
    /// One that exists already.
    pub fn at(ingress: SocketAddr, name: &str, hostname: &str) -> Result<Self> {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build()?;
        Ok(Self { name: name.into(), hostname: hostname.into(), ingress, client })
    }

    /// Tenant, PaymentProvider and its keys, applied and waited for.
    pub(crate) async fn create(platform: &Platform, name: &str) -> Result<Self> {
        let hostname = format!("{name}.{}.localhost", platform.namespace);
        let (key, signing_secret) = (format!("sk_test_{name}"), format!("whsec_{name}"));
        let keys = format!("{name}-stripe");
        let objects = &platform.objects;
        let of_kind = |kind: &str, name: &str, spec: Value| json!({"apiVersion": "tenantry.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec});
        let tenant = of_kind("Tenant", name, json!({"platformRef": {"name": PLATFORM}, "hostnames": [hostname]}));
        let provider = json!({
            "tenantRef": {"name": name}, "type": "Stripe", "mode": "Test", "default": true,
            "currencies": ["EUR", "USD"], "apiBaseUrl": platform.provider.url,
            "stripe": {
                "secretKeySecretRef": {"name": keys, "key": "secret-key"},
                "webhookSigningSecretRefs": [{"name": keys, "key": "webhook-signing-secret"}],
            },
        });
        platform.provider.accept_key(&key, None);
        objects.apply(&secret(&keys, &[("secret-key", &key), ("webhook-signing-secret", &signing_secret)])).await?;
        objects.apply(&tenant).await?;
        objects.apply(&of_kind("PaymentProvider", &keys, provider)).await?;
        let applied = objects.until(&format!("paymentprovider/{keys}"), "Ready", "True").await?;
        objects.until(&format!("tenant/{name}"), "Ready", "True").await?;

        let tenant = Self::at(platform.ingress.address, name, &hostname)?;
        tenant.is_routed().await?;
        let endpoint = tenant.webhook_endpoint(&applied, &signing_secret)?;
        platform.provider.accept_key(&key, Some(endpoint));
        Ok(tenant)
    }

    /// Waits until the ingress has heard of the hostname: an Ingress follows its tenants, as on any cluster.
    pub async fn is_routed(&self) -> Result<()> {
        wait::until("the ingress to route the hostname", async || {
            Ok((self.get("//health").await?.status == StatusCode::OK).then_some(()))
        })
        .await
    }

    /// Where a PaymentProvider says that its events should go, by way of the ingress.
    pub fn webhook_endpoint(&self, payment_provider: &Value, signing_secret: &str) -> Result<Endpoint> {
        let url =
            payment_provider["status"]["webhookUrl"].as_str().context("the PaymentProvider names no webhookUrl")?;
        let url = Url::parse(url).with_context(|| format!("webhookUrl {url}"))?;
        Ok(Endpoint {
            signing_secret: signing_secret.into(),
            address: self.ingress,
            host: url.host_str().unwrap_or(&self.hostname).into(),
            path: url.path().into(),
        })
    }

    pub fn user(&self, name: &str) -> User {
        User {
            tenant: self.clone(),
            email: format!("{name}@{}.example", self.name),
            password: format!("Correct-horse-7-{name}"),
            tokens: Arc::default(),
        }
    }

    /// A request under the tenant's host; `path` begins after `/api/v1`, or is absolute with `//`.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let path =
            path.strip_prefix('/').filter(|rest| rest.starts_with('/')).map_or(format!("/api/v1{path}"), Into::into);
        let request = self.client.request(method, format!("http://{}{path}", self.ingress));
        request.header(http::header::HOST, &self.hostname)
    }

    pub async fn get(&self, path: &str) -> Result<Answer> {
        Answer::of(self.request(Method::GET, path)).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        Answer::of(self.request(Method::POST, path).json(body)).await
    }
}

/// Somebody with an e-mail address, a password, and the tokens of the last login.
#[derive(Debug, Clone)]
pub struct User {
    pub tenant: Tenant,
    pub email: String,
    pub password: String,
    tokens: Arc<Mutex<Tokens>>,
}

#[derive(Debug, Default, Clone)]
pub struct Tokens {
    pub access: String,
    pub refresh: String,
}

impl User {
    /// The same person under another address.
    #[must_use]
    pub fn with_email(self, email: &str) -> Self {
        Self { email: email.into(), ..self }
    }

    /// Registers and logs in.
    pub async fn registers(&self) -> Result<()> {
        let body = json!({"email": self.email, "password": self.password, "firstName": "Test", "lastName": "Person"});
        self.tenant.post("/auth/register", &body).await?.expect(StatusCode::CREATED)?;
        self.logs_in().await
    }

    pub async fn logs_in(&self) -> Result<()> {
        let answer = self.tries_to_log_in(&self.password).await?.expect(StatusCode::OK)?;
        self.keep(&answer)
    }

    pub async fn tries_to_log_in(&self, password: &str) -> Result<Answer> {
        self.tenant.post("/auth/login", &json!({"email": self.email, "password": password})).await
    }

    /// Trades the refresh token for new tokens.
    pub async fn refreshes(&self) -> Result<()> {
        let body = json!({"refreshToken": self.tokens().refresh});
        let answer = self.tenant.post("/auth/refresh", &body).await?.expect(StatusCode::OK)?;
        self.keep(&answer)
    }

    pub async fn me(&self) -> Result<Answer> {
        self.get("/auth/me").await
    }

    /// Opens a payment; its `checkoutUrl` is where to pay.
    pub async fn pays(&self, amount: impl Into<Value>, currency: &str) -> Result<Value> {
        let body = json!({"amount": amount.into(), "currency": currency, "type": "payment"});
        Ok(self.post("/payments", &body).await?.expect(StatusCode::CREATED)?.data().clone())
    }

    pub async fn payment(&self, id: &str) -> Result<Value> {
        Ok(self.get(&format!("/payments/{id}")).await?.expect(StatusCode::OK)?.data().clone())
    }

    pub async fn get(&self, path: &str) -> Result<Answer> {
        Answer::of(self.request(Method::GET, path)).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        Answer::of(self.request(Method::POST, path).json(body)).await
    }

    pub async fn delete(&self, path: &str) -> Result<Answer> {
        Answer::of(self.request(Method::DELETE, path)).await
    }

    /// As [`Tenant::request`], with the access token.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.tenant.request(method, path).bearer_auth(self.tokens().access)
    }

    /// The same person at another tenant's door, with the same tokens.
    #[must_use]
    pub fn at(&self, other: &Tenant) -> Self {
        Self { tenant: other.clone(), ..self.clone() }
    }

    pub fn tokens(&self) -> Tokens {
        self.tokens.lock().clone()
    }

    fn keep(&self, answer: &Answer) -> Result<()> {
        let token = |name: &str| answer.data()[name].as_str().map(Into::into);
        let (Some(access), Some(refresh)) = (token("accessToken"), token("refreshToken")) else {
            bail!("no tokens in {answer}");
        };
        *self.tokens.lock() = Tokens { access, refresh };
        Ok(())
    }
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// `null` where the body is no JSON.
    pub body: Value,
    pub text: String,
}

impl Answer {
    pub async fn of(request: RequestBuilder) -> Result<Self> {
        let response = request.send().await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await?;
        Ok(Self { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::Null), text })
    }

    pub fn expect(self, status: StatusCode) -> Result<Self> {
        if self.status != status {
            bail!("expected {status}, got {self}");
        }
        Ok(self)
    }

    /// The envelope's content.
    pub fn data(&self) -> &Value {
        &self.body["data"]
    }

    /// The machine-readable error code.
    pub fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.status, self.text)
    }
}
