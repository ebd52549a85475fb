//! `--format`: Go templates over the engine's JSON, with docker's functions.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use gotmpl::{FuncMap, MissingKey, Template, TemplateError, Value};

use super::Json;
use super::json;

thread_local! {
    /// Key order of objects by the address of their map. gotmpl's maps sort their keys; `json`
    /// must print the engine's order. Addresses stay valid because nothing is freed while a
    /// command renders, and one that is reused overwrites its entry.
    static ORDER: RefCell<HashMap<usize, Vec<Arc<str>>>> = RefCell::new(HashMap::new());
}

/// A template that cannot be used, in Go's words.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FormatError {
    #[error("failed to parse template: template: :{line}: {message}")]
    Parse { line: usize, message: String },
    #[error(
        "failed to execute template: template: :{line}:{column}: executing \"\" at <{at}>: can't evaluate field {field} in type {of}"
    )]
    NoField { line: usize, column: usize, at: String, field: String, of: &'static str },
    #[error("template: :{line}:{column}: executing \"\" at <{at}>: map has no entry for key {field:?}")]
    NoEntry { line: usize, column: usize, at: String, field: String },
    #[error("failed to execute template: template: {0}")]
    Execute(TemplateError),
}

/// A parsed `--format`.
pub(crate) struct Format {
    template: Template,
    source: String,
}

impl Format {
    pub(crate) fn parse(source: &str) -> Result<Self, FormatError> {
        Self::parse_with(source, functions())
    }

    /// With the functions replaced by ones that leave column headings alone.
    pub(super) fn parse_for_headings(source: &str) -> Result<Self, FormatError> {
        let mut functions = functions();
        for name in ["json", "title", "lower", "upper", "truncate", "pad", "split", "join"] {
            functions.insert(
                name.to_owned(),
                Arc::new(|args: &[Value]| Ok(args.first().cloned().unwrap_or(Value::Nil))),
            );
        }
        Self::parse_with(source, functions)
    }

    fn parse_with(source: &str, functions: FuncMap) -> Result<Self, FormatError> {
        let source = call_methods(&unescape(source));
        let template =
            Template::new("").missing_key(MissingKey::Error).funcs(functions).parse(&source).map_err(
                |e| match e {
                    TemplateError::Parse { line, message, .. } | TemplateError::Lex { line, message, .. } => {
                        FormatError::Parse { line, message }
                    }
                    other => FormatError::Parse { line: 1, message: other.to_string() },
                },
            )?;
        Ok(Self { template, source })
    }

    /// Renders one row of a list; `of` is the Go type its refusals name.
    pub(crate) fn render(&self, data: &Value, of: &'static str) -> Result<String, FormatError> {
        self.render_behind(data, of, 0)
    }

    /// The same for a template that stood behind `skipped` characters of the user's text.
    pub(super) fn render_behind(
        &self,
        data: &Value,
        of: &'static str,
        skipped: usize,
    ) -> Result<String, FormatError> {
        self.template.execute_to_string(data).map_err(|e| match e {
            TemplateError::MissingKey { key } => {
                let (line, column, at) = self.locate(&key);
                let column = if line == 1 { column + skipped } else { column };
                FormatError::NoField { line, column, at, field: key, of }
            }
            other => FormatError::Execute(other),
        })
    }

    /// Renders a whole document (`inspect`).
    pub(crate) fn render_document(&self, data: &Value) -> Result<String, FormatError> {
        self.template.execute_to_string(data).map_err(|e| match e {
            TemplateError::MissingKey { key } => {
                let (line, column, at) = self.locate(&key);
                FormatError::NoEntry { line, column, at, field: key }
            }
            other => FormatError::Execute(other),
        })
    }

    /// Where the template names a field: line, Go's column, and the whole `.A.B` chain. gotmpl's
    /// errors do not say.
    fn locate(&self, field: &str) -> (usize, usize, String) {
        let dotted = format!(".{field}");
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let found = self
            .source
            .match_indices(&dotted)
            .find(|(i, _)| !self.source[i + dotted.len()..].starts_with(is_word))
            .map_or(0, |(i, _)| i);
        let before = &self.source[..found];
        let chain_start = before.rfind(|c: char| !is_word(c) && c != '.').map_or(0, |i| i + 1);
        let line = before.matches('\n').count() + 1;
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        let end = found + dotted.len();
        (line, found - line_start, self.source[chain_start..end].to_owned())
    }
}

/// docker takes `\t` and `\n` typed as two characters for a tab and a new line.
fn unescape(source: &str) -> String {
    source.replace("\\t", "\t").replace("\\n", "\n")
}

/// `.Label "x"` is a method call in Go; gotmpl wants `call .Label "x"`.
fn call_methods(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(i) = rest.find(".Label ") {
        let before = &rest[..i];
        out.push_str(before);
        let opens = before.rfind("{{").unwrap_or(0) >= before.rfind("}}").unwrap_or(0);
        if opens && before.ends_with(['{', ' ', '(', '|', '-']) {
            out.push_str("call ");
        }
        out.push_str(".Label ");
        rest = &rest[i + ".Label ".len()..];
    }
    out.push_str(rest);
    out
}

