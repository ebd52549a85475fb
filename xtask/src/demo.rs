//! The founding example, step by step, on this very machine; then a fork.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::daemon::Daemon;
use crate::leaks::Snapshot;
use crate::{build, packages, shell};

/// Name of the demo's daemon, directories and bridge.
const NAME: &str = "seacow-demo";

const DOCKERFILE: &str = "FROM host\nRUN echo \"original text\" > /base_file.txt\n";

/// Runs it; fails when a step shows something else than it should.
pub(crate) fn run() -> Result<()> {
    let dist = build::given_or_dist()?;
    shell::become_root()?;
    packages::ensure(&["procps", "python3-minimal"], "docker top (ps); what is forked")?;
    let before = Snapshot::take();
    {
        let daemon = Daemon::start(&dist, NAME)?;
        let context = BuildContext::new()?;
        let demo = Demo { seacow: dist.join("seacow"), host: daemon.host() };
        demo.founding_example(&context.dir)
            .map_err(|error| error.context(format!("the daemon's log:\n{}", daemon.log())))?;
    }
    before.check()
}

/// A build context of two lines.
struct BuildContext {
    dir: PathBuf,
}

impl BuildContext {
    fn new() -> Result<Self> {
        let dir = shell::target().join("demo-context");
        std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        std::fs::write(dir.join("Dockerfile"), DOCKERFILE)?;
        Ok(Self { dir })
    }
}

impl Drop for BuildContext {
    fn drop(&mut self) {
        // Nothing of value is in it, and the next demo writes it anew.
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

/// Some 90 MB of CPython's memory, and a number every tenth of a second.
const COUNTER: &str = "import time
data = {i: [i, str(i), float(i)] for i in range(300000)}
n = 0
while True:
    n += 1
    data[n] = [n, str(n), float(n)]
    print(n)
    time.sleep(0.1)
";

/// How long a counter may take for a few numbers.
const COUNTS_WITHIN: Duration = Duration::from_secs(60);

/// Memory of a process, in kilobytes.
struct Memory {
    resident: u64,
    own: u64,
}

impl Memory {
    fn of(pid: &str) -> Result<Self> {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        let field = |name: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
        };
        Ok(Self { resident: field("Rss:"), own: field("Private_Clean:") + field("Private_Dirty:") })
    }
}

struct Demo {
    seacow: PathBuf,
    host: String,
}

impl Demo {
    fn founding_example(&self, context: &Path) -> Result<()> {
        heading("An image: the live file system of this machine, and one file more");
        print!("{DOCKERFILE}");
        self.show(&["build", "-t", "base-image", &context.to_string_lossy()])?;

        heading("Two containers of it");
        self.show(&["run", "-d", "--name", "container1", "base-image", "tail", "-f", "/dev/null"])?;
        self.show(&["run", "-d", "--name", "container2", "base-image", "tail", "-f", "/dev/null"])?;
        self.show(&["ps"])?;

        heading("One of them changes the file; the other does not notice");
        self.show(&["exec", "container1", "sh", "-c", "echo 'changed in container1' > /base_file.txt"])?;
        self.expect(&["exec", "container1", "cat", "/base_file.txt"], "changed in container1\n")?;
        self.expect(&["exec", "container2", "cat", "/base_file.txt"], "original text\n")?;
        self.expect(&["run", "--rm", "base-image", "cat", "/base_file.txt"], "original text\n")?;
        self.show(&["diff", "container1"])?;

        heading("The copy-on-write ledger: what is shared, what was copied");
        self.show(&["cow"])?;

        heading("Clean up");
        self.show(&["rm", "-f", "container1", "container2"])?;
        self.show(&["rmi", "base-image"])?;
        self.forks()
    }

