//! What a request asks: which kind and object by its path, how by its query, in which form by its headers.

use std::{collections::HashMap, sync::Arc};

use axum::http::{HeaderMap, Uri, header};

use crate::registry::{Kind, Kinds};

/// Where a path points.
#[derive(Debug)]
pub struct Place {
    pub kind: Arc<Kind>,
    pub namespace: String,
    /// Empty for a collection.
    pub name: String,
    pub subresource: String,
}

impl Place {
    pub fn find(kinds: &Kinds, path: &[&str]) -> Option<Self> {
        let (group, version, rest) = match path {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
        };
        // A namespace is an object itself unless something follows that is not one of its subresources.
        let (namespace, rest) = match rest {
            ["namespaces", _, "status" | "finalize"] => ("", rest),
            ["namespaces", namespace, inner @ ..] if !inner.is_empty() => (*namespace, inner),
            _ => ("", rest),
        };
        let (plural, name, subresource) = match rest {
            [plural] => (*plural, "", ""),
            [plural, name] => (*plural, *name, ""),
            [plural, name, subresource] => (*plural, *name, *subresource),
            _ => return None,
        };
        let kind = kinds.find(group, version, plural)?;
        let scoped = kind.namespaced || namespace.is_empty();
        let complete = !kind.namespaced || !namespace.is_empty() || name.is_empty();
        let served = match subresource {
            "" => true,
            "status" => kind.status,
            "scale" => kind.scale.is_some(),
            other => kind.actions.iter().any(|action| action.name == other),
        };
        (scoped && complete && served).then(|| Self {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            subresource: subresource.to_owned(),
        })
    }

    pub fn is_watch(&self, query: &Query) -> bool {
        self.subresource.is_empty() && query.flag("watch")
    }
}

/// The query's parameters.
#[derive(Debug)]
pub struct Query(HashMap<String, String>);

impl Query {
    pub fn parse(uri: &Uri) -> Self {
        let pairs = axum::extract::Query::<HashMap<String, String>>::try_from_uri(uri);
        Self(pairs.map(|query| query.0).unwrap_or_default())
    }

    pub fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    pub fn flag(&self, name: &str) -> bool {
        matches!(self.get(name), "1" | "true")
    }

    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.get(name).parse().ok()
    }
}

/// `%20` and its like.
pub fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        let escaped = (bytes[index] == b'%').then(|| text.get(index + 1..index + 3)).flatten();
        if let Some(byte) = escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            plain.push(byte);
            index += 3;
        } else {
            plain.push(bytes[index]);
            index += 1;
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

/// In which form the answer is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    #[default]
    Whole,
    Metadata,
    Table,
    /// Nothing that this server speaks.
    Other,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Accept {
    pub form: Form,
    /// All of discovery in one document.
    pub aggregated_discovery: bool,
}

impl Accept {
    /// The first of the accepted media types that can be answered.
    pub fn parse(headers: &HeaderMap) -> Self {
        let stated = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("*/*");
        for part in stated.split(',') {
            let mut pieces = part.split(';').map(str::trim);
            let media = pieces.next().unwrap_or_default();
            let parameters: HashMap<&str, &str> = pieces.filter_map(|piece| piece.split_once('=')).collect();
            if !matches!(media, "application/json" | "application/*" | "*/*") {
                continue;
            }
            match (parameters.get("as").copied(), parameters.get("v").copied()) {
                (None, _) => return Self::default(),
                (Some("Table"), Some("v1")) => return Self { form: Form::Table, aggregated_discovery: false },
                (Some("PartialObjectMetadata" | "PartialObjectMetadataList"), Some("v1")) => {
                    return Self { form: Form::Metadata, aggregated_discovery: false };
                }
                (Some("APIGroupDiscoveryList"), Some("v2")) => {
                    return Self { form: Form::Whole, aggregated_discovery: true };
                }
                _ => {}
            }
        }
        Self { form: Form::Other, aggregated_discovery: false }
    }
}
