//! Engine.IO 4 and Socket.IO 5, as text: what clients 3 and 4 of Socket.IO speak on a WebSocket. Without attachments: no
//! event here has any.

use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

pub const PING_INTERVAL: Duration = Duration::from_secs(25);
pub const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// A token has 8 KiB at most, and nothing longer is sent.
pub const MAX_PAYLOAD: usize = 16 * 1024;

pub const PING: &str = "2";
pub const DISCONNECT: &str = "41";
/// Between the packets of one answer to a client that polls.
pub const SEPARATOR: &str = "\u{1e}";

/// What a client sends.
#[derive(Debug, PartialEq)]
pub enum Incoming {
    Pong,
    /// The end of the connection, or of the only namespace.
    Leave,
    /// Asks to be let in to the only namespace.
    Connect {
        auth: Value,
    },
    /// Asks for a namespace that there is not.
    Elsewhere {
        namespace: String,
    },
    Event {
        name: String,
        argument: Value,
        ack: Option<u64>,
    },
    /// An acknowledgement, which nobody waits for.
    Ack,
}

/// What is no packet, or none that a client may send.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed;

pub fn parse(text: &str) -> Result<Incoming, Malformed> {
    match split(text)? {
        ('1', _) => Ok(Incoming::Leave),
        ('3', _) => Ok(Incoming::Pong),
        ('4', message) => parse_message(message),
        _ => Err(Malformed),
    }
}

fn parse_message(text: &str) -> Result<Incoming, Malformed> {
    let (kind, rest) = split(text)?;
    let (namespace, rest) =
        if rest.starts_with('/') { rest.split_once(',').unwrap_or((rest, "")) } else { ("/", rest) };
    // With a query, as clients may send it: `/?a=b`.
    if namespace != "/" && !namespace.starts_with("/?") {
        return match kind {
            '0' => Ok(Incoming::Elsewhere { namespace: namespace.into() }),
            _ => Err(Malformed),
        };
    }
    match kind {
        '0' if rest.is_empty() => Ok(Incoming::Connect { auth: Value::Null }),
        '0' => Ok(Incoming::Connect { auth: serde_json::from_str(rest).map_err(|_| Malformed)? }),
        '1' => Ok(Incoming::Leave),
        '2' => parse_event(rest),
        '3' => Ok(Incoming::Ack),
        _ => Err(Malformed),
    }
}

fn parse_event(text: &str) -> Result<Incoming, Malformed> {
    let array = text.find('[').ok_or(Malformed)?;
    let (ack, array) = text.split_at(array);
    let ack = if ack.is_empty() { None } else { Some(ack.parse().map_err(|_| Malformed)?) };
    let mut all = serde_json::from_str::<Vec<Value>>(array).map_err(|_| Malformed)?.into_iter();
    let Some(Value::String(name)) = all.next() else { return Err(Malformed) };
    Ok(Incoming::Event { name, argument: all.next().unwrap_or_default(), ack })
}

fn split(text: &str) -> Result<(char, &str), Malformed> {
    let mut chars = text.chars();
    let first = chars.next().ok_or(Malformed)?;
    Ok((first, chars.as_str()))
}

/// The first packet: what holds for the connection. There is nothing to upgrade to.
pub fn open(id: Uuid) -> String {
    let open = json!({
        "sid": id.simple().to_string(),
        "upgrades": [],
        "pingInterval": u64::try_from(PING_INTERVAL.as_millis()).unwrap_or_default(),
        "pingTimeout": u64::try_from(PING_TIMEOUT.as_millis()).unwrap_or_default(),
        "maxPayload": MAX_PAYLOAD,
    });
    format!("0{open}")
}

pub fn connected(id: Uuid) -> String {
    format!("40{}", json!({ "sid": id.simple().to_string() }))
}

/// `connect_error`: `data` comes with the error that the client is given.
pub fn refused(namespace: &str, message: &str, data: &Value) -> String {
    let namespace = if namespace == "/" { String::new() } else { format!("{namespace},") };
    format!("44{namespace}{}", json!({ "message": message, "data": data }))
}

pub fn event(name: &str, data: &Value) -> String {
    format!("42{}", json!([name, data]))
}

pub fn ack(id: u64, data: &Value) -> String {
    format!("43{id}{}", json!([data]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_of_clients_are_read() {
        let event = |argument, ack| Incoming::Event { name: "join-room".into(), argument, ack };
        for (text, expected) in [
            ("3", Incoming::Pong),
            ("1", Incoming::Leave),
            ("41", Incoming::Leave),
            ("40", Incoming::Connect { auth: Value::Null }),
            (r#"40{"token":"t"}"#, Incoming::Connect { auth: json!({ "token": "t" }) }),
            (r#"40/?a=b,{"token":"t"}"#, Incoming::Connect { auth: json!({ "token": "t" }) }),
            ("40/admin,{}", Incoming::Elsewhere { namespace: "/admin".into() }),
            ("40/admin", Incoming::Elsewhere { namespace: "/admin".into() }),
            (r#"42["join-room"]"#, event(Value::Null, None)),
            (r#"42["join-room","public"]"#, event(json!("public"), None)),
            (r#"421["join-room","public",1]"#, event(json!("public"), Some(1))),
            (r#"42/,12["join-room",{}]"#, event(json!({}), Some(12))),
            ("430[]", Incoming::Ack),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn whatever_else_comes_is_malformed() {
        let deep = format!("42[\"a\",{}", "[".repeat(10_000));
        for text in [
            "",
            "0",
            "2",
            "2probe",
            "5",
            "6",
            "9",
            "é",
            "4",
            "4é",
            "44{}",
            "45",
            "451-[\"a\",{\"_placeholder\":true,\"num\":0}]",
            "46",
            "42",
            "42{}",
            "42[]",
            "42[1]",
            "42x[\"a\"]",
            "42-1[\"a\"]",
            "4299999999999999999999[\"a\"]",
            "42/admin,[\"a\"]",
            "41/admin",
            "40{",
            "40[",
            &deep,
        ] {
            assert_eq!(parse(text), Err(Malformed), "{text}");
        }
    }

    #[test]
    fn packets_to_clients_are_what_the_protocol_says() {
        let id = Uuid::from_u128(7);
        assert_eq!(
            open(id),
            r#"0{"sid":"00000000000000000000000000000007","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":16384}"#
        );
        assert_eq!(connected(id), r#"40{"sid":"00000000000000000000000000000007"}"#);
        assert_eq!(refused("/", "no", &json!({"code": "X"})), r#"44{"message":"no","data":{"code":"X"}}"#);
        assert_eq!(refused("/a", "no", &Value::Null), r#"44/a,{"message":"no","data":null}"#);
        assert_eq!(event("room-left", &json!({"room": "user:1"})), r#"42["room-left",{"room":"user:1"}]"#);
        assert_eq!(ack(3, &json!({"ok": true})), r#"433[{"ok":true}]"#);
    }
}
