//! Tokens that nobody may come in with, made by structure, and every bit flip of good ones: through the real router none
//! counts, twice each, and the memory of checked tokens is not deceived by any of them.

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use contract::{Secret, auth::SigningAlgorithm};
use futures::future::join_all;
use http::{HeaderValue, StatusCode};
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::{Value, json};

use crate::testing::{TestApp, ed25519_pem};

const ME: &str = "/api/v1/auth/me";

/// A good token in its parts, and the keys that a thief may have.
struct Forge {
    app: TestApp,
    good: String,
    header: Value,
    claims: Value,
    /// acme's own key: what it signed has a good signature, whatever it says.
    own: EncodingKey,
    /// beta's, another tenant's.
    foreign: EncodingKey,
    /// The thief's own.
    thief: EncodingKey,
    public: Vec<u8>,
    kid: String,
    bob: Value,
}

fn encode(text: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(text)
}

fn signed(header: &str, payload: &str, key: &EncodingKey, algorithm: Algorithm) -> String {
    let message = format!("{}.{}", encode(header), encode(payload));
    let signature = crypto::sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}

impl Forge {
    async fn new() -> Self {
        let app = TestApp::new().await;
        app.serve(&app.tenant("beta"));
        let ada = app.register("ada@acme.test").await;
        let bob = app.register("bob@acme.test").await;
        let good = ada["accessToken"].as_str().unwrap().to_owned();
        let part = |at: usize| BASE64_URL_SAFE_NO_PAD.decode(good.split('.').nth(at).unwrap()).unwrap();
        let (header, claims) = (serde_json::from_slice(&part(0)).unwrap(), serde_json::from_slice(&part(1)).unwrap());
        let key = |seed: &[u8]| EncodingKey::from_ed_pem(ed25519_pem(seed).as_bytes()).unwrap();
        let of = |name: &str| key(app.tenant(name).id.as_uuid().as_bytes());
        let (own, foreign, thief) = (of("acme"), of("beta"), key(b"thief"));
        let jwks = app.get("/.well-known/jwks.json").send().await;
        let jwk = &jwks.json["keys"][0];
        let public = BASE64_URL_SAFE_NO_PAD.decode(jwk["x"].as_str().unwrap()).unwrap();
        let kid = jwk["kid"].as_str().unwrap().to_owned();
        Self { app, good, header, claims, own, foreign, thief, public, kid, bob }
    }

    fn header_with(&self, changes: &[(&str, Value)]) -> String {
        with(&self.header, changes)
    }

    fn claims_with(&self, changes: &[(&str, Value)]) -> String {
        with(&self.claims, changes)
    }

    fn of_own(&self, header: &str, payload: &str) -> String {
        signed(header, payload, &self.own, Algorithm::EdDSA)
    }

    fn by_thief(&self, header: &str) -> String {
        signed(header, &self.claims.to_string(), &self.thief, Algorithm::EdDSA)
    }

    async fn status(&self, token: &[u8]) -> StatusCode {
        let mut value = b"Bearer ".to_vec();
        value.extend_from_slice(token);
        // What no header can carry never gets here.
        let Ok(value) = HeaderValue::from_bytes(&value) else { return StatusCode::UNAUTHORIZED };
        self.app.get(ME).header_value("authorization", value).send().await.status
    }

    async fn comes_in(&self, token: &str) -> Option<String> {
        let answer = self.app.get(ME).bearer(token).send().await;
        answer.json["data"]["email"].as_str().map(str::to_owned)
    }

