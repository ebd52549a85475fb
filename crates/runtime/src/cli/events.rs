//! `events`.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use seacow_runtime::cgroup::{BlockIoEntry, Cgroups, OomNews, Stats, Usage};
use seacow_sys::Errno;
use serde_json::{Map, Value, json};

use super::args::{Globals, Parsed};
use super::error::CliError;
use super::state::{self, StateDir, Status};

/// Prints statistics, once or at an interval with notices of the OOM killer between, one JSON object
/// a line, until the container ends.
pub(crate) fn events(globals: &Globals, parsed: &Parsed) -> Result<(), CliError> {
    let dir = StateDir::of(globals, parsed.id()?)?;
    let record = dir.read()?;
    let interval = match parsed.value("interval") {
        None => DEFAULT_INTERVAL,
        Some(text) => duration(text)
            .filter(|d| !d.is_zero())
            .ok_or_else(|| CliError::Usage(format!("--interval wants a duration above 0, not {text:?}")))?,
    };
    let stopped = || CliError::State(format!("container with id {} is not running", record.id));
    if dir.status(&record) == Status::Stopped {
        return Err(stopped());
    }
    let cgroups = record.cgroups()?;
    if parsed.has("stats") {
        return print(&stats_event(&record.id, &cgroups)?);
    }
    let init = state::open_init(&record).ok_or_else(stopped)?;
    watch(&record.id, &cgroups, &init, interval)
}

const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);

fn watch(id: &str, cgroups: &Cgroups, init: &OwnedFd, interval: Duration) -> Result<(), CliError> {
    let mut oom = cgroups.watch_oom()?;
    let mut next = Instant::now() + interval;
    // Until when a notice may still be followed by its kill.
    let mut expected = None;
    loop {
        let mut fds = vec![PollFd::new(init, PollFlags::IN)];
        if let Some(watch) = &oom {
            fds.push(PollFd::from_borrowed_fd(watch.as_fd(), watch.interest()));
        }
        let now = Instant::now();
        let wake = expected.map_or(next, |_| next.min(now + OOM_STEP));
        let wait = Timespec::try_from(wake.saturating_duration_since(now)).unwrap_or_default();
        match rustix::event::poll(&mut fds, Some(&wait)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(CliError::file("wait for", "events", errno)),
        }
        let ready = |at: usize| fds.get(at).is_some_and(|fd| !fd.revents().is_empty());
        let (ended, noticed) = (ready(0), ready(1));
        drop(fds);
        if noticed {
            expected = Some(Instant::now() + OOM_TIME);
        }
        if let (Some(until), Some(watch)) = (expected, &mut oom) {
            match watch.check() {
                Ok(OomNews::Killed | OomNews::Gone { killed_nearby: true }) => {
                    print(&json!({ "type": "oom", "id": id }))?;
                    expected = None;
                }
                Ok(OomNews::Nothing | OomNews::Pressure) if Instant::now() < until => {}
                Ok(OomNews::Nothing | OomNews::Pressure) => expected = None,
                // Its cgroup is being removed.
                Ok(OomNews::Gone { killed_nearby: false }) | Err(_) => (oom, expected) = (None, None),
            }
        }
        if ended {
            return Ok(());
        }
        if Instant::now() >= next {
            next = Instant::now() + interval;
            match stats_event(id, cgroups) {
                Ok(event) => print(&event)?,
                // It may just have gone; the next turn says.
                Err(error) => eprintln!("{}", error.line()),
            }
        }
    }
}

/// Version 1 tells when memory runs out, which is before somebody was killed for it.
const OOM_TIME: Duration = Duration::from_secs(2);
const OOM_STEP: Duration = Duration::from_millis(5);

/// One line. Keys in runc's order: type and id come first.
fn print(event: &Value) -> Result<(), CliError> {
    let mut line = String::from("{");
    for key in ["type", "id", "data"] {
        if let Some(value) = event.get(key) {
            let comma = if line.len() > 1 { "," } else { "" };
            line.push_str(&format!("{comma}\"{key}\":{value}"));
        }
    }
    line.push_str("}\n");
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|e| CliError::file("write", "standard output", e))
}

fn stats_event(id: &str, cgroups: &Cgroups) -> Result<Value, CliError> {
    Ok(json!({ "type": "stats", "id": id, "data": document(&cgroups.stats()?) }))
}

/// runc's document (its package types).
fn document(stats: &Stats) -> Value {
    let cpu = &stats.cpu;
    json!({
        "cpu": {
            "usage": {
                "total": cpu.total,
                "percpu": cpu.per_cpu,
                "kernel": cpu.kernel,
                "user": cpu.user,
            },
            "throttling": {
                "periods": cpu.periods,
                "throttledPeriods": cpu.throttled_periods,
                "throttledTime": cpu.throttled_time,
            },
        },
        "memory": {
            "cache": stats.memory.cache,
            "usage": usage(stats.memory.usage),
            "swap": usage(stats.memory.swap),
            "kernel": usage(stats.memory.kernel),
            "kernelTCP": usage(stats.memory.kernel_tcp),
            "raw": stats.memory.all,
        },
        "pids": { "current": stats.pids.now, "limit": stats.pids.limit },
        "blkio": {
            "ioServiceBytesRecursive": block(&stats.block_io.bytes),
            "ioServicedRecursive": block(&stats.block_io.operations),
        },
        "hugetlb": huge_pages(stats),
        "intel_rdt": {},
        "network_interfaces": null,
    })
}

fn usage(of: Usage) -> Value {
    json!({ "limit": of.limit, "usage": of.now, "max": of.highest, "failcnt": of.failed })
}

fn block(entries: &[BlockIoEntry]) -> Value {
    let one =
        |e: &BlockIoEntry| json!({ "major": e.major, "minor": e.minor, "op": e.operation, "value": e.value });
    entries.iter().map(one).collect()
}

fn huge_pages(stats: &Stats) -> Value {
    let one = |u: &Usage| json!({ "usage": u.now, "max": u.highest, "failcnt": u.failed });
    Value::Object(stats.huge_pages.iter().map(|(size, u)| (size.clone(), one(u))).collect::<Map<_, _>>())
}

/// A duration as Go writes it: `300ms`, `1.5s`, `2m30s`.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let (number, after) = rest.split_at(digits);
        let unit_len = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_len);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        sum += number.parse::<f64>().ok()? * seconds;
        rest = after;
    }
    if text.is_empty() { None } else { Duration::try_from_secs_f64(sum).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("300ms"), Some(Duration::from_millis(300)));
        assert_eq!(duration("2m30s"), Some(Duration::from_secs(150)));
        assert_eq!(duration("1.5s"), Some(Duration::from_millis(1500)));
        for wrong in ["", "5", "s", "5 s", "-1s", "1x"] {
            assert_eq!(duration(wrong), None, "{wrong:?}");
        }
    }
}
