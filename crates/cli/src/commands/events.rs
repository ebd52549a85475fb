//! `events`: what happens in the engine, as it happens.

use std::io::Read;

use crate::command::{Args, Command, Invocation};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Kind, NO};
use crate::format::template::{Format, value};
use crate::format::{Json, time};
use crate::http::HttpError;
use crate::opts::filter;

const FLAGS: &[Flag] = &[
    Flag::new('f', "filter", Kind::Filter, "Filter output based on conditions provided"),
    Flag::new(
        NO,
        "format",
        Kind::Str,
        "Format output using a custom template:\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates",
    ),
    Flag::new(NO, "since", Kind::Str, "Show all events created since timestamp"),
    Flag::new(NO, "until", Kind::Str, "Stream events until this timestamp"),
];

/// `events`
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS]",
    about: "Get real time events from the server",
    aliases: &["system events", "events"],
    flags: &[FLAGS],
    args: Args::Exactly(0),
    run,
    ..Command::EMPTY
};

fn run(invocation: &Invocation<'_>) -> Outcome {
    let matches = invocation.matches;
    let format = match matches.str("format") {
        "" => None,
        "json" => Some(Format::parse("{{json .}}")),
        format => Some(Format::parse(format)),
    };
    let format = format.transpose().map_err(|e| Failure::Status { text: e.to_string(), code: 64 })?;
    let bound = |name: &str| time::engine_timestamp(matches.str(name)).map_err(Failure::Refused);
    let mut response = invocation
        .client()?
        .get("/events")
        .query_some("since", &bound("since")?)
        .query_some("until", &bound("until")?)
        .query_some("filters", &filter::query(&matches.list("filter")))
        .send()?;
    each_document(&mut response.body, |event| {
        let line = match &format {
            Some(format) => format
                .render(&value(event), "*events.Message")
                .map_err(|e| Failure::Refused(e.to_string()))?,
            None => line(event),
        };
        crate::outln(&line)
    })
}

/// Calls `each` for every JSON document of an endless stream, as soon as it is complete.
pub(super) fn each_document(body: &mut impl Read, mut each: impl FnMut(&Json) -> Outcome) -> Outcome {
    let mut buf = Vec::new();
    let mut piece = vec![0; 16 << 10];
    loop {
        let n = body.read(&mut piece).map_err(HttpError::Receive)?;
        if n == 0 {
            return Ok(());
        }
        buf.extend_from_slice(&piece[..n]);
        let mut stream = serde_json::Deserializer::from_slice(&buf).into_iter::<Json>();
        let mut used = 0;
        while let Some(document) = stream.next() {
            match document {
                Ok(document) => {
                    used = stream.byte_offset();
                    each(&document)?;
                }
                Err(e) if e.is_eof() => break,
                Err(e) => {
                    return Err(Failure::Refused(format!("malformed message in the engine's stream: {e}")));
                }
            }
        }
        buf.drain(..used);
    }
}

/// `TIME TYPE ACTION ID (key=value, …)`
fn line(event: &Json) -> String {
    let nanos = event.int("timeNano");
    let stamp = if nanos != 0 {
        let fraction = u32::try_from(nanos.rem_euclid(1_000_000_000)).unwrap_or(0);
        time::rfc3339_local(nanos.div_euclid(1_000_000_000), Some(fraction))
    } else {
        time::rfc3339_local(event.int("time"), Some(0))
    };
    let actor = event.get("Actor");
    let mut line = format!("{stamp} {} {} {}", event.str("Type"), event.str("Action"), actor.str("ID"));
    let mut attributes: Vec<String> =
        actor.get("Attributes").members().iter().map(|(k, v)| format!("{k}={}", v.as_str())).collect();
    attributes.sort();
    if !attributes.is_empty() {
        line.push_str(&format!(" ({})", attributes.join(", ")));
    }
    line
}
