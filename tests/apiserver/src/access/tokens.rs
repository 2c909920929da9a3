//! Bearer tokens: the administrator's, and those of ServiceAccounts, which are signed and run out.
//! <https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/>

use std::{io, path::Path};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{SERVICE_ACCOUNT, User};
use crate::{
    api::{Api, Target},
    clock, object,
    status::{Cause, Result, Status},
};

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
const SHORTEST: i64 = 10 * 60;
const LONGEST: i64 = 1 << 32;

/// Signs and verifies. The key lies beside the objects, so that tokens outlive a restart as objects do.
pub struct Tokens {
    key: Vec<u8>,
    /// Whoever holds it may do everything.
    pub admin: String,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Named {
    name: String,
    uid: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Holder {
    namespace: String,
    serviceaccount: Named,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pod: Option<Named>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    aud: Vec<String>,
    exp: i64,
    iat: i64,
    iss: String,
    jti: String,
    #[serde(rename = "kubernetes.io")]
    holder: Holder,
    nbf: i64,
    sub: String,
}

impl Tokens {
    pub fn open(data: Option<&Path>) -> io::Result<Self> {
        let fresh = || [*uuid::Uuid::new_v4().as_bytes(), *uuid::Uuid::new_v4().as_bytes()].concat();
        let key = match data.map(|folder| folder.join("token-key")) {
            None => fresh(),
            Some(path) if path.exists() => std::fs::read(path)?,
            Some(path) => {
                let key = fresh();
                std::fs::write(path, &key)?;
                key
            }
        };
        let admin = URL_SAFE_NO_PAD.encode(Sha256::digest([b"admin", &key[..]].concat()));
        Ok(Self { key, admin })
    }

    /// The user of a token that is ours, has not run out, and whose ServiceAccount (and pod) are still the same.
    pub fn verify(&self, api: &Api, token: &str) -> Option<User> {
        if token == self.admin {
            return Some(User::admin());
        }
        let mut wanted = Validation::new(Algorithm::HS256);
        wanted.set_audience(&[ISSUER]);
        wanted.set_issuer(&[ISSUER]);
        wanted.leeway = 0;
        let Claims { holder, jti, .. } =
            decode::<Claims>(token, &DecodingKey::from_secret(&self.key), &wanted).ok()?.claims;
        let lives = |storage: &str, named: &Named| {
            let entry = api.store.get(storage, &(holder.namespace.clone(), named.name.clone()));
            entry.is_some_and(|entry| object::uid(&entry.value) == named.uid)
        };
        if !lives("/serviceaccounts", &holder.serviceaccount)
            || holder.pod.as_ref().is_some_and(|pod| !lives("/pods", pod))
        {
            return None;
        }
        let mut user = User::service_account(&holder.namespace, &holder.serviceaccount.name);
        user.uid = holder.serviceaccount.uid;
        let mut extra = |key: &str, value: String| {
            user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value]);
        };
        extra("credential-id", format!("JTI={jti}"));
        if let Some(pod) = holder.pod {
            extra("pod-name", pod.name);
            extra("pod-uid", pod.uid);
        }
        Some(user)
    }

    /// The `token` subresource of a ServiceAccount: the request comes back with the token in its status.
    pub fn issue(&self, api: &Api, target: Target<'_>, mut request: Value) -> Result<Value> {
        let account = api.get(target)?;
        let namespace = target.namespace;
        let invalid = |cause: Cause| Status::invalid("authentication.k8s.io", "TokenRequest", "", &[cause]);
        let seconds = request["spec"]["expirationSeconds"].as_i64().unwrap_or(3600);
        if seconds < SHORTEST {
            let why = "may not specify a duration less than 10 minutes";
            return Err(invalid(Cause::invalid("spec.expirationSeconds", &seconds.to_string(), why)));
        }
        if seconds > LONGEST {
            let why = "may not specify a duration larger than 2^32 seconds";
            return Err(invalid(Cause::invalid("spec.expirationSeconds", &seconds.to_string(), why)));
        }
        let pod = match &request["spec"]["boundObjectRef"] {
            Value::Null => None,
            bound if bound["kind"] == "Pod" => {
                let name = bound["name"].as_str().unwrap_or_default();
                let missing = || Status::not_found("", "pods", name);
                let pod = api.store.get("/pods", &(namespace.to_owned(), name.to_owned())).ok_or_else(missing)?;
                let uid = object::uid(&pod.value).to_owned();
                if bound["uid"].as_str().is_some_and(|wanted| wanted != uid) {
                    return Err(Status::conflict(
                        "",
                        "pods",
                        name,
                        "the UID in the bound object reference does not match",
                    ));
                }
                Some(Named { name: name.to_owned(), uid })
            }
            bound => {
                let why = "cannot bind token for serviceaccount to object of this kind here: only Pod";
                return Err(Status::bad_request(format!("{why}, not {}", bound["kind"])));
            }
        };
        let audiences: Vec<String> = match request["spec"]["audiences"].as_array() {
            Some(list) if !list.is_empty() => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => vec![ISSUER.to_owned()],
        };
        let now = clock::now();
        let exp = now.as_second() + seconds;
        let serviceaccount = Named { name: target.name.to_owned(), uid: object::uid(&account.value).to_owned() };
        let claims = Claims {
            aud: audiences.clone(),
            exp,
            iat: now.as_second(),
            iss: ISSUER.to_owned(),
            jti: uuid::Uuid::new_v4().to_string(),
            holder: Holder { namespace: namespace.to_owned(), serviceaccount, pod },
            nbf: now.as_second(),
            sub: format!("{SERVICE_ACCOUNT}{namespace}:{}", target.name),
        };
        let token = encode(&Header::default(), &claims, &EncodingKey::from_secret(&self.key))
            .map_err(|error| Status::internal(format!("the token could not be signed: {error}")))?;
        let until = jiff::Timestamp::from_second(exp).map_err(|error| Status::internal(error.to_string()))?;
        request["kind"] = json!("TokenRequest");
        request["apiVersion"] = json!("authentication.k8s.io/v1");
        request["metadata"] =
            json!({ "name": target.name, "namespace": namespace, "creationTimestamp": clock::stamp() });
        request["spec"]["audiences"] = json!(audiences);
        request["spec"]["expirationSeconds"] = json!(seconds);
        request["status"] = json!({ "token": token, "expirationTimestamp": until.to_string() });
        Ok(request)
    }
}
