//! JSON that keeps the order of its keys, and is written the way Go writes it.
//!
//! `inspect` shows documents in the engine's own key order, and `{{json .State}}` must agree with
//! it; `serde_json`'s map would sort them.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

/// A JSON value.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) enum Json {
    #[default]
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// What a missing member reads as.
static NULL: Json = Json::Null;

impl Json {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// The member `key`, or null.
    pub(crate) fn get(&self, key: &str) -> &Json {
        match self {
            Json::Object(members) => members.iter().find(|(k, _)| k == key).map_or(&NULL, |(_, v)| v),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Array(_) => &NULL,
        }
    }

    /// Follows a path of members.
    pub(crate) fn at(&self, path: &[&str]) -> &Json {
        path.iter().fold(self, |value, key| value.get(key))
    }

    pub(crate) fn str(&self, key: &str) -> &str {
        self.get(key).as_str()
    }

    pub(crate) fn as_str(&self) -> &str {
        if let Json::String(text) = self { text } else { "" }
    }

    pub(crate) fn int(&self, key: &str) -> i64 {
        self.get(key).as_int()
    }

    pub(crate) fn as_int(&self) -> i64 {
        match self {
            Json::Number(n) => n.as_i64().or_else(|| n.as_f64().map(|f| f as i64)).unwrap_or(0),
            Json::Null | Json::Bool(_) | Json::String(_) | Json::Array(_) | Json::Object(_) => 0,
        }
    }

    pub(crate) fn bool(&self, key: &str) -> bool {
        matches!(self.get(key), Json::Bool(true))
    }

    /// The elements of an array; none for anything else.
    pub(crate) fn array(&self) -> &[Json] {
        if let Json::Array(items) = self { items } else { &[] }
    }

    /// The members of an object; none for anything else.
    pub(crate) fn members(&self) -> &[(String, Json)] {
        if let Json::Object(members) = self { members } else { &[] }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self, Json::Null)
    }

    /// Strings of an array of strings.
    pub(crate) fn strings(&self) -> Vec<&str> {
        self.array().iter().map(Json::as_str).collect()
    }

    /// Without white space, keys in their order.
    pub(crate) fn compact(&self) -> String {
        let mut out = String::new();
        write(self, &mut out);
        out
    }
}

fn write(value: &Json, out: &mut String) {
    match value {
        Json::Null => out.push_str("null"),
        Json::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Json::Number(n) => out.push_str(&n.to_string()),
        Json::String(s) => quote(s, out),
        Json::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write(item, out);
            }
            out.push(']');
        }
        Json::Object(members) => {
            out.push('{');
            for (i, (key, item)) in members.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                quote(key, out);
                out.push(':');
                write(item, out);
            }
            out.push('}');
        }
    }
}

/// A JSON string as Go writes it with HTML escaping off.
pub(crate) fn quote(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if u32::from(c) < 0x20 || c == '\u{2028}' || c == '\u{2029}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Re-indents a JSON text with four spaces and leaves everything else as it is (Go's
/// `json.Indent`): escapes and number spellings of the engine stay.
pub(crate) fn indent(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut escaped = false;
    let mut opened = false;
    let newline = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("    ", depth));
    };
    for c in text.chars() {
        if in_string {
            out.push(c);
            in_string = escaped || c != '"';
            escaped = c == '\\' && !escaped;
            continue;
        }
        if c.is_ascii_whitespace() {
            continue;
        }
        if opened && c != ']' && c != '}' {
            depth += 1;
            newline(&mut out, depth);
        }
        match c {
            ']' | '}' if opened => {}
            ']' | '}' => {
                depth = depth.saturating_sub(1);
                newline(&mut out, depth);
            }
            _ => {}
        }
        out.push(c);
        match c {
            ',' => newline(&mut out, depth),
            ':' => out.push(' '),
            _ => {}
        }
        opened = c == '[' || c == '{';
        in_string = c == '"';
    }
    out
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Number::from_f64(value).map_or(Json::Null, Json::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Json::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Json::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_escapes_survive() {
        let text = r#"{"b":1,"a":[true,null,-2.5],"c":{"z":"<\u0026>\n"}}"#;
        let json = Json::parse(text.as_bytes()).unwrap();
        assert_eq!(json.compact(), r#"{"b":1,"a":[true,null,-2.5],"c":{"z":"<&>\n"}}"#);
        assert_eq!(json.at(&["c", "z"]).as_str(), "<&>\n");
        assert_eq!(json.int("b"), 1);
        assert!(json.get("x").is_null());
    }

    #[test]
    fn indenting_like_go() {
        assert_eq!(
            indent(r#"[{"a":{},"b":[],"c":"x:{\"\u003c","d":[1,2]}]"#),
            "[\n    {\n        \"a\": {},\n        \"b\": [],\n        \"c\": \"x:{\\\"\\u003c\",\n        \"d\": [\n            1,\n            2\n        ]\n    }\n]"
        );
        assert_eq!(indent("[]"), "[]");
    }
}