    /// A Python that counts, with 300,000 objects, and ten that go on from where it is.
    fn forks(&self) -> Result<()> {
        heading("What no other engine does: a running container, forked ten times, memory and all");
        print!("{COUNTER}");
        self.show(&["run", "-d", "--name", "counter", "host", "python3", "-u", "-c", COUNTER])?;
        self.await_count("counter", 3)?;
        self.show(&["fork", "-n", "10", "--name", "fork", "counter"])?;
        let before = self.count("counter")?;
        let names: Vec<String> = std::iter::once("counter".to_owned())
            .chain((1..=10).map(|number| format!("fork-{number}")))
            .collect();

        heading("Each goes on counting by itself");
        for name in &names {
            self.await_count(name, before + 3)?;
            let log = self.quiet(&["logs", name])?;
            let first = log.lines().next().unwrap_or_default();
            println!("{name:<9} began its log with {first:>3}, is at {}", self.count(name)?);
        }

        heading("The ledger of memory: what is shared, what each has of its own");
        println!("{:<9} {:>12} {:>12} {:>12}", "", "resident", "shared", "own");
        for name in &names {
            let memory = Memory::of(self.quiet(&["inspect", "-f", "{{.State.Pid}}", name])?.trim())?;
            if name != "counter" && memory.own * 2 > memory.resident {
                bail!("{name} has {} kB of its own of {} kB", memory.own, memory.resident);
            }
            let shared = memory.resident - memory.own;
            println!("{name:<9} {:>9} kB {shared:>9} kB {:>9} kB", memory.resident, memory.own);
        }

        heading("Clean up");
        let mut remove = vec!["rm", "-f"];
        remove.extend(names.iter().map(String::as_str));
        self.show(&remove)?;
        Ok(())
    }

    /// How far a container has counted.
    fn count(&self, name: &str) -> Result<u64> {
        let log = self.quiet(&["logs", "--tail", "1", name])?;
        Ok(log.trim().parse().unwrap_or(0))
    }

    fn await_count(&self, name: &str, wanted: u64) -> Result<()> {
        let until = Instant::now() + COUNTS_WITHIN;
        while self.count(name)? < wanted {
            if Instant::now() > until {
                bail!("{name} does not count");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Runs a command for its output.
    fn quiet(&self, args: &[&str]) -> Result<String> {
        let result = Command::new(&self.seacow).args(["-H", &self.host]).args(args).output()?;
        if !result.status.success() {
            bail!("seacow {} failed: {}", quoted(args), String::from_utf8_lossy(&result.stderr));
        }
        Ok(String::from_utf8(result.stdout)?)
    }

    /// Runs a command and shows it, its output and how long it took.
    fn show(&self, args: &[&str]) -> Result<String> {
        println!("\n$ seacow {}", quoted(args));
        let start = Instant::now();
        let result = Command::new(&self.seacow)
            .args(["-H", &self.host])
            .args(args)
            .output()
            .with_context(|| format!("run {}", self.seacow.display()))?;
        let elapsed = start.elapsed();
        let stdout = String::from_utf8_lossy(&result.stdout).into_owned();
        print!("{stdout}{}", String::from_utf8_lossy(&result.stderr));
        println!("  ({:.1} ms)", elapsed.as_secs_f64() * 1e3);
        if !result.status.success() {
            bail!("seacow {} failed: {}", quoted(args), result.status);
        }
        Ok(stdout)
    }

    fn expect(&self, args: &[&str], wanted: &str) -> Result<()> {
        let got = self.show(args)?;
        if got != wanted {
            bail!("seacow {} printed {got:?}, not {wanted:?}", quoted(args));
        }
        Ok(())
    }
}

fn heading(text: &str) {
    println!("\n== {text}");
}

fn quoted(args: &[&str]) -> String {
    let words = args.iter().map(|arg| {
        if arg.contains([' ', '\'', '"', '>']) {
            format!("\"{}\"", arg.replace('"', "\\\""))
        } else {
            (*arg).to_owned()
        }
    });
    words.collect::<Vec<_>>().join(" ")
}
