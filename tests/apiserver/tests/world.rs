//! A server, a small kind of its own, and the few verbs the tests speak.

use std::{sync::Arc, time::Duration};

use apiserver::{Handle, Options, Server};
use futures::{Stream, StreamExt as _};
use serde_json::{Value, json};

pub const WIDGETS: &str = "/apis/shop.example.com/v1/namespaces/default/widgets";
pub const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
pub const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
pub const JSON: &str = "application/json";
pub const MERGE: &str = "application/merge-patch+json";
pub const JSON_PATCH: &str = "application/json-patch+json";
pub const STRATEGIC: &str = "application/strategic-merge-patch+json";
pub const APPLY: &str = "application/apply-patch+yaml";

#[derive(Clone)]
pub struct World {
    pub server: Arc<Handle>,
    http: reqwest::Client,
}

fn client(token: &str) -> reqwest::Client {
    let mut headers = reqwest::header::HeaderMap::new();
    if !token.is_empty() {
        headers.insert("authorization", format!("Bearer {token}").parse().expect("a token"));
    }
    reqwest::Client::builder().timeout(Duration::from_secs(30)).default_headers(headers).build().expect("a client")
}

async fn answer(response: reqwest::Response) -> Answer {
    let code = response.status().as_u16();
    let text = response.text().await.expect("a body");
    (code, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// Code and body.
pub type Answer = (u16, Value);

impl World {
    pub async fn start() -> Self {
        Self::with(Options::default()).await
    }

    pub async fn with(options: Options) -> Self {
        let server = Server::start(options).await.expect("the server starts");
        let http = client(server.token());
        Self { server: Arc::new(server), http }
    }

    /// The same server for somebody with another token, or with none.
    pub fn user(&self, token: &str) -> Self {
        Self { server: self.server.clone(), http: client(token) }
    }

    pub async fn stop(self) {
        let server = Arc::into_inner(self.server).expect("the only holder");
        server.shutdown().await;
    }

    /// With headers of one's own.
    pub async fn send_with(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = self.http.request(method.parse().unwrap(), format!("{}{path}", self.server.url()));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(request.send().await.expect("an answer")).await
    }

    /// An answer of lines that goes on.
    pub async fn lines(&self, path: &str) -> Events {
        let response = self.http.get(format!("{}{path}", self.server.url())).send().await.expect("an answer");
        assert_eq!(response.status().as_u16(), 200);
        Events {
            lines: Box::pin(response.bytes_stream().map(|chunk| chunk.map(|chunk| chunk.to_vec()))),
            buffer: Vec::new(),
        }
    }

    /// With the kind `Widget` in place.
    pub async fn with_widgets() -> Self {
        let world = Self::start().await;
        let (code, body) = world.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", widgets()).await;
        assert_eq!(code, 201, "{body}");
        world
    }

    pub async fn send(&self, method: &str, path: &str, content_type: &str, body: Option<&Value>) -> Answer {
        let mut request = self.http.request(method.parse().unwrap(), format!("{}{path}", self.server.url()));
        if let Some(body) = body {
            request = request.header("content-type", content_type).body(body.to_string());
        }
        let response = request.header("user-agent", "tester/1.0").send().await.expect("an answer");
        answer(response).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, JSON, None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send("POST", path, JSON, Some(&body)).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.send("PUT", path, JSON, Some(&body)).await
    }

    pub async fn merge(&self, path: &str, body: Value) -> Answer {
        self.send("PATCH", path, MERGE, Some(&body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, JSON, None).await
    }

    /// Server-side apply; `manager` may carry more parameters (`me&force=true`).
    pub async fn apply(&self, path: &str, manager: &str, body: Value) -> Answer {
        self.send("PATCH", &format!("{path}?fieldManager={manager}"), APPLY, Some(&body)).await
    }

    /// An answer's headers named `Warning`.
    pub async fn warnings(&self, method: &str, path: &str, content_type: &str, body: Value) -> Vec<String> {
        let request = self.http.request(method.parse().unwrap(), format!("{}{path}", self.server.url()));
        let response =
            request.header("content-type", content_type).body(body.to_string()).send().await.expect("an answer");
        response.headers().get_all("warning").iter().map(|value| value.to_str().unwrap().to_owned()).collect()
    }

    /// The events of a watch, as they come.
    pub async fn watch(&self, path: &str) -> Events {
        let separator = if path.contains('?') { '&' } else { '?' };
        let url = format!("{}{path}{separator}watch=true", self.server.url());
        self.lines(url.trim_start_matches(self.server.url())).await
    }

    /// Asks until the answer satisfies; background work has no other sign.
    pub async fn until(&self, path: &str, satisfied: impl Fn(&Answer) -> bool) -> Answer {
        let asking = async {
            loop {
                let answer = self.get(path).await;
                if satisfied(&answer) {
                    return answer;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), asking).await.expect("it does not come true")
    }
}

pub struct Events {
    lines: std::pin::Pin<Box<dyn Stream<Item = Result<Vec<u8>, reqwest::Error>> + Send>>,
    buffer: Vec<u8>,
}

impl Events {
    /// The next event; `None` when the server ended the watch.
    pub async fn next(&mut self) -> Option<Value> {
        Some(serde_json::from_str(&self.line().await?).expect("JSON"))
    }

    /// The next line as it is.
    pub async fn line(&mut self) -> Option<String> {
        let reading = async {
            loop {
                if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = self.buffer.drain(..=end).collect();
                    return Some(String::from_utf8_lossy(&line).trim_end().to_owned());
                }
                self.buffer.extend(self.lines.next().await?.expect("a chunk"));
            }
        };
        tokio::time::timeout(Duration::from_secs(10), reading).await.expect("no event comes")
    }

    /// Whether the connection ends, in whatever way.
    pub async fn ends(&mut self) -> bool {
        let reading = async { while self.lines.next().await.is_some_and(|chunk| chunk.is_ok()) {} };
        tokio::time::timeout(Duration::from_secs(10), reading).await.is_ok()
    }

    /// `ADDED name`.
    pub async fn told(&mut self) -> String {
        let event = self.next().await.expect("an event");
        format!("{} {}", event["type"].as_str().unwrap(), event["object"]["metadata"]["name"].as_str().unwrap_or("-"))
    }
}

pub fn config_map(name: &str, value: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": { "key": value } })
}

pub fn widget(name: &str, spec: Value) -> Value {
    json!({ "apiVersion": "shop.example.com/v1", "kind": "Widget", "metadata": { "name": name }, "spec": spec })
}

pub fn deployment(name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name },
        "spec": {
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "containers": [{ "name": "main", "image": "nginx:1" }] },
            },
        },
    })
}

/// The definition of `Widget`.
pub fn widgets() -> Value {
    serde_saphyr::from_str(include_str!("widgets.yaml")).expect("YAML")
}
