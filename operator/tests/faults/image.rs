//! What a namespace looks like, without what two runs may differ in: identities, versions, times, generated names, and
//! what is sealed or hashed.

use std::sync::LazyLock;

use axum::Router;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use regex::Regex;
use serde_json::Value;

use crate::fault::read;

/// Everything that the operator makes or speaks about.
const KINDS: &[&str] = &[
    "apis/tenantry.dev/v1alpha1/namespaces/NS/platforms",
    "apis/tenantry.dev/v1alpha1/namespaces/NS/tenants",
    "apis/tenantry.dev/v1alpha1/namespaces/NS/rolebindings",
    "apis/tenantry.dev/v1alpha1/namespaces/NS/paymentproviders",
    "apis/tenantry.dev/v1alpha1/namespaces/NS/ratelimitpolicies",
    "api/v1/namespaces/NS/configmaps",
    "api/v1/namespaces/NS/secrets",
    "api/v1/namespaces/NS/services",
    "api/v1/namespaces/NS/serviceaccounts",
    "apis/apps/v1/namespaces/NS/deployments",
    "apis/batch/v1/namespaces/NS/jobs",
    "apis/policy/v1/namespaces/NS/poddisruptionbudgets",
    "apis/networking.k8s.io/v1/namespaces/NS/ingresses",
    "apis/rbac.authorization.k8s.io/v1/namespaces/NS/roles",
    "apis/rbac.authorization.k8s.io/v1/namespaces/NS/rolebindings",
];

/// The objects of a namespace, as they are.
#[derive(PartialEq)]
pub struct Image(Vec<(&'static str, Value)>);

impl Image {
    pub async fn take(router: &Router, namespace: &str) -> Self {
        let mut objects = Vec::new();
        for kind in KINDS {
            let path = format!("/{}", kind.replace("NS", namespace));
            let mut list = read(router, &path).await.unwrap_or_else(|| panic!("{path} cannot be listed"));
            let plural = kind.rsplit('/').next().unwrap();
            let items = list["items"].as_array_mut().unwrap();
            objects.extend(items.drain(..).map(|object| (plural, object)));
        }
        Self(objects)
    }

    /// One line an object, in order, with what two runs have in common.
    pub fn lines(&self, namespace: &str) -> Vec<String> {
        let line = |(plural, object): &(&str, Value)| {
            let name = common(object["metadata"]["name"].as_str().unwrap(), namespace);
            format!("{plural} {name} {}", line(object.clone(), namespace))
        };
        let mut lines: Vec<_> = self.0.iter().map(line).collect();
        lines.sort();
        lines
    }
}

/// Changes with every write of any object.
pub async fn revision(router: &Router) -> Value {
    let list = read(router, "/api/v1/namespaces?limit=1").await.unwrap();
    list["metadata"]["resourceVersion"].clone()
}

/// What is missing of the expected lines and what is there instead, each from where the two part.
pub fn difference(expected: &[String], found: &[String]) -> String {
    let only = |these: &[String], those: &[String]| -> Vec<String> {
        these.iter().filter(|line| !those.contains(line)).cloned().collect()
    };
    let (missing, surplus) = (only(expected, found), only(found, expected));
    let name = |line: &str| line.split('{').next().unwrap().to_owned();
    let shown = |line: &str, others: &[String]| {
        let of_this_name = others.iter().filter(|other| name(other) == name(line));
        let same = |other: &String| line.bytes().zip(other.bytes()).take_while(|(one, two)| one == two).count();
        let from = of_this_name.map(same).max().unwrap_or_default().saturating_sub(40);
        let part: String = String::from_utf8_lossy(&line.as_bytes()[from..]).chars().take(300).collect();
        format!("{}… {part}", name(line))
    };
    let missing_shown = missing.iter().map(|line| format!("- {}", shown(line, &surplus)));
    let surplus_shown = surplus.iter().map(|line| format!("+ {}", shown(line, &missing)));
    missing_shown.chain(surplus_shown).collect::<Vec<_>>().join("\n")
}

fn line(mut object: Value, namespace: &str) -> String {
    let secret = object["kind"] == "Secret" || object.get("stringData").is_some() || object["type"] == "Opaque";
    if let (true, Some(data)) = (secret, object["data"].as_object_mut()) {
        data.values_mut().for_each(|value| *value = "…".into());
    }
    // A release keeps its pods' template as JSON in bytes, with names and digests of this run in it.
    for bytes in object["binaryData"].as_object_mut().into_iter().flat_map(|data| data.values_mut()) {
        let decoded = BASE64_STANDARD.decode(bytes.as_str().unwrap()).unwrap();
        *bytes = serde_json::from_slice(&decoded).unwrap();
    }
    strip(&mut object);
    // The document is text inside of this text.
    common(&object.to_string(), namespace)
}

fn common(text: &str, namespace: &str) -> String {
    let text = text.replace(namespace, "NS");
    REPLACED.iter().fold(text, |text, (pattern, with)| pattern.replace_all(&text, *with).into_owned())
}

static REPLACED: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    let patterns = [
        (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UUID"),
        // Digests and revisions, alone or behind a name.
        (r"\b[0-9a-f]{64}\b", "DIGEST"),
        (r"\b[0-9a-f]{16}\b", "REVISION"),
        (r"-[0-9a-f]{8,12}\b", "-HASH"),
        (r"\b[0-9a-f]{10}\b", "HASH"),
        (r"v1\.[A-Za-z0-9+/_=-]{8,}(\.[A-Za-z0-9+/_=-]+)*", "SEALED"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME"),
    ];
    patterns.map(|(pattern, with)| (Regex::new(pattern).unwrap(), with)).into()
});

/// Drops what no two runs have in common, and puts the rest in order.
fn strip(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for key in [
                "uid",
                "resourceVersion",
                "managedFields",
                "creationTimestamp",
                "lastTransitionTime",
                "generation",
                "observedGeneration",
                "clusterIP",
                "clusterIPs",
            ] {
                map.remove(key);
            }
            // Fields come in the order in which they were first written.
            map.sort_keys();
            map.values_mut().for_each(strip);
        }
        Value::Array(list) => list.iter_mut().for_each(strip),
        _ => {}
    }
}