    /// Algorithms, and what they are signed with.
    fn algorithms(&self) -> Vec<String> {
        let names = [
            "none", "None", "NONE", "nOnE", "", " none", "none\0", "HS256", "HS384", "HS512", "hs256", "RS256",
            "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "ES256K", "EdDSA ", "eddsa",
            "Ed25519", "dir", "A128KW",
        ];
        let x = encode(&self.public);
        let jwk = json!({ "crv": "Ed25519", "kty": "OKP", "x": x }).to_string();
        let der = [&hex::decode("302a300506032b6570032100").unwrap(), self.public.as_slice()].concat();
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", BASE64_STANDARD.encode(&der));
        let secrets: [&[u8]; 8] = [
            &self.public,
            x.as_bytes(),
            jwk.as_bytes(),
            &der,
            pem.as_bytes(),
            pem.trim_end().as_bytes(),
            self.kid.as_bytes(),
            b"secret",
        ];
        let (claims, signature) = (self.claims.to_string(), self.good.rsplit_once('.').unwrap().1);
        let mut all = vec![];
        for name in names {
            let header = self.header_with(&[("alg", json!(name))]);
            let message = format!("{}.{}", encode(&header), encode(&claims));
            all.extend([format!("{message}."), message.clone(), format!("{message}.{signature}")]);
            for secret in secrets {
                all.push(signed(&header, &claims, &EncodingKey::from_secret(secret), Algorithm::HS256));
            }
        }
        for odd in [json!(null), json!(0), json!(["EdDSA"]), json!({}), json!(true)] {
            all.push(self.of_own(&self.header_with(&[("alg", odd)]), &claims));
        }
        all
    }

    /// Key names, and headers that bring a key along.
    fn headers(&self) -> Vec<String> {
        let claims = self.claims.to_string();
        let kids = [
            json!(null),
            json!(""),
            json!(0),
            json!([]),
            json!({}),
            json!("../../../../dev/null"),
            json!("/proc/self/environ"),
            json!("' OR 1=1 --"),
            json!("'; DROP TABLE auth.users; --"),
            json!("key"),
            json!("\u{0}"),
            json!("k\u{0}ey"),
            json!(self.kid.to_lowercase()),
            json!(format!("{} ", self.kid)),
            json!(format!("{}\n", self.kid)),
            json!("http://thief.test/key"),
            json!("x".repeat(5_000)),
            json!("キー"),
            json!("*"),
            json!([self.kid]),
            json!("$(id)"),
            json!(&self.kid[1..]),
        ];
        let mut all: Vec<String> =
            kids.iter().map(|kid| self.by_thief(&self.header_with(&[("kid", kid.clone())]))).collect();
        // Signed by the right key, under a name that is none of the tenant's.
        all.extend(kids.iter().map(|kid| self.of_own(&self.header_with(&[("kid", kid.clone())]), &claims)));
        let thief = json!({ "kty": "OKP", "crv": "Ed25519", "x": encode([7; 32]) });
        for (name, value) in [
            ("jwk", thief.clone()),
            ("jku", json!("https://thief.test/jwks.json")),
            ("x5u", json!("https://thief.test/cert.pem")),
            ("x5c", json!([BASE64_STANDARD.encode("certificate")])),
            ("x5t", json!(encode([1; 20]))),
            ("x5t#S256", json!(encode([1; 32]))),
            ("kid", json!(self.kid)),
        ] {
            all.push(self.by_thief(&self.header_with(&[(name, value.clone())])));
            all.push(self.by_thief(&self.header_with(&[(name, value.clone()), ("kid", json!("thief"))])));
            all.push(signed(&self.header_with(&[(name, value)]), &claims, &self.foreign, Algorithm::EdDSA));
        }
        // What is critical and not understood, and other kinds of tokens, even under the right key.
        for crit in [json!(["exp"]), json!(["b64"]), json!(["thief"]), json!([])] {
            all.push(self.of_own(&self.header_with(&[("crit", crit.clone()), ("b64", json!(false))]), &claims));
        }
        for typ in ["JWE", "at+jwt", "logout+jwt", "secevent+jwt", "dpop+jwt", "JOSE", ""] {
            all.push(self.of_own(&self.header_with(&[("typ", json!(typ))]), &claims));
        }
        let twice = |name: &str, first: &str, second: &str| {
            let rest = with(&self.header, &[(name, Value::Null)]).replacen(&format!("\"{name}\":null"), "\"y\":0", 1);
            format!("{{\"{name}\":\"{first}\",\"{name}\":\"{second}\",{}", &rest[1..])
        };
        for (name, first, second) in [
            ("alg", "EdDSA", "none"),
            ("alg", "none", "EdDSA"),
            ("kid", "thief", self.kid.as_str()),
            ("kid", self.kid.as_str(), "thief"),
        ] {
            all.push(self.of_own(&twice(name, first, second), &claims));
        }
        all
    }