/// The functions docker adds to Go's own.
fn functions() -> FuncMap {
    let mut map = FuncMap::new();
    let text = |args: &[Value], i: usize| args.get(i).map(ToString::to_string).unwrap_or_default();
    let count = |args: &[Value], i: usize| {
        args.get(i).and_then(Value::as_int).and_then(|n| usize::try_from(n).ok()).unwrap_or(0)
    };
    map.insert(
        "json".into(),
        Arc::new(move |args| Ok(string(&to_json(args.first().unwrap_or(&Value::Nil))))),
    );
    map.insert("upper".into(), Arc::new(move |args| Ok(string(&text(args, 0).to_uppercase()))));
    map.insert("lower".into(), Arc::new(move |args| Ok(string(&text(args, 0).to_lowercase()))));
    map.insert("title".into(), Arc::new(move |args| Ok(string(&title(&text(args, 0))))));
    map.insert(
        "truncate".into(),
        Arc::new(move |args| Ok(string(&text(args, 0).chars().take(count(args, 1)).collect::<String>()))),
    );
    map.insert(
        "pad".into(),
        Arc::new(move |args| {
            if text(args, 0).is_empty() {
                return Ok(string(""));
            }
            let (before, after) = (" ".repeat(count(args, 1)), " ".repeat(count(args, 2)));
            Ok(string(&format!("{before}{}{after}", text(args, 0))))
        }),
    );
    map.insert(
        "split".into(),
        Arc::new(move |args| {
            let (whole, separator) = (text(args, 0), text(args, 1));
            Ok(Value::List(whole.split(separator.as_str()).map(string).collect()))
        }),
    );
    map.insert(
        "join".into(),
        Arc::new(move |args| {
            let items = match args.first() {
                Some(Value::List(items)) => items.iter().map(ToString::to_string).collect(),
                _ => Vec::new(),
            };
            Ok(string(&items.join(&text(args, 1))))
        }),
    );
    map
}

pub(crate) fn string(text: &str) -> Value {
    Value::String(text.into())
}

fn title(text: &str) -> String {
    let mut start = true;
    let mut out = String::new();
    for c in text.chars() {
        if start {
            out.extend(c.to_uppercase())
        } else {
            out.push(c)
        }
        start = c.is_whitespace();
    }
    out
}

/// The engine's JSON as template data.
pub(crate) fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Nil,
        Json::Bool(b) => Value::Bool(*b),
        Json::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(i), _) => Value::Int(i),
            (None, Some(u)) => Value::Uint(u),
            (None, None) => Value::Float(n.as_f64().unwrap_or(0.0)),
        },
        Json::String(s) => string(s),
        Json::Array(items) => Value::List(items.iter().map(value).collect()),
        Json::Object(members) => {
            let map: BTreeMap<Arc<str>, Value> =
                members.iter().map(|(k, v)| (Arc::from(k.as_str()), value(v))).collect();
            let map = Arc::new(map);
            let keys = members.iter().map(|(k, _)| Arc::from(k.as_str())).collect();
            ORDER.with_borrow_mut(|order| order.insert(Arc::as_ptr(&map) as usize, keys));
            Value::Map(map)
        }
    }
}

fn to_json(value: &Value) -> String {
    let mut out = String::new();
    write_json(value, &mut out);
    out
}

fn write_json(value: &Value, out: &mut String) {
    match value {
        Value::Nil | Value::Function(_) => out.push_str("null"),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Int(i) => out.push_str(&i.to_string()),
        Value::Uint(u) => out.push_str(&u.to_string()),
        Value::Float(f) => out.push_str(&f.to_string()),
        Value::String(s) => json::quote(s, out),
        Value::List(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_json(item, out);
            }
            out.push(']');
        }
        Value::Map(map) => write_map(map, out),
    }
}

fn write_map(map: &Arc<BTreeMap<Arc<str>, Value>>, out: &mut String) {
    let known = ORDER.with_borrow(|order| order.get(&(Arc::as_ptr(map) as usize)).cloned());
    let keys = known
        .filter(|keys| keys.len() == map.len() && keys.iter().all(|k| map.contains_key(k)))
        .unwrap_or_else(|| map.keys().cloned().collect());
    out.push('{');
    let mut first = true;
    for (key, item) in keys.iter().filter_map(|k| Some((k, map.get(k)?))) {
        // Methods are no part of the document.
        if matches!(item, Value::Function(_)) {
            continue;
        }
        if !first {
            out.push(',');
        }
        first = false;
        json::quote(key, out);
        out.push(':');
        write_json(item, out);
    }
    out.push('}');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(format: &str, json: &str) -> String {
        let data = value(&Json::parse(json.as_bytes()).unwrap());
        match Format::parse(format).and_then(|f| f.render_document(&data)) {
            Ok(text) => text,
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn functions_of_docker() {
        let json = r#"{"State":{"Running":true,"Pid":42,"A":null},"Name":"web","L":["a","b"]}"#;
        assert_eq!(document("{{json .State}}", json), r#"{"Running":true,"Pid":42,"A":null}"#);
        assert_eq!(
            document(
                "{{upper .Name}} {{pad .Name 2 3}}x {{truncate .Name 2}} {{split .Name \"e\"}} {{join .L \"-\"}} {{title .Name}}",
                json
            ),
            "WEB   web   x we [w b] a-b Web"
        );
        assert_eq!(document("{{range .L}}{{.}}\\t{{end}}{{index .L 1}}{{len .L}}", json), "a\tb\tb2");
        assert_eq!(
            document("{{if .State.Running}}yes{{end}} {{printf \"%05d\" .State.Pid}}", json),
            "yes 00042"
        );
    }

    #[test]
    fn refusals_of_go() {
        assert_eq!(
            document("{{.State.Foo}}", r#"{"State":{}}"#),
            "template: :1:8: executing \"\" at <.State.Foo>: map has no entry for key \"Foo\""
        );
        assert_eq!(document("{{.ID", "{}"), "failed to parse template: template: :1: unclosed action");
    }
}
