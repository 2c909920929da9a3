//! Time-based codes (RFC 6238): SHA-1, six digits, 30 seconds, one step early or late. Authenticator apps know nothing else
//! for sure.

use contract::{
    Secret, TenantId,
    seal::{SealError, Sealed, SealingKey},
};
use jiff::Timestamp;
use totp_rs::{Builder, Totp};

use super::model::FactorsError;
use crate::extract::UserId;

/// An app's secret: 20 random bytes, as base32.
pub fn random() -> Secret {
    Secret::new(totp_rs::Secret::from(rand::random::<[u8; 20]>()).to_base32())
}

/// The secret for the database: it opens for this user of this tenant only.
pub fn seal(key: &SealingKey, tenant: TenantId, user: UserId, secret: &Secret) -> Result<String, SealError> {
    key.seal(tenant, &field(user), secret).map(|sealed| sealed.as_str().to_owned())
}

pub fn open(key: &SealingKey, tenant: TenantId, user: UserId, sealed: String) -> Result<Secret, SealError> {
    key.open(tenant, &field(user), &Sealed::from(sealed))
}

fn field(user: UserId) -> String {
    format!("users/{user}/totp")
}

/// The step whose code this is, of the current one and its two neighbours.
pub fn step_of(secret: &Secret, code: &str, now: Timestamp) -> Result<Option<i64>, FactorsError> {
    let digits: String = code.chars().filter(|c| !c.is_whitespace()).take(16).collect();
    let now = u64::try_from(now.as_second()).unwrap_or_default();
    let step = authenticator(secret, "", "")?.check(&digits, now);
    Ok(step.and_then(|step| i64::try_from(step).ok()))
}

/// What an app is told: the secret as a URL, and that as a PNG in a `data:` URL.
pub fn invitation(secret: &Secret, issuer: &str, account: &str) -> Result<(String, String), FactorsError> {
    let totp = authenticator(secret, issuer, account)?;
    let failed = |error: totp_rs::TotpError| FactorsError::Totp(error.to_string());
    let picture = format!("data:image/png;base64,{}", totp.to_qr_base64().map_err(failed)?);
    Ok((totp.to_url().map_err(failed)?, picture))
}

fn authenticator(secret: &Secret, issuer: &str, account: &str) -> Result<Totp, FactorsError> {
    // A colon divides the two in the URL.
    let (issuer, account) = (issuer.replace(':', " "), account.replace(':', " "));
    let bytes = totp_rs::Secret::try_from_base32(secret.expose())
        .map_err(|_| FactorsError::Totp("the secret is not base32".into()))?;
    let issuer = (!issuer.trim().is_empty()).then_some(issuer);
    let builder = Builder::new().with_secret(bytes).with_issuer(issuer).with_account_name(account);
    builder.build().map_err(|error| FactorsError::Totp(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6238, appendix B, SHA-1; the last six of its eight digits.
    #[test]
    fn the_codes_are_those_of_the_standard() {
        let secret = Secret::new(totp_rs::Secret::from(*b"12345678901234567890").to_base32());
        for (seconds, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            let now = Timestamp::from_second(seconds).unwrap();
            assert_eq!(step_of(&secret, code, now).unwrap(), Some(seconds / 30), "{seconds}");
            assert_eq!(step_of(&secret, &format!(" {} {}", &code[..3], &code[3..]), now).unwrap(), Some(seconds / 30));
            for wrong in ["", "1", "0287082", "28708", "28708x", "+87082", "²87082"] {
                assert_eq!(step_of(&secret, wrong, now).unwrap(), None, "{wrong}");
            }
        }
    }

    #[test]
    fn a_code_counts_one_step_early_and_late_and_no_further() {
        let secret = Secret::new(totp_rs::Secret::from(*b"12345678901234567890").to_base32());
        // 005924 is the code of the seconds 1234567890 to 1234567919.
        let at = |seconds| step_of(&secret, "005924", Timestamp::from_second(seconds).unwrap()).unwrap();
        assert_eq!(at(1_234_567_890 - 31), None);
        for within in [1_234_567_890 - 30, 1_234_567_890, 1_234_567_919, 1_234_567_949] {
            assert_eq!(at(within), Some(1_234_567_890 / 30), "{within}");
        }
        assert_eq!(at(1_234_567_950), None);
    }

    #[test]
    fn an_app_is_told_whose_code_it_shows() {
        let secret = random();
        let (url, picture) = invitation(&secret, "Acme: Pay", "ada@acme.test").unwrap();
        let url = url::Url::parse(&url).unwrap();
        assert_eq!((url.scheme(), url.host_str()), ("otpauth", Some("totp")));
        let query: std::collections::HashMap<_, _> = url.query_pairs().collect();
        assert_eq!((&*query["secret"], &*query["issuer"]), (secret.expose(), "Acme  Pay"));
        assert_eq!(secret.expose().len(), 32);
        assert!(picture.starts_with("data:image/png;base64,iVBORw0KGgo"), "{}", &picture[..40]);
    }

    #[test]
    fn a_secret_opens_for_its_own_user_and_tenant_only() {
        let key = SealingKey::new(&[1; 32]).unwrap();
        let (acme, other) = (TenantId::derive("t", "acme"), TenantId::derive("t", "other"));
        let (ada, bob) = (UserId(uuid::Uuid::now_v7()), UserId(uuid::Uuid::now_v7()));
        let secret = random();
        let sealed = seal(&key, acme, ada, &secret).unwrap();
        assert!(!sealed.contains(secret.expose()));
        assert_eq!(open(&key, acme, ada, sealed.clone()).unwrap(), secret);
        assert!(open(&key, acme, bob, sealed.clone()).is_err());
        assert!(open(&key, other, ada, sealed).is_err());
    }
}
