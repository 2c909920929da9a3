//! What mails look like.

use contract::Secret;
use uuid::Uuid;

use super::super::{
    letter::{Letter, Place},
    model::Content,
    render::{Envelope, render},
};
use crate::testing::TestApp;

fn all() -> Vec<Letter> {
    let token = || Secret::new("T0ken-_");
    let place = || Place {
        ip: "192.0.2.7".into(),
        user_agent: Some("Mozilla/5.0 <script>".into()),
        at: "2026-03-01T12:00:00Z".parse().unwrap(),
    };
    vec![
        Letter::Welcome,
        Letter::Invitation { token: token() },
        Letter::ResetPassword { token: token() },
        Letter::VerifyEmail { token: token(), code: Secret::new("042137") },
        Letter::LeaveAddress { token: token(), new: "new@acme.test".into() },
        Letter::TakeAddress { token: token() },
        Letter::EmailChanged { new: "new@acme.test".into() },
        Letter::PasswordChanged { place: place() },
        Letter::AccountLocked { token: token() },
        Letter::TokenReused { place: place() },
        Letter::NewSignIn { place: place() },
    ]
}

struct Mailed {
    headers: String,
    text: String,
    html: String,
}

/// Renders for acme as branded here; headers as they are sent, bodies decoded.
fn mailed(app: &TestApp, name: &str, letter: Letter, brand: impl FnOnce(&mut contract::tenant::Branding)) -> Mailed {
    let mut acme = app.tenant("acme");
    brand(&mut acme.branding);
    app.serve(&acme);
    let tenant = app.app.tenants.by_name("acme").unwrap();
    let envelope = Envelope {
        tenant: &tenant,
        id: Uuid::nil(),
        to: "ada@acme.test",
        created_at: app.clock.now(),
        from: &"Platform <no-reply@platform.test>".parse().unwrap(),
    };
    let mail = render(&envelope, &Content { name: Some(name.into()), letter }).unwrap();
    let whole = String::from_utf8(mail.formatted()).unwrap();
    let (headers, body) = whole.split_once("\r\n\r\n").unwrap();
    let boundary = headers.split("boundary=\"").nth(1).unwrap().split('"').next().unwrap();
    let ends = |part| decoded(part, &format!("\r\n--{boundary}"));
    let parts: Vec<_> = body.split("Content-Transfer-Encoding: ").skip(1).map(ends).collect();
    Mailed { headers: headers.to_owned(), text: parts[0].clone(), html: parts[1].clone() }
}

