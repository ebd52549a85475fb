//! The "Options:" block of a help page, laid out as `pflag` lays it out.

use super::{Flag, NO};

/// The width that help is wrapped to: the terminal's, or 80 where there is none.
pub(crate) fn wrap_width() -> usize {
    let columns = rustix::termios::tcgetwinsize(rustix::stdio::stdout()).map_or(0, |s| s.ws_col);
    usize::from(if columns == 0 { 80 } else { columns }) - 1
}

/// Two columns, sorted by long name: the flag with its type, and its text wrapped to `width`.
pub(crate) fn flag_usages(tables: &[&'static [Flag]], width: usize) -> String {
    let mut flags: Vec<&Flag> = tables.iter().flat_map(|t| t.iter()).filter(|f| !f.hidden).collect();
    flags.sort_by_key(|f| f.long);
    let heads: Vec<String> = flags.iter().map(|f| head(f)).collect();
    let column = heads.iter().map(String::len).max().unwrap_or(0) + 3;
    let mut out = String::new();
    for (flag, head) in flags.iter().zip(&heads) {
        let text = wrap(column, width, flag.help);
        out.push_str(&format!("{head:pad$}{text}\n", pad = column));
    }
    out
}

fn head(flag: &Flag) -> String {
    let name = flag.kind.type_name();
    let names = if flag.short == NO {
        format!("      --{}", flag.long)
    } else {
        format!("  -{}, --{}", flag.short, flag.long)
    };
    if name.is_empty() { names } else { format!("{names} {name}") }
}

/// How far a last line may run over, so that no single short word is left alone.
const SLOP: usize = 5;
/// Less room than this is not wrapped into; the text moves below the flag.
const MIN_COLUMN: usize = 24;

fn wrap(mut indent: usize, width: usize, text: &str) -> String {
    let mut out = String::new();
    let newline = |indent: usize| format!("\n{}", " ".repeat(indent));
    if width.saturating_sub(indent) < MIN_COLUMN {
        indent = 16;
        out.push_str(&newline(indent));
    }
    let room = width.saturating_sub(indent);
    if room < MIN_COLUMN {
        return text.replace('\n', &out);
    }
    let room = room - SLOP;
    let mut rest = text;
    let mut first = true;
    while first || !rest.is_empty() {
        let (line, after) = split_line(room, rest);
        if !first {
            out.push_str(&newline(indent));
        }
        out.push_str(&line.replace('\n', &newline(indent)));
        rest = after;
        first = false;
    }
    out
}

fn split_line(room: usize, text: &str) -> (&str, &str) {
    if room + SLOP > text.len() {
        return (text, "");
    }
    let mut end = room;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let head = &text[..end];
    let Some(space) = head.rfind([' ', '\t', '\n']).filter(|i| *i > 0) else { return (text, "") };
    match head.rfind('\n') {
        Some(newline) if newline > 0 && newline < space => (&text[..newline], &text[newline + 1..]),
        _ => (&text[..space], &text[space + 1..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::Kind;

    #[test]
    fn wraps_like_pflag() {
        const FLAGS: &[Flag] = &[
            Flag::new('l', "latest", Kind::Bool, "Show the latest created container (includes all states)"),
            Flag::new(
                'n',
                "last",
                Kind::Int,
                "Show n last created containers (includes all states) (default -1)",
            ),
            Flag::new(NO, "secret", Kind::Bool, "x").hidden(),
        ];
        let expected = "  -n, --last int   Show n last created containers (includes all states)\n                   (default -1)\n  -l, --latest     Show the latest created container (includes all states)\n";
        assert_eq!(flag_usages(&[FLAGS], 79), expected);
    }
}
