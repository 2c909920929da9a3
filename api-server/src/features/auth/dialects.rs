//! The same acts in the three dialects, each as the frontends of its document read them, chosen by the tenant and by `Accept`.

use contract::tenant::Dialect;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::testing::{Answer, PASSWORD, TestApp, binding};

const LOGIN: &str = "/api/auth/login";

/// What a frontend of a dialect takes from an answer.
struct Reader {
    dialect: Dialect,
    accept: Option<&'static str>,
}

impl Reader {
    fn all() -> Vec<Self> {
        let of = |dialect, name| [Self { dialect, accept: None }, Self { dialect, accept: Some(name) }];
        [
            of(Dialect::Envelope, "application/vnd.platform.envelope+json"),
            of(Dialect::Flat, "application/vnd.platform.flat+json"),
            of(Dialect::Legacy, "application/vnd.platform.legacy+json, application/json;q=0.5"),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn data<'a>(&self, answer: &'a Answer) -> &'a Value {
        match self.dialect {
            Dialect::Envelope => {
                assert_eq!(answer.json["success"], true, "{}", answer.text);
                &answer.json["data"]
            }
            Dialect::Flat | Dialect::Legacy => {
                assert_eq!(answer.json.get("success"), None, "{}", answer.text);
                &answer.json
            }
        }
    }

    /// Status, code (where the dialect has one), message and details of an error, in the place where its frontends look.
    fn error(&self, answer: &Answer) -> (StatusCode, Option<String>, String, Value) {
        let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{}", answer.text)).to_owned();
        let (code, message, details) = match self.dialect {
            Dialect::Envelope => {
                let error = &answer.json["error"];
                assert_eq!(answer.json["success"], false, "{}", answer.text);
                for field in ["timestamp", "path", "requestId"] {
                    assert!(answer.json["meta"][field].is_string(), "{field}: {}", answer.text);
                }
                (Some(text(&error["code"])), text(&error["message"]), error["details"].clone())
            }
            Dialect::Flat => {
                (Some(text(&answer.json["code"])), text(&answer.json["message"]), answer.json["details"].clone())
            }
            Dialect::Legacy => (None, text(&answer.json["error"]), answer.json["details"].clone()),
        };
        (answer.status, code, message, details)
    }
}

/// One app whose tenant speaks the reader's dialect, or does not and is asked for it.
async fn app_for(reader: &Reader) -> TestApp {
    let app = TestApp::new().await;
    let mut acme = app.tenant("acme");
    acme.dialect = match (reader.accept, reader.dialect) {
        (None, own) => own,
        (Some(_), Dialect::Envelope) => Dialect::Legacy,
        (Some(_), _) => Dialect::Envelope,
    };
    acme.bindings = vec![binding("admins", "ADMIN", "ada@acme.test")];
    app.serve(&acme);
    app
}

