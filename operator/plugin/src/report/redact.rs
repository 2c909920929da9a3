//! What looks like a credential is replaced: by the name that it stands under, and by its own form wherever it stands.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

/// What stands in a credential's place.
pub const REDACTED: &str = "[redacted]";

/// Words in the name of a variable or a field whose value is nobody's business.
const TELLING: [&str; 11] = [
    "password",
    "passwd",
    "pgpass",
    "secret",
    "token",
    "credential",
    "apikey",
    "api_key",
    "private",
    "dsn",
    "authorization",
];
/// Names that are telling only as a whole.
const EXACTLY: [&str; 6] = ["uri", "url", "key", "jdbc-uri", "fqdn-uri", "database_url"];
/// Beginnings of sentences about names, which hold no credential: `secretName: acme-stripe`.
const HARMLESS: [&str; 9] = [
    "secretname",
    "secretref",
    "secretkeyref",
    "secret_name",
    "tokenpath",
    "automountserviceaccounttoken",
    "accesstokenseconds",
    "refreshtokenseconds",
    "serviceaccounttoken",
];
/// The copy of the whole object that kubectl leaves, Secrets' values included.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Replaces what must not leave in an object.
pub fn value(object: &mut Value) {
    match object {
        Value::String(string) => *string = text(string),
        Value::Array(list) => list.iter_mut().for_each(value),
        Value::Object(map) => {
            map.remove(LAST_APPLIED);
            // An environment variable: the name says what the value is.
            let variable = map.get("name").and_then(Value::as_str).is_some_and(tells_a_variable);
            if variable && map.get("value").is_some_and(Value::is_string) {
                map.insert("value".into(), REDACTED.into());
            }
            for (name, value_of) in map.iter_mut() {
                if value_of.is_string() && tells(name) {
                    *value_of = REDACTED.into();
                } else {
                    value(value_of);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn tells(name: &str) -> bool {
    let name = name.to_lowercase();
    let harmless = HARMLESS.iter().any(|harmless| name.starts_with(harmless)) || name.ends_with("seconds");
    !harmless && TELLING.iter().any(|word| name.contains(word))
}

/// Of variables more is suspicious: a URL may hold a password.
fn tells_a_variable(name: &str) -> bool {
    let name = name.to_lowercase();
    tells(&name)
        || EXACTLY.contains(&name.as_str())
        || name.ends_with("_url")
        || name.ends_with("_uri")
        || name.ends_with("_key")
}

/// Replaces what has the form of a credential, in a text of any kind.
pub fn text(text: &str) -> String {
    let mut text = text.to_owned();
    for (form, by) in FORMS.iter() {
        if form.is_match(&text) {
            text = form.replace_all(&text, *by).into_owned();
        }
    }
    text
}

static FORMS: LazyLock<Vec<(Regex, &'static str)>> = LazyLock::new(|| {
    let forms = [
        (r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", REDACTED),
        // One that was cut off in the middle.
        (r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----[A-Za-z0-9+/=\\\n]*", REDACTED),
        (r"\b(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9_]+", REDACTED),
        (r"\bwhsec_[A-Za-z0-9_+/=-]+", REDACTED),
        // JSON Web Tokens, and what is sealed in documents.
        (r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*\.?[A-Za-z0-9_-]*", REDACTED),
        (r"\bv1\.[0-9a-f]{8}\.[A-Za-z0-9_-]{16,}", "[sealed]"),
        (r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}", "$1 [redacted]"),
        // scheme://user:password@host
        (r"([a-zA-Z][a-zA-Z0-9+.-]*://)[^\s/@'\x22]*:[^\s/@'\x22]*@", "$1[redacted]@"),
        (
            r"(?i)\b(password|passwd|secret|token|api[_-]?key)(\\?[\x22']?\s*[=:]\s*\\?[\x22']?)[^\s\x22'&,;{}\[\]\\]{4,}",
            "$1$2[redacted]",
        ),
    ];
    // A form that does not compile would be a mistake in this list, and is caught by the test below.
    forms.into_iter().filter_map(|(form, by)| Some((Regex::new(form).ok()?, by))).collect()
});

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_form_is_understood() {
        assert_eq!(FORMS.len(), 9);
    }

    #[test]
    fn no_canary_leaves_in_an_object() {
        let mut object = json!({
            "metadata": {"annotations": {LAST_APPLIED: r#"{"data":{"x":"CANARY"}}"#, "note": "kept"}},
            "spec": {
                "extraEnv": [
                    {"name": "SMTP_PASSWORD", "value": "CANARY"},
                    {"name": "REDIS_URL", "value": "redis://CANARY"},
                    {"name": "SENTRY_DSN", "value": "CANARY"},
                    {"name": "LOG_LEVEL", "value": "info"},
                    {"name": "FROM_SECRET", "valueFrom": {"secretKeyRef": {"name": "kept", "key": "uri"}}},
                ],
                "password": "CANARY", "adminPassword": "CANARY", "apiKey": "CANARY", "bindCredential": "CANARY",
                "secretRef": {"name": "kept"}, "auth": {"accessTokenSeconds": 900},
                "message": "could not connect to postgres://tenantry:CANARY@db:5432/app",
                "args": ["--token=CANARY-1", "--password", "--level=info"],
            },
        });
        value(&mut object);
        let text = object.to_string();
        assert!(!text.contains("CANARY"), "{text}");
        assert_eq!(text.matches("kept").count(), 3, "names of Secrets help: {text}");
        assert!(text.contains("900") && text.contains("info") && text.contains("@db:5432/app"), "{text}");
    }

    #[test]
    fn no_canary_leaves_in_a_text() {
        let log = [
            "-----BEGIN PRIVATE KEY-----\nCANARYCANARY==\n-----END PRIVATE KEY-----",
            r"-----BEGIN PRIVATE KEY-----\nCANARYCANARY",
            "using sk_live_CANARY1 and rk_test_CANARY2 with whsec_CANARY3",
            "Authorization: Bearer CANARYCANARY.x",
            r#"{"token":"CANARY-4","msg":"a"} password=CANARY5 api-key: 'CANARY6'"#,
            "redis://:CANARY@cache:6379 postgres://u:CANARY@db/app",
            "eyJCANARYCANARY.CANARY.CANARY and v1.0a1b2c3d.CANARYCANARYCANARY",
        ]
        .join("\n");
        let clean = text(&log);
        assert!(!clean.contains("CANARY"), "{clean}");
        assert!(
            clean.contains("@cache:6379") && clean.contains("[sealed]") && clean.contains(r#""msg":"a""#),
            "{clean}"
        );
        let plain = "answered request_id=0192f0c1 method=GET route=/payments status=200 tenant=acme";
        assert_eq!(text(plain), plain);
    }
}
