//! A letter in words: HTML and text, in the tenant's name.
//!
//! Whatever is put into HTML is escaped by the template engine; subject, names and addresses become headers through lettre,
//! which encodes what is not plain, and are of one line before.

use std::sync::LazyLock;

use contract::Secret;
use jiff::Timestamp;
use lettre::{
    Address, Message,
    message::{
        Mailbox, MultiPart,
        header::{HeaderName, HeaderValue},
    },
};
use minijinja::{Environment, UndefinedBehavior, Value, context};
use uuid::Uuid;

use super::{
    letter::{Letter, Place},
    model::Content,
};
use crate::tenancy::TenantSnapshot;

/// Why a mail has no words. It never will: the mail is given up.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    #[error("the address {0:?} is not one that mail can be sent to")]
    Address(String),
    #[error("the template: {0}")]
    Template(#[from] minijinja::Error),
    #[error("the mail: {0}")]
    Mail(#[from] lettre::error::Error),
    #[error("a request is no letter")]
    Wish,
}

macro_rules! templates {
    ($($name:literal)*) => {
        &[$(($name, include_str!(concat!("templates/", $name)))),*]
    };
}

const TEMPLATES: &[(&str, &str)] = templates![
    "layout.html" "layout.txt" "macros.html"
    "welcome.html" "welcome.txt"
    "invitation.html" "invitation.txt"
    "reset-password.html" "reset-password.txt"
    "verify-email.html" "verify-email.txt"
    "leave-address.html" "leave-address.txt"
    "take-address.html" "take-address.txt"
    "email-changed.html" "email-changed.txt"
    "password-changed.html" "password-changed.txt"
    "account-locked.html" "account-locked.txt"
    "token-reused.html" "token-reused.txt"
    "new-sign-in.html" "new-sign-in.txt"
];

static ENGINE: LazyLock<Result<Environment<'static>, minijinja::Error>> = LazyLock::new(|| {
    let mut engine = Environment::new();
    // A name that is missing is a mistake in a template, which a test finds, and never an empty place in a mail.
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    for (name, source) in TEMPLATES {
        engine.add_template(name, source)?;
    }
    Ok(engine)
});

/// Everything about a mail that does not come from its letter.
pub struct Envelope<'a> {
    pub tenant: &'a TenantSnapshot,
    pub id: Uuid,
    pub to: &'a str,
    pub created_at: Timestamp,
    /// Of tenants that name no sender.
    pub from: &'a Mailbox,
}