#[tokio::test]
async fn one_registers_signs_in_refreshes_and_is_known_in_every_dialect() {
    for reader in Reader::all() {
        let app = app_for(&reader).await;
        let send = async |method: Method, path: &str, token: Option<&str>, body: Value| {
            let mut call = app
                .request(method, path)
                .header("accept", reader.accept.unwrap_or("application/json, text/plain, */*"));
            if !body.is_null() {
                call = call.json(&body);
            }
            match token {
                Some(token) => call.bearer(token).send().await,
                None => call.send().await,
            }
        };
        // The names of each document.
        let body = match reader.dialect {
            Dialect::Envelope => json!({ "email": "ada@acme.test", "password": PASSWORD, "name": "Ada Lovelace" }),
            Dialect::Flat => json!({ "email": "ada@acme.test", "password": PASSWORD, "full_name": "Ada Lovelace" }),
            Dialect::Legacy => {
                json!({ "email": "ada@acme.test", "password": PASSWORD, "firstName": "Ada", "lastName": "Lovelace" })
            }
        };
        let registered = send(Method::POST, "/api/auth/register", None, body.clone()).await;
        assert_eq!(registered.status, StatusCode::CREATED, "{}", registered.text);
        let data = reader.data(&registered);
        assert!(data["token"].is_string() && data["user"]["id"].is_string(), "{}", registered.text);
        assert_eq!(data["user"]["email"], "ada@acme.test");

        let login = send(Method::POST, LOGIN, None, json!({ "email": "ada@acme.test", "password": PASSWORD })).await;
        let data = reader.data(&login);
        assert_eq!(data["token"], data["accessToken"]);
        assert_eq!((&data["user"]["name"], &data["user"]["role"]), (&json!("Ada Lovelace"), &json!("USER")));
        let refreshed =
            send(Method::POST, "/api/auth/refresh", None, json!({ "refreshToken": data["refreshToken"] })).await;
        let data = reader.data(&refreshed);
        let token = data["accessToken"].as_str().unwrap();
        assert!(data["refreshToken"].is_string());
        let me = send(Method::GET, "/api/auth/me", Some(token), Value::Null).await;
        let user = reader.data(&me);
        for (field, value) in [
            ("full_name", "Ada Lovelace"),
            ("fullName", "Ada Lovelace"),
            ("firstName", "Ada"),
            ("lastName", "Lovelace"),
        ] {
            assert_eq!(user[field], value, "{field}");
        }

        // Errors, in the words that the documents print.
        let error = async |answer: Answer| {
            let (status, code, message, _) = reader.error(&answer);
            (status.as_u16(), code, message)
        };
        let code = |code: &str| (reader.dialect != Dialect::Legacy).then(|| code.to_owned());
        let wrong =
            send(Method::POST, LOGIN, None, json!({ "email": "ada@acme.test", "password": "Wrong-Horse-7" })).await;
        assert_eq!(error(wrong).await, (401, code("INVALID_CREDENTIALS"), "Invalid credentials".into()));
        let none = send(Method::GET, "/api/auth/me", None, Value::Null).await;
        assert_eq!(error(none).await, (401, code("UNAUTHORIZED"), "Access token required".into()));
        let bad = send(Method::GET, "/api/auth/me", Some("a.b.c"), Value::Null).await;
        let status = if reader.dialect == Dialect::Legacy { 403 } else { 401 };
        assert_eq!(error(bad).await, (status, code("INVALID_TOKEN"), "Invalid token".into()));
        let again = send(Method::POST, "/api/auth/register", None, body).await;
        assert_eq!(error(again).await.0, 409);
        let missing =
            send(Method::POST, "/api/auth/register", None, json!({ "email": "nobody", "password": "" })).await;
        let (status, named, message, details) = reader.error(&missing);
        assert_eq!((status.as_u16(), named, message.as_str()), (400, code("VALIDATION_ERROR"), "Validation failed"));
        assert_eq!((&details[0]["field"], details[0]["message"].is_string()), (&json!("email"), true));
        let guest = send(
            Method::POST,
            "/api/auth/register",
            None,
            json!({ "email": "eve@acme.test", "password": PASSWORD, "name": "Eve" }),
        )
        .await;
        let eve = reader.data(&guest)["token"].as_str().unwrap();
        let refused = send(Method::GET, "/api/admin/users", Some(eve), Value::Null).await;
        assert_eq!(error(refused).await, (403, code("FORBIDDEN"), "Insufficient permissions".into()));
        let nothing = send(Method::GET, "/api/nothing", Some(token), Value::Null).await;
        assert_eq!(error(nothing).await.0, 404);

        // A list, in the three ways to page through it.
        for n in 0..3 {
            let body = json!({ "email": format!("more{n}@acme.test"), "name": "More" });
            assert_eq!(send(Method::POST, "/api/admin/users", Some(token), body).await.status, StatusCode::CREATED);
        }
        let ids = async |query: &str| {
            let list = send(Method::GET, &format!("/api/users?{query}"), Some(token), Value::Null).await;
            let ids: Vec<_> = reader.data(&list).as_array().unwrap().iter().map(|user| user["id"].clone()).collect();
            let cursor = match reader.dialect {
                Dialect::Envelope => {
                    list.json["meta"]["pagination"]["nextCursor"].as_str().unwrap_or_default().to_owned()
                }
                Dialect::Flat | Dialect::Legacy => list.header("x-next-cursor").to_owned(),
            };
            (ids, cursor)
        };
        let (all, end) = ids("limit=50").await;
        assert_eq!((all.len(), end.as_str()), (5, ""));
        let (first, cursor) = ids("limit=2").await;
        let (rest, _) = ids(&format!("limit=50&cursor={cursor}")).await;
        assert_eq!([first, rest].concat(), all);
        assert_eq!(ids("limit=2&page=2").await.0, all[2..4]);
        assert_eq!(ids("limit=2&offset=3").await.0, all[3..5]);
    }
}
