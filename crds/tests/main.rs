//! What the definitions promise: rules that refuse with sentences, schemas that Kubernetes accepts, committed files that
//! say what the types say.
#![expect(clippy::unwrap_used, clippy::unwrap_in_result, reason = "tests may panic")]
#![expect(clippy::needless_pass_by_value, reason = "a case reads better as accepts(json!(…))")]

mod cost;
mod generated;
mod kind;
mod rules;
mod schema;
