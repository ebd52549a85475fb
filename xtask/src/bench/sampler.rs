//! Runs command lines and times them, here or inside a peer's namespaces.
//!
//! A peer that needs a mount or network namespace of its own gets a child of this very program in
//! there. It takes one request per line on standard input, measures by itself and answers with a
//! line: entering the namespaces is in nobody's figures.
//!
//! ```text
//! bench                                        sampler
//!   │ ── {"run": ["podman", "run", …]} ──────▶ │
//!   │ ◀─ {"us": 190123.4} | {"error": "…"} ─── │
//!   │ ── {"load": […], "ms": 5000} ──────────▶ │  8 in flight
//!   │ ◀─ {"rate": 8.1} | {"error": "…"} ────── │
//! ```

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::shell;

/// Hidden word of the command line that serves as a sampler.
pub(crate) const COMMAND: &str = "sampler";
/// How many commands run at once under load.
pub(crate) const IN_FLIGHT: usize = 8;

/// Runs a command line to its end; fails when it fails.
pub(crate) fn time(words: &[String]) -> Result<Duration> {
    let (program, args) = words.split_first().context("an empty command line")?;
    let mut command = Command::new(program);
    command.args(args);
    let start = Instant::now();
    shell::output(&mut command)?;
    Ok(start.elapsed())
}

/// Runs a command line for so long with [`IN_FLIGHT`] at once; how many ended per second.
pub(crate) fn load(words: &[String], duration: Duration) -> Result<f64> {
    let ended = AtomicUsize::new(0);
    let start = Instant::now();
    let worker = || -> Result<()> {
        while start.elapsed() < duration {
            time(words)?;
            ended.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..IN_FLIGHT).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_for_each(|handle| match handle.join() {
            Ok(result) => result,
            Err(_) => bail!("a worker panicked"),
        })
    })?;
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let count = ended.load(Ordering::Relaxed) as f64;
    Ok(count / start.elapsed().as_secs_f64())
}

/// Answers requests until standard input ends.
pub(crate) fn serve() -> Result<()> {
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let answer = match answer(&line?) {
            Ok(answer) => answer,
            Err(error) => json!({ "error": format!("{error:#}") }),
        };
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

fn answer(line: &str) -> Result<Value> {
    let request: Value = serde_json::from_str(line)?;
    let words = |key: &str| -> Option<Vec<String>> { serde_json::from_value(request.get(key)?.clone()).ok() };
    if let Some(words) = words("run") {
        return Ok(json!({ "us": time(&words)?.as_secs_f64() * 1e6 }));
    }
    let words = words("load").context("neither run nor load")?;
    let ms = request.get("ms").and_then(Value::as_u64).context("how long?")?;
    Ok(json!({ "rate": load(&words, Duration::from_millis(ms))? }))
}

/// A sampler in a child process.
pub(crate) struct Sampler {
    pipes: RefCell<(ChildStdin, BufReader<ChildStdout>)>,
    child: RefCell<Child>,
}

impl Sampler {
    /// Starts one after `setup`, a shell script that runs in new mount and, if asked, network
    /// namespaces. What the script prints goes to our error output.
    pub(crate) fn start(setup: &str, network: bool) -> Result<Self> {
        let exe = std::env::current_exe().context("own path")?;
        let mut command = Command::new("unshare");
        command.arg("--mount").args(network.then_some("--net")).args(["sh", "-c"]);
        command.arg(format!("{{ {setup}\n}} >&2 && exec \"$0\" bench {COMMAND}")).arg(exe);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("start unshare")?;
        let stdin = child.stdin.take().context("no standard input")?;
        let stdout = child.stdout.take().context("no standard output")?;
        Ok(Self { pipes: RefCell::new((stdin, BufReader::new(stdout))), child: RefCell::new(child) })
    }

    /// As [`time`], in there.
    pub(crate) fn time(&self, words: &[String]) -> Result<Duration> {
        let us = self.ask(&json!({ "run": words }))?.get("us").and_then(Value::as_f64).context("no time")?;
        Ok(Duration::from_secs_f64(us / 1e6))
    }

    /// As [`load`], in there.
    pub(crate) fn load(&self, words: &[String], duration: Duration) -> Result<f64> {
        let ms = u64::try_from(duration.as_millis())?;
        self.ask(&json!({ "load": words, "ms": ms }))?.get("rate").and_then(Value::as_f64).context("no rate")
    }

    fn ask(&self, request: &Value) -> Result<Value> {
        let (stdin, stdout) = &mut *self.pipes.borrow_mut();
        writeln!(stdin, "{request}").context("the sampler is gone")?;
        let mut line = String::new();
        if stdout.read_line(&mut line)? == 0 {
            bail!("the sampler ended: {}", self.child.borrow_mut().wait()?);
        }
        let answer: Value = serde_json::from_str(&line)?;
        match answer.get("error").and_then(Value::as_str) {
            Some(error) => bail!("{error}"),
            None => Ok(answer),
        }
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        let mut child = self.child.borrow_mut();
        // Between two requests it holds nothing: what it ran has ended.
        drop(child.kill());
        drop(child.wait());
    }
}
