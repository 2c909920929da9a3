//! Texts of a request before they have a type: no NUL in any of them, and what is wrong with one in a caller's words.

use serde::de::DeserializeOwned;
use serde_json::Value;

/// PostgreSQL's texts cannot hold it, and nobody types it: refused wherever it stands, so that no room has to think of it.
pub const NUL: &str = "the character U+0000 is not taken";

/// Parses pairs of names and values, as queries and forms have them; an error is the field and what is wrong with it.
pub fn form<T: DeserializeOwned>(pairs: &[u8]) -> Result<T, (String, String)> {
    if let Some(name) = url::form_urlencoded::parse(pairs).find(|(_, value)| value.contains('\0')).map(|(name, _)| name)
    {
        return Err((name.into_owned(), NUL.to_owned()));
    }
    let pairs = serde_urlencoded::Deserializer::new(url::form_urlencoded::parse(pairs));
    serde_path_to_error::deserialize(pairs).map_err(|error| {
        let field = error.path().to_string();
        (field.trim_matches('.').to_owned(), error.into_inner().to_string())
    })
}

/// Where in a JSON text a NUL is; nowhere in a text that is no JSON.
pub fn nul_in_json(body: &[u8]) -> Option<String> {
    // Within JSON it can only be written like this, so that most bodies are read once.
    let text = std::str::from_utf8(body).ok()?;
    if !text.contains("\\u0000") {
        return None;
    }
    nul_in(&serde_json::from_str(text).ok()?)
}

fn nul_in(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => text.contains('\0').then(String::new),
        Value::Array(values) => values.iter().enumerate().find_map(|(at, value)| {
            let rest = nul_in(value)?;
            Some(if rest.is_empty() { at.to_string() } else { format!("{at}.{rest}") })
        }),
        Value::Object(fields) => fields.iter().find_map(|(name, value)| {
            if name.contains('\0') {
                return Some(String::new());
            }
            let rest = nul_in(value)?;
            Some(if rest.is_empty() { name.clone() } else { format!("{name}.{rest}") })
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

/// What a parser of numbers, ids and truth values says, as one would say it to a person; anything else as it is.
pub fn plain(reason: &str) -> &str {
    match reason {
        "invalid digit found in string" | "cannot parse integer from empty string" => {
            "write a whole number, without a sign"
        }
        "number too large to fit in target type" => "this number is too large",
        "provided string was not `true` or `false`" => "write true or false",
        other if other.starts_with("UUID parsing failed") => "write an id such as 0192f0c1-7a00-7000-8000-000000000001",
        other => other,
    }
}