    /// Claims that are wrong under a good signature: another tenant's document, another program's mistake.
    fn claim_sets(&self) -> Vec<String> {
        let (header, now) = (self.header.to_string(), self.app.clock.now().as_second());
        let mut all = vec![];
        for name in ["iss", "aud", "sub", "sid", "tid", "exp", "nbf", "iat", "jti"] {
            let mut without = self.claims.clone();
            without.as_object_mut().unwrap().remove(name);
            all.push(self.of_own(&header, &without.to_string()));
            for odd in [
                json!(null),
                json!(true),
                json!([]),
                json!({}),
                json!([self.claims[name]]),
                json!({ "v": self.claims[name] }),
            ] {
                all.push(self.of_own(&header, &self.claims_with(&[(name, odd)])));
            }
        }
        for name in ["exp", "nbf", "iat"] {
            for odd in [json!(now.to_string()), json!(1.5), json!(1e300), json!(u64::MAX), json!("never")] {
                all.push(self.of_own(&header, &self.claims_with(&[(name, odd)])));
            }
        }
        let beta = self.app.tenant("beta");
        let nobody = json!("0192f0c1-7a00-7000-8000-000000000001");
        let wrong: &[(&str, Value)] = &[
            ("iss", json!("https://beta.test")),
            ("iss", json!("https://acme.test/")),
            ("iss", json!("http://acme.test")),
            ("iss", json!("https://acme.test.thief.test")),
            ("iss", json!("https://ACME.test@thief.test")),
            ("iss", json!("")),
            ("aud", json!("beta")),
            ("aud", json!("ACME")),
            ("aud", json!("acme ")),
            ("aud", json!("")),
            ("aud", json!("*")),
            ("tid", json!(beta.id)),
            ("tid", nobody.clone()),
            ("sub", nobody.clone()),
            ("sid", nobody),
            ("sub", self.bob["user"]["id"].clone()),
            ("exp", json!(0)),
            ("exp", json!(-1)),
            ("exp", json!(i64::MIN)),
            ("exp", json!(now - 31)),
            ("exp", json!(now - 30)),
            ("nbf", json!(now + 31)),
            ("nbf", json!(i64::MAX)),
            ("nbf", json!(now + 86_400)),
        ];
        all.extend(wrong.iter().map(|change| self.of_own(&header, &self.claims_with(std::slice::from_ref(change)))));
        let text = self.claims.to_string();
        for name in ["sub", "sid", "tid", "aud", "iss", "exp", "userId", "email"] {
            let second = if name == "exp" { json!(now + 1_000_000) } else { self.bob["user"]["id"].clone() };
            // Twice the same name: whoever reads the first and whoever reads the last would see two tokens.
            all.push(self.of_own(&header, &format!("{},\"{name}\":{second}}}", &text[..text.len() - 1])));
            all.push(self.of_own(&header, &format!("{{\"{name}\":{second},{}", &text[1..])));
        }
        for key in [&self.foreign, &self.thief] {
            all.push(signed(&header, &text, key, Algorithm::EdDSA));
            all.push(signed(&header, &self.claims_with(&[("role", json!("ADMIN"))]), key, Algorithm::EdDSA));
        }
        all
    }

