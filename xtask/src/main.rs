//! `cargo xtask`: everything a developer does with this repository, in one place.
//!
//! | command | what it does |
//! |---|---|
//! | `demo` | builds, starts a daemon of its own, runs the founding example step by step, cleans up |
//! | `test` | unit, integration and end-to-end tests, then looks for anything left behind |
//! | `oracle` | lets Debian's dockerd take the end-to-end tests |
//! | `runtimes` | the end-to-end tests with other runtimes, and ours under other engines |
//! | `build` | leaves `seacow`, `seacowd`, `seacow-shim`, `seacow-runtime`, `seacow-init` in `target/dist/` |
//! | `conformance` | lets public suites judge the runtime |
//! | `arch` | checks who links whom, where async and unsafe may be |
//! | `bench` | measures against Docker, podman and bare runtimes in one interleaved run |
//! | `vm` | runs the tests in a virtual machine with cgroup version 2, without and with systemd |
//!
//! Debian packages that a command needs and the machine lacks are installed by it, and named.
#![forbid(unsafe_code)]

mod arch;
mod bench;
mod build;
mod conformance;
mod daemon;
mod demo;
mod leaks;
mod packages;
mod runtimes;
mod shell;
mod test;
mod vm;

use std::process::ExitCode;

const USAGE: &str = "Usage: cargo xtask <command>

  demo                 the founding example, step by step, with the copy-on-write ledger
  test [-- ARGS]       all tests and the leak check; ARGS go to the test runner
  oracle [-- ARGS]     the end-to-end tests against Debian's dockerd instead of ours
  runtimes [-- ARGS]   the end-to-end tests with runc, crun and our own command under our shim, and with
                       our runtime under podman and dockerd
  build                release binaries in target/dist/
  conformance [SUITE] [--runtime seacow|runc|crun] [PART…]
                       runc-bats and runtime-tools against a runtime; see docs/conformance.md
  arch                 link edges, async and unsafe where they belong, house lints
  bench start [...]    what containers cost, against dockerd, podman and bare runtimes in one run;
                       --only SECTION, --rounds N, --quick, --trace
  bench vm [N]         run --rm against dockerd in a virtual machine with cgroup version 2 and systemd
  vm [HOW…] [--subset] [-- FILTER…]
                       the tests in a virtual machine that boots HOW: cgroupfs (version 2, no systemd),
                       systemd (version 2), hybrid (versions 1 and 2); default the first two. Without
                       --subset and FILTER that is the whole suite.
                       FILTER: a test binary, binary::test, or a part of tests' names
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let rest = args.get(1..).unwrap_or_default();
    let outcome = match args.first().map(String::as_str) {
        Some("demo") => demo::run(),
        Some("test") => test::run(rest),
        Some("oracle") => test::oracle(rest),
        Some("runtimes") => runtimes::run(rest),
        Some("build") => build::dist().map(|dist| println!("built {}", dist.display())),
        Some("arch") => arch::check(),
        Some("conformance") => conformance::run(rest),
        Some("bench") => bench::run(rest),
        Some("vm") => vm::run(rest),
        Some("help" | "--help" | "-h") => {
            print!("{USAGE}");
            Ok(())
        }
        Some(other) => Err(anyhow::anyhow!("unknown command {other:?}\n\n{USAGE}")),
        None => Err(anyhow::anyhow!("no command given\n\n{USAGE}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
