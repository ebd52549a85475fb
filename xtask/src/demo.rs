//! The founding example, step by step, on this very machine.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::daemon::Daemon;
use crate::leaks::Snapshot;
use crate::{build, packages, shell};

/// Name of the demo's daemon, directories and bridge.
const NAME: &str = "seacow-demo";

const DOCKERFILE: &str = "FROM host\nRUN echo \"original text\" > /base_file.txt\n";

/// Runs it; fails when a step shows something else than it should.
pub(crate) fn run() -> Result<()> {
    let dist = build::dist()?;
    shell::become_root()?;
    packages::ensure(&["procps"], "docker top (ps)")?;
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
        Ok(())
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
