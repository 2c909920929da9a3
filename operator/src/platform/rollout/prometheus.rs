//! Asks Prometheus. Whatever is not exactly one number is told in words: it is for the analysis to ask again.

use std::time::Duration;

use crds::platform::{Color, Metric};
use serde::Deserialize;
use serde_json::Value;

/// A query that takes longer is an answer too: none. Short, because a reconcile waits for it.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest part of an error of Prometheus that is repeated.
const REPEATED: usize = 200;

/// A client for `/api/v1/query`.
#[derive(Debug, Clone)]
pub struct Prometheus(reqwest::Client);

/// What the placeholders of a query stand for.
#[derive(Debug, Clone)]
pub struct Subject<'a> {
    pub revision: &'a str,
    pub color: Color,
    pub namespace: &'a str,
    pub platform: &'a str,
}

#[derive(Debug, Deserialize)]
struct Answer {
    status: String,
    data: Option<Data>,
    error: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    result_type: String,
    result: Value,
}

impl Prometheus {
    pub fn new() -> reqwest::Result<Self> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("tenantry-operator/", env!("CARGO_PKG_VERSION")))
            .timeout(PATIENCE)
            .build()?;
        Ok(Self(http))
    }

    /// The number that the metric has now, or why there is none. The sentence never holds the address, which may have a
    /// password in it.
    pub async fn ask(&self, address: &str, metric: &Metric, subject: &Subject<'_>) -> Result<f64, String> {
        let query = subject.fill(&metric.query);
        let url = format!("{}/api/v1/query", address.trim_end_matches('/'));
        let sent = self.0.post(url).form(&[("query", query)]).send().await;
        let response =
            sent.map_err(|error| format!("Prometheus did not answer: {}", brief(&error.without_url().to_string())))?;
        let status = response.status();
        let body = response.bytes().await.map_err(|error| format!("Prometheus broke off: {}", error.without_url()))?;
        match serde_json::from_slice::<Answer>(&body) {
            Ok(answer) => answer.number(),
            Err(_) if !status.is_success() => Err(format!("Prometheus answered HTTP {}", status.as_u16())),
            Err(_) => {
                Err("the answer is not that of Prometheus: is spec.rollout.analysis.prometheus.address right?".into())
            }
        }
    }
}

impl Subject<'_> {
    fn fill(&self, query: &str) -> String {
        query
            .replace("{{revision}}", self.revision)
            .replace("{{color}}", self.color.as_str())
            .replace("{{namespace}}", self.namespace)
            .replace("{{platform}}", self.platform)
    }
}

impl Answer {
    fn number(self) -> Result<f64, String> {
        if self.status != "success" {
            return Err(format!(
                "Prometheus says: {}",
                brief(self.error.as_deref().unwrap_or("an error without words"))
            ));
        }
        let Data { result_type, result } = self.data.ok_or("the answer has no data")?;
        let sample = match (result_type.as_str(), &result) {
            ("scalar", sample) => sample,
            ("vector", Value::Array(series)) => match series.as_slice() {
                [] => return Err("the query finds nothing".into()),
                [one] => &one["value"],
                several => {
                    return Err(format!("the query finds {} series and one is wanted: sum them up", several.len()));
                }
            },
            (other, _) => return Err(format!("the query yields a {other} and not one number")),
        };
        let text = sample[1].as_str().ok_or("the answer has no value")?;
        text.parse().map_err(|_| format!("{:?} is no number", brief(text)))
    }
}

fn brief(text: &str) -> &str {
    text.get(..text.floor_char_boundary(REPEATED)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(json: &str) -> Answer {
        serde_json::from_str(json).unwrap()
    }

    fn number(json: &str) -> Result<f64, String> {
        answer(json).number()
    }

    #[test]
    fn one_number_is_a_scalar_or_a_vector_of_one() {
        let scalar = r#"{"status":"success","data":{"resultType":"scalar","result":[1.5,"0.25"]}}"#;
        assert_eq!(number(scalar), Ok(0.25));
        let vector = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"3"]}]}}"#;
        assert_eq!(number(vector), Ok(3.0));
    }

    #[test]
    fn anything_else_is_no_number_and_says_why() {
        let cases = [
            (r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#, "finds nothing"),
            (
                r#"{"status":"success","data":{"resultType":"vector","result":[{"value":[1,"1"]},{"value":[1,"2"]}]}}"#,
                "2 series",
            ),
            (r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#, "matrix"),
            (r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#, "parse error"),
            (r#"{"status":"success"}"#, "no data"),
            (r#"{"status":"success","data":{"resultType":"scalar","result":[1,"many"]}}"#, "no number"),
        ];
        for (json, why) in cases {
            let said = number(json).unwrap_err();
            assert!(said.contains(why), "{json}: {said}");
        }
        assert!(number(r#"{"status":"success","data":{"resultType":"scalar","result":[1,"NaN"]}}"#).unwrap().is_nan());
    }

    #[test]
    fn placeholders_stand_for_what_is_tried() {
        let subject = Subject { revision: "0a1b2c3d4e", color: Color::Green, namespace: "shop", platform: "main" };
        let filled = subject.fill(r#"{r="{{revision}}",c="{{color}}",n="{{namespace}}",p="{{platform}}"}"#);
        assert_eq!(filled, r#"{r="0a1b2c3d4e",c="green",n="shop",p="main"}"#);
    }
}