    /// Bodies and shapes that are no access token.
    fn shapes(&self) -> Vec<String> {
        let (header, claims) = (self.header.to_string(), self.claims.to_string());
        let [h, p, s]: [&str; 3] = self.good.split('.').collect::<Vec<_>>().try_into().unwrap();
        let mut all: Vec<String> = ["", "null", "[]", "0", "\"text\"", "{}", "{", "\u{feff}{}", "true"]
            .iter()
            .map(|payload| self.of_own(&header, payload))
            .collect();
        all.extend([
            self.of_own(&header, &format!("[{claims}]")),
            self.of_own(&header, &format!("{claims}{claims}")),
            self.of_own(&header, &format!("{claims} x")),
            self.of_own(&header, &format!("\u{feff}{claims}")),
            self.of_own(&header, &self.good),
            self.of_own(&header, &json!(self.good).to_string()),
            self.of_own(&header, &format!("{}{}", "[".repeat(2_000), "]".repeat(2_000))),
            self.of_own(&header, &self.claims_with(&[("x", json!("x".repeat(10_000)))])),
            self.of_own(
                &self.header_with(&[("cty", json!("JWT")), ("enc", json!("A256GCM")), ("crit", json!(["enc"]))]),
                &self.good,
            ),
            self.of_own(&format!("[{header}]"), &claims),
            self.of_own("null", &claims),
            self.of_own("{", &claims),
        ]);
        for parts in [
            vec![],
            vec![h],
            vec![h, p],
            vec![h, p, ""],
            vec![h, "", s],
            vec!["", p, s],
            vec!["", "", ""],
            vec![h, p, s, s],
            vec![h, p, s, ""],
            vec!["", h, p, s],
            vec![h, p, p, s, s],
            vec![p, h, s],
            vec![s, p, h],
            vec![h, h, s],
            vec![h, s, p],
        ] {
            all.push(parts.join("."));
        }
        let bare = |n: usize| format!("{h}.{p}.{}", "A".repeat(n));
        all.extend([0, 1, 43, 85, 86, 87, 88, 128].map(bare));
        all.extend([
            "x".repeat(8_000),
            "x".repeat(9_000),
            "x".repeat(60_000),
            ".".repeat(9_000),
            "a.".repeat(4_000),
            format!("{}.{p}.{s}", "A".repeat(8_000)),
        ]);
        for (from, to) in
            [(".", ". "), (".", " ."), (".", "\t."), (".", ".."), (".", "%2e"), (".", "。"), ("e", "%65"), ("e", "E")]
        {
            all.push(self.good.replacen(from, to, 1));
        }
        for padded in ["=", "==", "%3D"] {
            all.extend([
                format!("{h}{padded}.{p}.{s}"),
                format!("{h}.{p}{padded}.{s}"),
                format!("{h}.{p}.{s}{padded}"),
            ]);
        }
        all.extend([
            format!("Bearer {}", self.good),
            format!("\"{}\"", self.good),
            format!("{},{}", self.good, self.good),
            format!("{0} {0}", self.good),
        ]);
        all
    }

    /// What is done to a signature.
    fn signatures(&self) -> Vec<String> {
        let (message, signature) = self.good.rsplit_once('.').unwrap();
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
        let mut forged: Vec<Vec<u8>> = (0..64).map(|length| bytes[..length].to_vec()).collect();
        let (r, s) = bytes.split_at(32);
        forged.extend([
            vec![0; 64],
            vec![255; 64],
            [s, r].concat(),
            [r, r].concat(),
            [s, s].concat(),
            [bytes.as_slice(), &[0]].concat(),
        ]);
        forged.extend([
            [r, &[0; 32]].concat(),
            [&[0; 32], s].concat(),
            [&[1], &[0; 31][..], s].concat(),
            bytes.iter().rev().copied().collect(),
        ]);
        // The same point by S + L: one signature must have one form.
        let order = hex::decode("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010").unwrap();
        let mut carry = 0_u16;
        let sum: Vec<u8> = s
            .iter()
            .zip(&order)
            .map(|(a, b)| {
                let n = u16::from(*a) + u16::from(*b) + carry;
                carry = n >> 8;
                n.to_le_bytes()[0]
            })
            .collect();
        forged.push([r, &sum].concat());
        let bob = self.bob["accessToken"].as_str().unwrap();
        let mut all: Vec<String> = forged.iter().map(|bytes| format!("{message}.{}", encode(bytes))).collect();
        // Halves of two good tokens, both of which are remembered as checked.
        all.push(format!("{message}.{}", bob.rsplit_once('.').unwrap().1));
        all.push(format!("{}.{signature}", bob.rsplit_once('.').unwrap().0));
        all
    }
}