pub fn render(envelope: &Envelope<'_>, content: &Content) -> Result<Message, RenderError> {
    let Envelope { tenant, id, to, created_at, from } = envelope;
    let product = product(tenant);
    let address: Address = to.parse().map_err(|_| RenderError::Address((*to).to_owned()))?;
    let (subject, words) = words(tenant, &content.letter)?;
    let values = context! { product => &product, name => greeting(content.name.as_deref()), address => *to, home => home(tenant), ..words };
    let (html, text) = bodies(content.letter.kind(), &values)?;
    let from = sender(tenant, &product, from);
    let message_id = format!("<{id}@{}>", from.email.domain());
    let mail = Message::builder()
        .from(from)
        .to(Mailbox::new(content.name.as_deref().and_then(|name| greeting(Some(name))), address))
        .subject(one_line(&subject.replace("{product}", &product)))
        .message_id(Some(message_id))
        .date((*created_at).into())
        // RFC 3834: no out-of-office answers to a machine.
        .raw_header(HeaderValue::new(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".to_owned()))
        .multipart(MultiPart::alternative_plain_html(text, html))?;
    Ok(mail)
}

fn bodies(kind: &str, values: &Value) -> Result<(String, String), minijinja::Error> {
    let engine = ENGINE.as_ref().map_err(|error| minijinja::Error::new(error.kind(), error.to_string()))?;
    let body = |ending: &str| engine.get_template(&format!("{kind}.{ending}"))?.render(values.clone());
    Ok((body("html")?, body("txt")?))
}

/// The subject, and what the template is told.
fn words(tenant: &TenantSnapshot, letter: &Letter) -> Result<(&'static str, Value), RenderError> {
    let link = |path: &str, token: &Secret| format!("{}/{path}?token={}", home(tenant), token.expose());
    Ok(match letter {
        Letter::Wish { .. } => return Err(RenderError::Wish),
        Letter::Welcome => ("Welcome to {product}", context! {}),
        // The page that sets a password anew sets the first one too; one that has other words for it finds out by the query.
        Letter::Invitation { token } => (
            "You have an account at {product}",
            context! { link => format!("{}&invitation=true", link("reset-password", token)) },
        ),
        Letter::ResetPassword { token } => {
            ("Reset your {product} password", context! { link => link("reset-password", token) })
        }
        Letter::VerifyEmail { token, code } => (
            "Verify your e-mail address for {product}",
            context! { link => link("verify-email", token), code => code.expose() },
        ),
        Letter::LeaveAddress { token, new } => (
            "Your {product} account is to have another e-mail address",
            context! { link => link("confirm-email", token), new },
        ),
        Letter::TakeAddress { token } => {
            ("Confirm your new e-mail address for {product}", context! { link => link("confirm-email", token) })
        }
        Letter::EmailChanged { new } => ("Your {product} e-mail address was changed", context! { new }),
        Letter::PasswordChanged { place } => ("Your {product} password was changed", at(place)),
        Letter::AccountLocked { token } => {
            ("Sign-in to your {product} account is delayed", context! { link => link("unlock", token) })
        }
        Letter::TokenReused { place } => ("A session of your {product} account was ended", at(place)),
        Letter::NewSignIn { place } => ("New sign-in to your {product} account", at(place)),
    })
}

fn at(place: &Place) -> Value {
    let Place { ip, user_agent, at } = place;
    let time = at.strftime("%d %B %Y, %H:%M UTC").to_string();
    context! { ip, device => user_agent.as_deref().unwrap_or("unknown"), time }
}

/// What the tenant calls itself.
fn product(tenant: &TenantSnapshot) -> String {
    let named = tenant.branding.product_name.as_deref().map(one_line).filter(|name| !name.is_empty());
    named.unwrap_or_else(|| tenant.name.to_string())
}

/// Where links lead: the tenant's frontend, or else its API's own host.
fn home(tenant: &TenantSnapshot) -> String {
    let host = || tenant.hostnames.first().map(|host| format!("https://{host}"));
    let url = tenant.branding.frontend_url.clone().or_else(host).unwrap_or_default();
    url.trim_end_matches('/').to_owned()
}

/// The tenant's sender, or else the platform's address in the tenant's name.
fn sender(tenant: &TenantSnapshot, product: &str, platform: &Mailbox) -> Mailbox {
    let own = tenant.branding.mail_from.as_deref().map(str::parse::<Mailbox>);
    match own {
        Some(Ok(own)) => own,
        other => {
            if let Some(Err(error)) = other {
                tracing::warn!(tenant = %tenant.name, %error, "branding.mailFrom is no sender: the platform's is used");
            }
            Mailbox::new(Some(product.to_owned()), platform.email.clone())
        }
    }
}

/// How to greet somebody, or `None` where the name is more than a name: whoever registers chooses it, for an address that
/// may be anybody's, and it must not carry their message or their link into that mailbox.
fn greeting(name: Option<&str>) -> Option<String> {
    let name = one_line(name?);
    let plain = |c: char| c.is_alphabetic() || matches!(c, ' ' | '-' | '\'' | '’');
    (!name.is_empty() && name.chars().count() <= 40 && name.chars().all(plain)).then_some(name)
}

fn one_line(text: &str) -> String {
    let spaced: String = text.chars().map(|c| if c.is_control() || c.is_whitespace() { ' ' } else { c }).collect();
    spaced.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}