fn decoded(part: &str, end: &str) -> String {
    let (encoding, body) = part.split_once("\r\n\r\n").unwrap();
    let body = body.split(end).next().unwrap();
    match encoding.trim() {
        "quoted-printable" => {
            let joined = body.replace("=\r\n", "");
            let mut bytes = vec![];
            let mut rest = joined.bytes();
            while let Some(byte) = rest.next() {
                if byte == b'=' {
                    let hex: Vec<u8> = rest.by_ref().take(2).collect();
                    bytes.push(u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap());
                } else {
                    bytes.push(byte);
                }
            }
            String::from_utf8(bytes).unwrap().replace("\r\n", "\n")
        }
        "7bit" => body.replace("\r\n", "\n"),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn every_letter_has_its_words_in_html_and_text() {
    let app = TestApp::empty().await;
    for letter in all() {
        let kind = letter.kind();
        let mail = mailed(&app, "Ada Lovelace", letter, |branding| {
            branding.product_name = Some("Acme & Söhne".into());
            branding.frontend_url = Some("https://app.acme.test/".into());
        });
        insta::with_settings!({ snapshot_path => "snapshots" }, {
            insta::assert_snapshot!(format!("{kind}.txt"), mail.text);
            insta::assert_snapshot!(format!("{kind}.html"), mail.html);
        });
        assert!(mail.html.contains("Acme &amp; Söhne") && !mail.html.contains("<script>"), "{kind}: {}", mail.html);
        assert!(!mail.text.contains("&amp;"), "{kind}: {}", mail.text);
        assert!(mail.headers.contains("Message-ID: <00000000-0000-0000-0000-000000000000@platform.test>"));
        assert!(mail.headers.contains("Auto-Submitted: auto-generated"), "{}", mail.headers);
    }
}

#[tokio::test]
async fn a_link_leads_to_the_tenants_frontend_and_else_to_its_own_host() {
    let app = TestApp::empty().await;
    let reset = || Letter::ResetPassword { token: Secret::new("T0ken") };
    let branded = mailed(&app, "Ada", reset(), |branding| {
        branding.frontend_url = Some("https://app.acme.test/".into());
    });
    assert!(branded.text.contains("https://app.acme.test/reset-password?token=T0ken\n"));
    let plain = mailed(&app, "Ada", reset(), |_| {});
    assert!(plain.text.contains("https://acme.test/reset-password?token=T0ken\n"), "{}", plain.text);
    assert!(plain.headers.contains("From: acme <no-reply@platform.test>"), "{}", plain.headers);
    let own = mailed(&app, "Ada", reset(), |branding| branding.mail_from = Some("Acme <hi@acme.example>".into()));
    assert!(own.headers.contains("From: Acme <hi@acme.example>"), "{}", own.headers);
    assert!(own.headers.contains("@acme.example>"), "{}", own.headers);
}

#[tokio::test]
async fn nobody_writes_headers_or_their_own_message_by_a_name() {
    let app = TestApp::empty().await;
    for hostile in [
        "Ada\r\nBcc: everybody@evil.test",
        "Ada\nSubject: Win",
        "Win at evil.test/now",
        "https://evil.test",
        "<b>Ada</b>",
        "\"Ada\" <x@evil.test>",
        "You have won a very great prize and must call this number",
    ] {
        let mail = mailed(&app, hostile, Letter::Welcome, |branding| {
            branding.product_name = Some("Acme\r\nBcc: everybody@evil.test".into());
        });
        let names: Vec<_> = mail.headers.lines().filter_map(|line| line.split(": ").next()).collect();
        assert!(!names.contains(&"Bcc"), "{}", mail.headers);
        assert_eq!(names.iter().filter(|name| **name == "Subject").count(), 1, "{}", mail.headers);
        let to = mail.headers.lines().find(|line| line.starts_with("To: ")).unwrap();
        assert_eq!(to, "To: ada@acme.test", "{hostile:?}");
        for evil in ["evil.test/", "https://evil", "<b>", "prize"] {
            assert!(!mail.text.contains(evil) && !mail.html.contains(evil), "{hostile:?}: {}", mail.text);
        }
    }
    let plain = mailed(&app, "Zoë O’Neil-Łuk", Letter::Welcome, |_| {});
    assert!(plain.text.starts_with("Hello Zoë O’Neil-Łuk,"), "{}", plain.text);
}

#[tokio::test]
async fn an_address_that_is_none_for_mail_is_an_error_and_no_panic() {
    let app = TestApp::new().await;
    let tenant = app.app.tenants.by_name("acme").unwrap();
    for to in ["a@-.-", "a..b@c.d", "\"@x.y", "a,b@c.de", "a@b.c\r\nRCPT TO:<x@y.z>", "<a@b.c>"] {
        let from = "no-reply@platform.test".parse().unwrap();
        let envelope = Envelope { tenant: &tenant, id: Uuid::nil(), to, created_at: app.clock.now(), from: &from };
        let content = Content { name: None, letter: Letter::Welcome };
        if let Ok(mail) = render(&envelope, &content) {
            let whole = String::from_utf8(mail.formatted()).unwrap();
            assert_eq!(whole.lines().filter(|line| line.starts_with("To: ")).count(), 1, "{to:?}: {whole}");
            assert!(!to.contains('\n'), "{to:?}");
        }
    }
}