fn with(object: &Value, changes: &[(&str, Value)]) -> String {
    let mut object = object.clone();
    for (name, value) in changes {
        object[*name] = value.clone();
    }
    object.to_string()
}

#[tokio::test]
async fn no_hostile_token_counts_and_none_deceives_the_memory_of_good_ones() {
    let forge = Forge::new().await;
    let bob = forge.bob["accessToken"].as_str().unwrap();
    // Both are remembered as checked, and what resembles them must not profit.
    assert_eq!(forge.comes_in(&forge.good).await.as_deref(), Some("ada@acme.test"));
    assert_eq!(forge.comes_in(bob).await.as_deref(), Some("bob@acme.test"));
    // The forge itself is good: what it makes of the right parts counts.
    let remade = forge.of_own(&forge.header.to_string(), &forge.claims.to_string());
    assert_eq!(forge.comes_in(&remade).await.as_deref(), Some("ada@acme.test"));

    let mut corpus =
        [forge.algorithms(), forge.headers(), forge.claim_sets(), forge.shapes(), forge.signatures()].concat();
    corpus.sort();
    corpus.dedup();
    assert!(corpus.len() >= 600, "{}", corpus.len());
    let mut came_in = vec![];
    for token in &corpus {
        for again in [false, true] {
            if forge.status(token.as_bytes()).await != StatusCode::UNAUTHORIZED {
                came_in.push((again, token.chars().take(300).collect::<String>()));
            }
        }
    }
    println!("{} hostile tokens, twice each", corpus.len());
    assert!(came_in.is_empty(), "{came_in:#?}");
    // A good token of one tenant is none at another, though it is remembered.
    let elsewhere = forge.app.get(ME).host("beta.test").bearer(&forge.good).send().await;
    assert_eq!(elsewhere.status, StatusCode::UNAUTHORIZED);
    assert_eq!(forge.comes_in(&forge.good).await.as_deref(), Some("ada@acme.test"));
    assert_eq!(forge.comes_in(bob).await.as_deref(), Some("bob@acme.test"));
}

#[tokio::test]
async fn no_bit_of_a_good_token_can_be_flipped() {
    let forge = Forge::new().await;
    let mut flips = 0;
    let mut secret = forge.app.tenant("acme");
    for shared_secret in [false, true] {
        let good = if shared_secret {
            let text = Secret::new("a shared secret of more than 32 bytes");
            secret.auth.signing_keys[0].algorithm = SigningAlgorithm::HS256;
            secret.auth.signing_keys[0].key = forge.app.key.seal(secret.id, "auth/signingKeys/key", &text).unwrap();
            forge.app.serve(&secret);
            forge.app.register("carl@acme.test").await["accessToken"].as_str().unwrap().to_owned()
        } else {
            forge.good.clone()
        };
        assert_eq!(forge.status(good.as_bytes()).await, StatusCode::OK);
        for at in 0..good.len() {
            let flipped = (0..8).map(|bit| {
                let mut token = good.clone().into_bytes();
                token[at] ^= 1 << bit;
                token
            });
            let flipped: Vec<_> = flipped.collect();
            for (bit, status) in join_all(flipped.iter().map(|token| forge.status(token))).await.into_iter().enumerate()
            {
                assert_eq!(status, StatusCode::UNAUTHORIZED, "byte {at}, bit {bit} of {good}");
                flips += 1;
            }
        }
        assert_eq!(forge.status(good.as_bytes()).await, StatusCode::OK);
    }
    println!("{flips} bit flips");
}
