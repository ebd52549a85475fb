//! `stats`: what containers use, once or continuously.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Mutex;
use std::time::Duration;

use super::events::each_document;
use crate::client::{Client, escape};
use crate::command::{Args, Command, Invocation};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Kind, NO};
use crate::format::listing::{Kind as Listing, Row};
use crate::format::units::{bytes_size, human_size_3};
use crate::format::{Json, short_id};
use crate::term;

const FLAGS: &[Flag] = &[
    Flag::new('a', "all", Kind::Bool, "Show all containers (default shows just running)"),
    Flag::new(
        NO,
        "format",
        Kind::Str,
        "Format output using a custom template:\n'table':            Print output in table format with column headers (default)\n'table TEMPLATE':   Print output in table format using the given Go template\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates",
    ),
    Flag::new(NO, "no-stream", Kind::Bool, "Disable streaming stats and only pull the first result"),
    Flag::new(NO, "no-trunc", Kind::Bool, "Do not truncate output"),
];

/// `stats`
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] [CONTAINER...]",
    about: "Display a live stream of container(s) resource usage statistics",
    aliases: &["container stats", "stats"],
    flags: &[FLAGS],
    args: Args::AtLeast(0),
    run,
    ..Command::EMPTY
};

const LISTING: Listing = Listing {
    table: "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}",
    quiet: "{{.ID}}",
    raw: "",
    headings: &[
        ("ID", "CONTAINER ID"),
        ("Container", "CONTAINER"),
        ("Name", "NAME"),
        ("CPUPerc", "CPU %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("MemPerc", "MEM %"),
        ("NetIO", "NET I/O"),
        ("BlockIO", "BLOCK I/O"),
        ("PIDs", "PIDS"),
    ],
    go_type: "*container.statsContext",
};

/// Pause between two redraws.
const REDRAW: Duration = Duration::from_millis(500);

fn run(invocation: &Invocation<'_>) -> Outcome {
    let matches = invocation.matches;
    let client = invocation.client()?;
    let names = match invocation.args() {
        [] => listed(client, matches.bool("all"))?,
        names => names.to_vec(),
    };
    let shape = LISTING.shape(matches.str("format"), false);
    let full = matches.bool("no-trunc");
    let show = |samples: &[(String, Json)]| -> Result<String, Failure> {
        let rows = samples.iter().map(|(name, sample)| row(name, sample, full)).collect();
        LISTING.render(&shape, rows).map_err(|e| Failure::Refused(e.to_string()))
    };
    if matches.bool("no-stream") {
        return crate::out(&show(&once(client, &names)?)?);
    }
    stream(client, &names, show)
}

fn listed(client: &Client, all: bool) -> Result<Vec<String>, Failure> {
    let containers: Json = client.get("/containers/json").flag("all", all).json()?;
    Ok(containers.array().iter().map(|c| short_id(c.str("Id")).to_owned()).collect())
}

/// One sample of each. The engine takes a second for it, so all are asked at once.
fn once(client: &Client, names: &[String]) -> Result<Vec<(String, Json)>, Failure> {
    let sample = |name: &String| -> Result<(String, Json), Failure> {
        let call = client.get(format!("/containers/{}/stats", escape(name)));
        Ok((name.clone(), call.query("stream", "0").json()?))
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = names.iter().map(|name| scope.spawn(move || sample(name))).collect();
        let gone = || Err(Failure::refused("a thread of this client failed"));
        threads.into_iter().map(|t| t.join().unwrap_or_else(|_| gone())).collect()
    })
}

