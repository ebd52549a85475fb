//! `fork`: containers that go on from the state of a running one.

use seacow_spec::docker::fork::{ForkAnswer, ForkReasons, ForkTimes, ForkedContainer};

use crate::client::{ClientError, escape};
use crate::command::{Args, Command, Invocation};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Kind, NO};
use crate::format::listing::{Kind as Listing, Row};
use crate::format::short_id;
use crate::format::units::human_size;

const FLAGS: &[Flag] = &[
    Flag::new('n', "count", Kind::Int, "How many").default("1"),
    Flag::new(NO, "name", Kind::Str, "Name of the clone; of several, what their names begin with"),
    Flag::new(NO, "dry-run", Kind::Bool, "Only tell what stands in the way; nothing is touched"),
    Flag::new(NO, "format", Kind::Str, "Format output using a custom template, or 'json'"),
    Flag::new(NO, "no-trunc", Kind::Bool, "Don't truncate output"),
    Flag::new('q', "quiet", Kind::Bool, "Only display container IDs"),
];

/// `fork`
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] CONTAINER",
    about: "Branch a running container into new ones that go on from its exact state",
    long: "Branch a running container into new ones that go on from its exact state: memory, threads, open \
           files, timers, listening sockets, and its files. Memory and files are shared until somebody writes \
           to them. Each clone has an id, a name, an address, a host name and a log of its own, and runs at \
           once; the container that is forked stands still for some milliseconds and goes on.\n\nOne process \
           with any number of threads can be forked. What cannot be (further processes, connections, \
           terminals, writable volumes, …) is told before anything is touched, and the exit status is 1: \
           --dry-run does only that.\n\nWhat a program drew at random before is the same in all clones, and \
           so are its pids and its environment, HOSTNAME included.",
    flags: &[FLAGS],
    args: Args::Exactly(1),
    run: fork,
    ..Command::EMPTY
};

const LISTING: Listing = Listing {
    table: "{{.Name}}\t{{.ID}}\t{{.Address}}\t{{.Ready}}",
    quiet: "{{.ID}}",
    raw: "",
    headings: &[("Name", "NAME"), ("ID", "CONTAINER ID"), ("Address", "ADDRESS"), ("Ready", "RUNNING AFTER")],
    go_type: "*fork.rowContext",
};

/// How the daemon begins a refusal.
const REFUSED: &str = "this container cannot be forked: ";

fn fork(invocation: &Invocation<'_>) -> Outcome {
    let matches = invocation.matches;
    let container = invocation.arg(0);
    let call = invocation.client()?.post(format!("/containers/{}/fork", escape(container)));
    if matches.bool("dry-run") {
        let found: ForkReasons = call.query("dryrun", "1").json()?;
        return match found.reasons.as_slice() {
            [] => crate::outln(&format!("{container} can be forked")),
            reasons => Err(refused(container, reasons.iter().map(String::as_str))),
        };
    }
    let call = call.query("count", matches.str("count")).query_some("name", matches.str("name"));
    let made: ForkAnswer = match call.json() {
        Err(ClientError::Daemon { message, .. }) if message.starts_with(REFUSED) => {
            return Err(refused(container, message.trim_start_matches(REFUSED).split("; ")));
        }
        made => made?,
    };
    let (whole, quiet) = (matches.bool("no-trunc"), matches.bool("quiet"));
    let rows = made.containers.iter().map(|one| row(one, whole)).collect();
    let shape = LISTING.shape(matches.str("format"), quiet);
    crate::out(&LISTING.render(&shape, rows).map_err(|e| Failure::Refused(e.to_string()))?)?;
    if !quiet && matches.str("format").is_empty() {
        eprintln!("{}", summary(&made));
    }
    Ok(())
}

fn refused<'a>(container: &str, reasons: impl Iterator<Item = &'a str>) -> Failure {
    let list: String = reasons.map(|reason| format!("\n  - {reason}")).collect();
    Failure::Refused(format!("{container} cannot be forked, and was not touched:{list}"))
}

fn row(one: &ForkedContainer, whole: bool) -> Row {
    Row::default()
        .text("Name", &one.name)
        .text("ID", if whole { one.id.as_str() } else { short_id(&one.id) })
        .text("Address", if one.ip_address.is_empty() { "-" } else { &one.ip_address })
        .text("Ready", milliseconds(one.ready))
}

/// `source paused 2.8 ms · memory ready after 51 ms (snapshot, 88MB copied) · first clone after 53 ms, …`
fn summary(made: &ForkAnswer) -> String {
    let ForkTimes { pause, template, first, all, .. } = made.times;
    let ms = milliseconds;
    let mut text =
        format!("source paused {} · memory ready after {} ({}", ms(pause), ms(template), made.path);
    if made.copied_bytes > 0 {
        text.push_str(&format!(", {} copied", human_size(made.copied_bytes as f64)));
    }
    text.push_str(&format!(") · first clone after {}", ms(first)));
    if made.containers.len() > 1 {
        text.push_str(&format!(", all {} after {}", made.containers.len(), ms(all)));
    }
    text
}

/// Three digits are enough.
fn milliseconds(micros: u64) -> String {
    let ms = micros as f64 / 1000.0;
    if ms < 10.0 { format!("{ms:.1} ms") } else { format!("{ms:.0} ms") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_took_in_one_line() {
        let times = ForkTimes { pause: 2_840, files: 100, template: 51_400, first: 53_000, all: 66_000 };
        let one = ForkedContainer::default();
        let mut made = ForkAnswer {
            containers: vec![one.clone()],
            times,
            path: "snapshot".into(),
            copied_bytes: 88_000_000,
        };
        assert_eq!(
            summary(&made),
            "source paused 2.8 ms · memory ready after 51 ms (snapshot, 88MB copied) · first clone after 53 ms"
        );
        made.containers.push(one);
        made.copied_bytes = 0;
        made.path = "shadow".into();
        assert_eq!(
            summary(&made),
            "source paused 2.8 ms · memory ready after 51 ms (shadow) · first clone after 53 ms, all 2 after 66 ms"
        );
    }
}
