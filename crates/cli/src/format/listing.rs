//! Lists: one row per object, shown as a table, through a template, or as JSON.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::Value;

use super::table;
use super::template::{Format, FormatError, string};

/// What is known of one kind of list.
pub(crate) struct Kind {
    /// `{{.ID}}\t{{.Names}}…`: the columns without `--format`.
    pub(crate) table: &'static str,
    /// The template for `-q`.
    pub(crate) quiet: &'static str,
    /// The template for `--format raw`; empty for one line per field.
    pub(crate) raw: &'static str,
    /// Fields with their column headings.
    pub(crate) headings: &'static [(&'static str, &'static str)],
    /// The Go type that refusals name.
    pub(crate) go_type: &'static str,
}

/// One row: field names with their values.
#[derive(Debug, Default)]
pub(crate) struct Row(BTreeMap<Arc<str>, Value>);

impl Row {
    pub(crate) fn text(mut self, name: &str, text: impl AsRef<str>) -> Self {
        self.0.insert(name.into(), string(text.as_ref()));
        self
    }

    pub(crate) fn value(mut self, name: &str, value: Value) -> Self {
        self.0.insert(name.into(), value);
        self
    }

    /// Adds `Labels` (a list of `k=v`), and `.Label "k"`.
    pub(crate) fn labels(self, labels: &super::Json) -> Self {
        let mut pairs: Vec<(String, String)> =
            labels.members().iter().map(|(k, v)| (k.clone(), v.as_str().to_owned())).collect();
        pairs.sort();
        let all = pairs.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(",");
        let of = move |args: &[Value]| {
            let key = args.first().map(ToString::to_string).unwrap_or_default();
            Ok(string(pairs.iter().find(|(k, _)| *k == key).map_or("", |(_, v)| v)))
        };
        self.text("Labels", all).value("Label", Value::Function(Arc::new(of)))
    }

    /// One line of JSON, keys sorted, `<>&` escaped: what Go's marshaller makes of a row.
    fn json(self) -> Result<String, FormatError> {
        let line = Format::parse("{{json .}}")?.render(&Value::Map(Arc::new(self.0)), "")?;
        Ok(line.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026"))
    }
}

/// How a list was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Aligned columns with headings.
    Table(String),
    /// The template, once per row.
    Raw(String),
    /// A JSON object per row.
    Json,
}

impl Kind {
    /// Decides from `--format` and `--quiet`.
    pub(crate) fn shape(&self, format: &str, quiet: bool) -> Shape {
        match format.trim() {
            "" | "table" if quiet => Shape::Raw(self.quiet.to_owned()),
            "" | "table" => Shape::Table(self.table.to_owned()),
            "json" => Shape::Json,
            "raw" if quiet => Shape::Raw(self.quiet.to_owned()),
            "raw" if !self.raw.is_empty() => Shape::Raw(self.raw.to_owned()),
            "raw" => Shape::Raw(self.raw()),
            other => match other.strip_prefix("table ") {
                Some(columns) => Shape::Table(columns.trim().to_owned()),
                None => Shape::Raw(format.to_owned()),
            },
        }
    }

    /// `raw`: every heading's field on a line of its own.
    fn raw(&self) -> String {
        let lines: Vec<String> = self
            .headings
            .iter()
            .map(|(field, heading)| format!("{}: {{{{.{field}}}}}", heading.to_lowercase().replace(' ', "_")))
            .collect();
        lines.join("\n") + "\n"
    }

    /// The whole output.
    pub(crate) fn render(&self, shape: &Shape, rows: Vec<Row>) -> Result<String, FormatError> {
        match shape {
            Shape::Json => {
                let mut out = String::new();
                for row in rows {
                    out.push_str(&row.json()?);
                    out.push('\n');
                }
                Ok(out)
            }
            Shape::Raw(source) => {
                // docker always tries the template, even on an empty list.
                let format = Format::parse(source)?;
                self.lines(&format, rows, 0)
            }
            Shape::Table(source) => {
                let format = Format::parse(source)?;
                let body = self.lines(&format, rows, "table ".len())?;
                let heading = Format::parse_for_headings(source)?;
                let heading = heading.render_behind(&self.heading_row(), self.go_type, "table ".len())?;
                Ok(table::align(&format!("{heading}\n{body}")))
            }
        }
    }

    fn lines(&self, format: &Format, rows: Vec<Row>, skipped: usize) -> Result<String, FormatError> {
        let mut out = String::new();
        for row in rows {
            out.push_str(&format.render_behind(&Value::Map(Arc::new(row.0)), self.go_type, skipped)?);
            out.push('\n');
        }
        Ok(out)
    }

    fn heading_row(&self) -> Value {
        let label = |args: &[Value]| {
            let key = args.first().map(ToString::to_string).unwrap_or_default();
            let last = key.rsplit('.').next().unwrap_or("").replace(['-', '_'], " ");
            Ok(string(&last))
        };
        let mut map: BTreeMap<Arc<str>, Value> =
            self.headings.iter().map(|(field, heading)| (Arc::from(*field), string(heading))).collect();
        map.insert("Label".into(), Value::Function(Arc::new(label)));
        Value::Map(Arc::new(map))
    }
}

/// Whether a template looks at the field `name` (or at all of them): some fields cost the engine
/// work, and are asked for only then.
pub(crate) fn uses(format: &str, name: &str) -> bool {
    let dotted = format!(".{name}");
    let field = format
        .match_indices(&dotted)
        .any(|(i, _)| !format[i + dotted.len()..].starts_with(|c: char| c.is_alphanumeric()));
    field || format.contains("json .}}") || format.contains("json . }}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Json;

    const KIND: Kind = Kind {
        table: "{{.ID}}\t{{.Names}}",
        quiet: "{{.ID}}",
        raw: "",
        headings: &[("ID", "CONTAINER ID"), ("Names", "NAMES"), ("Labels", "LABELS")],
        go_type: "*formatter.ContainerContext",
    };

    fn show(format: &str, quiet: bool) -> String {
        let labels = Json::parse(br#"{"b":"2","a.x-y":"<1>"}"#).unwrap();
        let row = Row::default().text("ID", "0123456789ab").text("Names", "web").labels(&labels);
        match KIND.render(&KIND.shape(format, quiet), vec![row]) {
            Ok(text) => text,
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn shapes() {
        assert_eq!(show("", false), "CONTAINER ID   NAMES\n0123456789ab   web\n");
        assert_eq!(show("", true), "0123456789ab\n");
        assert_eq!(
            show("table {{.Names}}\\t{{.Labels}}", false),
            "NAMES     LABELS\nweb       a.x-y=<1>,b=2\n"
        );
        assert_eq!(
            show("table {{upper .Names}}\\t{{.Label \"a.x-y\"}}", false),
            "NAMES     x y\nWEB       <1>\n"
        );
        assert_eq!(
            show("json", false),
            "{\"ID\":\"0123456789ab\",\"Labels\":\"a.x-y=\\u003c1\\u003e,b=2\",\"Names\":\"web\"}\n"
        );
        assert_eq!(
            show("{{.Foo}}", false),
            "failed to execute template: template: :1:2: executing \"\" at <.Foo>: can't evaluate field Foo in type *formatter.ContainerContext"
        );
    }

    #[test]
    fn fields_in_use() {
        assert!(uses("{{.Size}}", "Size") && uses("{{json .}}", "Size"));
        assert!(!uses("{{.Sizes}}", "Size"));
    }
}