/// A table that is redrawn until all containers are gone or somebody interrupts.
fn stream(
    client: &Client,
    names: &[String],
    show: impl Fn(&[(String, Json)]) -> Result<String, Failure>,
) -> Outcome {
    let latest: Mutex<HashMap<&str, Json>> = Mutex::new(HashMap::new());
    let terminal = term::is_terminal(rustix::stdio::stdout());
    std::thread::scope(|scope| {
        let threads: Vec<_> = names
            .iter()
            .map(|name| {
                let latest = &latest;
                scope.spawn(move || follow(client, name, latest))
            })
            .collect();
        loop {
            std::thread::sleep(REDRAW);
            let samples: Vec<(String, Json)> = match latest.lock() {
                Ok(latest) => {
                    names.iter().filter_map(|n| Some((n.clone(), latest.get(n.as_str())?.clone()))).collect()
                }
                Err(_) => return Err(Failure::refused("a thread of this client failed")),
            };
            let mut text = show(&samples)?;
            if terminal {
                // Home, the table with every line's rest cleared, and what was below it cleared.
                text = format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n"));
            }
            let mut stdout = std::io::stdout();
            if let Err(e) = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
                // The threads below would go on reading for nobody.
                if e.kind() == std::io::ErrorKind::BrokenPipe {
                    term::die_of_broken_pipe();
                }
                return Err(e.into());
            }
            if threads.iter().all(std::thread::ScopedJoinHandle::is_finished) {
                return threads.into_iter().try_for_each(|t| t.join().unwrap_or(Ok(())));
            }
        }
    })
}

fn follow<'a>(client: &Client, name: &'a str, latest: &Mutex<HashMap<&'a str, Json>>) -> Outcome {
    let call = client.get(format!("/containers/{}/stats", escape(name)));
    let mut response = call.query("stream", "1").send()?;
    let outcome = each_document(&mut response.body, |sample| {
        if let Ok(mut latest) = latest.lock() {
            latest.insert(name, sample.clone());
        }
        Ok(())
    });
    if let Ok(mut latest) = latest.lock() {
        latest.remove(name);
    }
    outcome
}

fn row(name: &str, sample: &Json, full: bool) -> Row {
    let id = sample.str("id");
    let memory = memory_used(sample.get("memory_stats")) as f64;
    let limit = sample.get("memory_stats").int("limit") as f64;
    let percent = |n: f64| format!("{n:.2}%");
    let (received, sent) = network(sample);
    let (read, written) = block(sample);
    Row::default()
        .text("ID", if full { id } else { short_id(id) })
        .text("Container", name)
        .text("Name", sample.str("name").trim_start_matches('/'))
        .text("CPUPerc", percent(cpu(sample)))
        .text("MemUsage", format!("{} / {}", bytes_size(memory), bytes_size(limit)))
        .text("MemPerc", percent(if limit > 0.0 { memory / limit * 100.0 } else { 0.0 }))
        .text("NetIO", format!("{} / {}", human_size_3(received), human_size_3(sent)))
        .text("BlockIO", format!("{} / {}", human_size_3(read), human_size_3(written)))
        .text("PIDs", sample.get("pids_stats").int("current").to_string())
}

/// Share of one CPU between the two samples that the engine sends together.
fn cpu(sample: &Json) -> f64 {
    let (now, before) = (sample.get("cpu_stats"), sample.get("precpu_stats"));
    let of = |s: &Json| s.get("cpu_usage").int("total_usage") as f64;
    let used = of(now) - of(before);
    let passed = now.int("system_cpu_usage") as f64 - before.int("system_cpu_usage") as f64;
    let cpus = match now.int("online_cpus") {
        0 => now.at(&["cpu_usage", "percpu_usage"]).array().len() as f64,
        n => n as f64,
    };
    if used > 0.0 && passed > 0.0 { used / passed * cpus * 100.0 } else { 0.0 }
}

/// Memory without the page cache that can be had back at any time.
fn memory_used(memory: &Json) -> i64 {
    let usage = memory.int("usage");
    let stats = memory.get("stats");
    let cache = match stats.get("total_inactive_file") {
        Json::Number(_) => stats.int("total_inactive_file"),
        _ => stats.int("inactive_file"),
    };
    if cache < usage { usage - cache } else { usage }
}

fn network(sample: &Json) -> (f64, f64) {
    let sum = |key: &str| sample.get("networks").members().iter().map(|(_, n)| n.int(key) as f64).sum();
    (sum("rx_bytes"), sum("tx_bytes"))
}

fn block(sample: &Json) -> (f64, f64) {
    let mut totals = (0.0, 0.0);
    for entry in sample.at(&["blkio_stats", "io_service_bytes_recursive"]).array() {
        let value = entry.int("value") as f64;
        match entry.str("op").chars().next() {
            Some('r' | 'R') => totals.0 += value,
            Some('w' | 'W') => totals.1 += value,
            _ => {}
        }
    }
    totals
}
