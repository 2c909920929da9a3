//! What the API's pods are told of the mail server.

use k8s_openapi::api::core::v1::{
    EnvVar, EnvVarSource, KeyToPath, SecretKeySelector, SecretVolumeSource, Volume, VolumeMount,
};

use super::{super::validate::ValidatedPlatform, workload};

const CA_DIR: &str = "/etc/tenantry/smtp";

/// Variables that are no secret.
pub fn settings(validated: &ValidatedPlatform) -> Vec<(String, String)> {
    let Some(server) = &validated.mail else { return Vec::new() };
    let smtp = &server.smtp;
    let mut settings = vec![
        ("TENANTRY_SMTP_HOST", smtp.host.clone()),
        ("TENANTRY_SMTP_PORT", smtp.port.to_string()),
        ("TENANTRY_MAIL_FROM", smtp.from.clone()),
    ];
    settings.extend(smtp.tls.map(|tls| ("TENANTRY_SMTP_TLS", tls.as_str().to_owned())));
    settings.extend(server.ca.then(|| ("TENANTRY_SMTP_CA_FILE", format!("{CA_DIR}/ca.crt"))));
    settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Variables from the Secret. Optional: without them pods run, and mails wait until the server lets them in.
pub fn env(validated: &ValidatedPlatform) -> Vec<EnvVar> {
    let Some(name) = secret(validated) else { return Vec::new() };
    let variable = |(variable, key): (&str, &str)| EnvVar {
        name: variable.into(),
        value: None,
        value_from: Some(EnvVarSource {
            secret_key_ref: Some(SecretKeySelector { name: name.into(), key: key.into(), optional: Some(true) }),
            ..EnvVarSource::default()
        }),
    };
    [("TENANTRY_SMTP_USERNAME", "username"), ("TENANTRY_SMTP_PASSWORD", "password")].map(variable).into()
}

/// The certificate authority of the server, where the Secret brings one.
pub fn volume(validated: &ValidatedPlatform) -> Option<Volume> {
    let name = with_ca(validated)?;
    Some(Volume {
        name: "smtp-ca".into(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(name.into()),
            items: Some(vec![KeyToPath { key: "ca".into(), path: "ca.crt".into(), mode: None }]),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    })
}

pub fn mount(validated: &ValidatedPlatform) -> Option<VolumeMount> {
    with_ca(validated)?;
    Some(VolumeMount { read_only: Some(true), ..workload::mount("smtp-ca", CA_DIR) })
}

fn with_ca(validated: &ValidatedPlatform) -> Option<&str> {
    validated.mail.as_ref().filter(|server| server.ca)?;
    secret(validated)
}

fn secret(validated: &ValidatedPlatform) -> Option<&str> {
    let reference = validated.mail.as_ref()?.smtp.secret_ref.as_ref()?;
    Some(reference.name.as_str())
}
