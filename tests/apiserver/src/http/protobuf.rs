//! Bodies in protobuf, as far as kubectl writes them: its `create` commands and `auth` send built-in kinds so and know no
//! other way. Only what those commands can say is read; a field beyond that is refused rather than lost.
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#protobuf-encoding>

use std::{collections::HashMap, sync::LazyLock};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use crate::status::{Result, Status};

pub const MEDIA: &str = "application/vnd.kubernetes.protobuf";

/// Message, then `number=field:type`. `[]` repeats, `{}` is a map of text to that type, `?` keeps zero values (a pointer in
/// Go; others are sent although they are not set), `^` puts the message's fields into its parent, `-` is not read.
const MESSAGES: &str = include_str!("messages.txt");

type Fields = HashMap<u64, (&'static str, &'static str)>;

fn message(name: &str) -> Option<&'static Fields> {
    static PARSED: LazyLock<HashMap<&'static str, Fields>> = LazyLock::new(|| {
        let field = |word: &'static str| {
            let (number, rest) = word.split_once('=')?;
            Some((number.parse().ok()?, rest.split_once(':')?))
        };
        let lines = MESSAGES.lines().filter_map(|line| line.split_once(' '));
        lines.map(|(name, fields)| (name, fields.split(' ').filter_map(field).collect())).collect()
    });
    PARSED.get(name)
}

/// The object in a body: four magic bytes, then an envelope of its type and its own bytes.
pub fn decode(body: &[u8]) -> Result<Value> {
    let envelope = body.strip_prefix(b"k8s\0").ok_or_else(|| unreadable("it does not begin with k8s"))?;
    let (mut kind, mut api_version, mut raw) = (String::new(), String::new(), &[][..]);
    for field in Reader(envelope) {
        match field? {
            (1, Wire::Bytes(meta)) => {
                for field in Reader(meta) {
                    match field? {
                        (1, Wire::Bytes(text)) => api_version = utf8(text)?,
                        (2, Wire::Bytes(text)) => kind = utf8(text)?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let mut object = json!({ "apiVersion": api_version, "kind": kind });
    read(&kind, raw, crate::object::map(&mut object))?;
    Ok(object)
}

fn unreadable(why: &str) -> Status {
    Status::unsupported_media_type(&format!("{MEDIA} ({why})"), "application/json, application/yaml")
}

fn utf8(bytes: &[u8]) -> Result<String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| unreadable("text that is not UTF-8"))
}

fn read(name: &str, bytes: &[u8], object: &mut Map<String, Value>) -> Result<()> {
    let fields = message(name).ok_or_else(|| unreadable(&format!("{name} is not understood in protobuf")))?;
    for field in Reader(bytes) {
        let (number, wire) = field?;
        let (field, kind) =
            fields.get(&number).ok_or_else(|| unreadable(&format!("field {number} of {name} is not understood")))?;
        if let Some(kind) = kind.strip_prefix("[]") {
            let item = value(kind, &wire)?;
            if let Value::Array(list) = object.entry(*field).or_insert_with(|| json!([])) {
                list.push(item);
            }
        } else if let Some(kind) = kind.strip_prefix("{}") {
            let (key, item) = entry(kind, &wire)?;
            crate::object::map(object.entry(*field).or_insert(Value::Null)).insert(key, item);
        } else if let (Some(kind), Wire::Bytes(bytes)) = (kind.strip_prefix('^'), &wire) {
            read(kind, bytes, object)?;
        } else if let Some(kind) = kind.strip_prefix('?') {
            object.insert((*field).to_owned(), value(kind, &wire)?);
        } else if *kind != "-" {
            let value = value(kind, &wire)?;
            let unset = matches!(&value, Value::String(text) if text.is_empty())
                || value == 0
                || value == false
                || value.is_null();
            if !unset {
                object.insert((*field).to_owned(), value);
            }
        }
    }
    Ok(())
}

fn entry(kind: &str, wire: &Wire<'_>) -> Result<(String, Value)> {
    let Wire::Bytes(bytes) = wire else { return Err(unreadable("a map that is not one")) };
    let (mut key, mut item) = (String::new(), if kind == "Quantity" { Value::Null } else { json!("") });
    for field in Reader(bytes) {
        match field? {
            (1, Wire::Bytes(text)) => key = utf8(text)?,
            (2, wire) => item = value(kind, &wire)?,
            _ => {}
        }
    }
    Ok((key, item))
}

fn value(kind: &str, wire: &Wire<'_>) -> Result<Value> {
    match (kind, wire) {
        ("text", Wire::Bytes(bytes)) => Ok(json!(utf8(bytes)?)),
        ("bytes", Wire::Bytes(bytes)) => Ok(json!(STANDARD.encode(bytes))),
        ("bool", Wire::Number(number)) => Ok(json!(*number != 0)),
        ("int", Wire::Number(number)) => Ok(json!(number.cast_signed())),
        ("Quantity", Wire::Bytes(bytes)) => {
            let text = Reader(bytes).find_map(|field| match field {
                Ok((1, Wire::Bytes(text))) => Some(utf8(text)),
                _ => None,
            });
            Ok(json!(text.transpose()?.unwrap_or_default()))
        }
        ("IntOrString", Wire::Bytes(bytes)) => {
            let (mut is_text, mut number, mut text) = (false, 0, String::new());
            for field in Reader(bytes) {
                match field? {
                    (1, Wire::Number(kind)) => is_text = kind == 1,
                    (2, Wire::Number(value)) => number = value.cast_signed(),
                    (3, Wire::Bytes(value)) => text = utf8(value)?,
                    _ => {}
                }
            }
            Ok(match (is_text, text.is_empty(), number) {
                (true, false, _) => json!(text),
                (_, _, 0) => Value::Null,
                _ => json!(number),
            })
        }
        (kind, Wire::Bytes(bytes)) => {
            let mut object = Map::new();
            read(kind, bytes, &mut object)?;
            Ok(Value::Object(object))
        }
        _ => Err(unreadable("a field of the wrong wire type")),
    }
}

enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message, by number.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn field(&mut self) -> Option<(u64, Wire<'a>)> {
        let tag = self.varint()?;
        let wire = match tag & 7 {
            0 => Wire::Number(self.varint()?),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                let (bytes, rest) = self.0.split_at_checked(length)?;
                self.0 = rest;
                Wire::Bytes(bytes)
            }
            _ => return None,
        };
        Some((tag >> 3, wire))
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Result<(u64, Wire<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            // Whatever follows cannot be told apart any more.
            self.0 = &[];
        }
        Some(field.ok_or_else(|| unreadable("it is cut short")))
    }
}
