//! A kind's definition as it is installed: the derived one, put into the words of Kubernetes.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::{CustomResourceExt, api::ObjectMeta};

/// The CustomResourceDefinition of a kind.
pub fn definition<K: CustomResourceExt>() -> CustomResourceDefinition {
    let mut crd = K::crd();
    crd.metadata = ObjectMeta {
        labels: Some([(contract::names::LABEL_PART_OF.to_owned(), contract::names::PART_OF.to_owned())].into()),
        ..crd.metadata
    };
    for version in &mut crd.spec.versions {
        if let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
            rewrite(schema);
        }
    }
    crd
}

/// Rewrites a schema and everything below it:
/// - the formats of Rust's unsigned integers, which the API server warns about, become those of the next larger signed one;
/// - `title`, which repeats the kind, goes;
/// - `nullable` goes: an explicit `null` then means "left out", gets its default, and never meets a CEL rule;
/// - a description is one line per paragraph, not one per line of source, and that of quantities, which is the grammar of
///   all of them, becomes an example.
fn rewrite(schema: &mut JSONSchemaProps) {
    schema.format = schema.format.take().map(|format| match format.as_str() {
        "uint8" | "uint16" => "int32".to_owned(),
        "uint32" | "uint64" => "int64".to_owned(),
        _ => format,
    });
    schema.nullable = None;
    schema.title = None;
    schema.description = if schema.x_kubernetes_int_or_string == Some(true) {
        Some("Quantity, such as `500m` or `256Mi`.".to_owned())
    } else {
        schema.description.take().map(|text| reflow(&text))
    };
    for property in schema.properties.iter_mut().flatten().map(|(_, property)| property) {
        rewrite(property);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        rewrite(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        rewrite(values);
    }
}

fn reflow(text: &str) -> String {
    let paragraphs = text.split("\n\n").map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "));
    paragraphs.collect::<Vec<_>>().join("\n\n")
}
