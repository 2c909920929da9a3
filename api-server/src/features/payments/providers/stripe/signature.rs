//! `Stripe-Signature`: who sent a webhook, and when.
//!
//! `t=<unix>,v1=<hex>[,v1=<hex>…]`, each `v1` an HMAC-SHA256 over `<t>.<raw body>` with the whole signing secret, `whsec_`
//! included, as its key. While a secret is rolled several are sent, and one that matches is enough. Every other scheme is
//! ignored: `v0` is Stripe's own for tests, and to take it would be a downgrade.

use contract::Secret;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::Sha256;

/// Why a webhook is not believed. In the order in which Stripe's own libraries look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    #[error("the header Stripe-Signature is missing or not of the form t=<unix time>,v1=<hex>")]
    Malformed,
    #[error("the header Stripe-Signature has no signature of scheme v1")]
    NoSignature,
    #[error("no signature of the header Stripe-Signature matches the body: check the endpoint's signing secret")]
    Mismatch,
    #[error("the time of the header Stripe-Signature is too far from ours")]
    OutsideTolerance,
}

/// Whether one of `secrets` signed `body` within `tolerance_seconds` of `now`, before or after; 0 takes any time.
pub fn verify(
    header: &str,
    body: &[u8],
    secrets: &[&Secret],
    tolerance_seconds: u32,
    now: Timestamp,
) -> Result<(), SignatureError> {
    let items = || header.split(',').filter_map(|item| item.split_once('='));
    let (_, time) = items().find(|(scheme, _)| *scheme == "t").ok_or(SignatureError::Malformed)?;
    let signed_at: i64 = time.parse().map_err(|_| SignatureError::Malformed)?;
    let signatures: Vec<&str> = items().filter(|(scheme, _)| *scheme == "v1").map(|(_, hex)| hex).collect();
    if signatures.is_empty() {
        return Err(SignatureError::NoSignature);
    }
    let candidates = signatures.iter().filter_map(|signature| hex::decode(signature).ok());
    let matches = |signature: Vec<u8>| {
        secrets.iter().any(|secret| {
            // An HMAC takes a key of any length.
            Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()).is_ok_and(|mac| {
                mac.chain_update(time).chain_update(b".").chain_update(body).verify_slice(&signature).is_ok()
            })
        })
    };
    if !candidates.into_iter().any(matches) {
        return Err(SignatureError::Mismatch);
    }
    if tolerance_seconds > 0 && now.as_second().abs_diff(signed_at) > u64::from(tolerance_seconds) {
        return Err(SignatureError::OutsideTolerance);
    }
    Ok(())
}

/// Signs as Stripe does.
#[cfg(test)]
#[expect(clippy::missing_panics_doc, reason = "for tests")]
pub fn sign(body: &[u8], secret: &str, at: Timestamp) -> String {
    let time = at.as_second();
    let digest = Hmac::<Sha256>::new_from_slice(secret.as_bytes())
        .unwrap()
        .chain_update(time.to_string())
        .chain_update(b".")
        .chain_update(body)
        .finalize()
        .into_bytes();
    format!("t={time},v1={}", hex::encode(digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The body that Stripe's Python library is tested with.
    const DUMMY: &[u8] = b"{\n  \"id\": \"evt_test_webhook\",\n  \"object\": \"event\",\n  \"data\": { \"object\": { \"id\": \"rdr_123\", \"object\": \"terminal.reader\" } }\n}";
    const DUMMY_V1: &str = "3bfab77baf5f7b6991a46c9b53b6547d7afc56148b10468fcad9f35c1992ffbd";
    const SHORT: &[u8] = br#"{"id":"evt_1","object":"event","type":"payment_intent.succeeded"}"#;
    const SHORT_V1: &str = "67da5088c63e080c71bd2bb0cb5c03d85a8fc6a21ce3aaf484df809654745b92";
    const SIGNED_AT: i64 = 1_700_000_000;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn check(header: &str, body: &[u8], secrets: &[&str], now: i64) -> Result<(), SignatureError> {
        let secrets: Vec<Secret> = secrets.iter().map(|secret| Secret::new(*secret)).collect();
        let secrets: Vec<&Secret> = secrets.iter().collect();
        verify(header, body, &secrets, 300, at(now))
    }

    #[test]
    fn the_vectors_are_accepted() {
        assert_eq!(DUMMY.len(), 125);
        for (body, v1) in [(DUMMY, DUMMY_V1), (SHORT, SHORT_V1)] {
            let header = format!("t={SIGNED_AT},v1={v1}");
            assert_eq!(check(&header, body, &["whsec_test_secret"], SIGNED_AT), Ok(()));
            assert_eq!(sign(body, "whsec_test_secret", at(SIGNED_AT)), header);
        }
    }

    #[test]
    fn any_of_several_signatures_and_secrets_is_enough() {
        let header = format!("t={SIGNED_AT},v0=abc,v1=bad_signature,v1={SHORT_V1},v2=zz");
        assert_eq!(check(&header, SHORT, &["whsec_new", "whsec_test_secret"], SIGNED_AT + 300), Ok(()));
        assert_eq!(check(&header, SHORT, &["whsec_new"], SIGNED_AT), Err(SignatureError::Mismatch));
        assert_eq!(check(&header, SHORT, &[], SIGNED_AT), Err(SignatureError::Mismatch));
    }

    #[test]
    fn what_stripe_refuses_is_refused_for_the_same_reason() {
        let (good, secret) = (format!("t={SIGNED_AT},v1={DUMMY_V1}"), ["whsec_test_secret"]);
        for (header, now, error) in [
            ("", SIGNED_AT, SignatureError::Malformed),
            ("bad_header", SIGNED_AT, SignatureError::Malformed),
            ("i'm not even a real signature header", SIGNED_AT, SignatureError::Malformed),
            (&good.replace("t=1700000000", "t=soon"), SIGNED_AT, SignatureError::Malformed),
            (&good.replace("v1=", "v0="), SIGNED_AT, SignatureError::NoSignature),
            (&format!("t={SIGNED_AT},v1=bad_signature"), SIGNED_AT, SignatureError::Mismatch),
            (&good.replace("t=1700000000", "t=1700000001"), SIGNED_AT, SignatureError::Mismatch),
            (&good, SIGNED_AT + 301, SignatureError::OutsideTolerance),
            (&good, SIGNED_AT - 301, SignatureError::OutsideTolerance),
        ] {
            assert_eq!(check(header, DUMMY, &secret, now), Err(error), "{header:?} at {now}");
        }
    }

    #[test]
    fn no_flipped_bit_of_the_body_is_accepted() {
        let header = format!("t={SIGNED_AT},v1={DUMMY_V1}");
        for bit in 0..DUMMY.len() * 8 {
            let mut body = DUMMY.to_vec();
            body[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                check(&header, &body, &["whsec_test_secret"], SIGNED_AT),
                Err(SignatureError::Mismatch),
                "bit {bit}"
            );
        }
    }
}
