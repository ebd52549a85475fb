//! `seacow-shim`: parent of one container, and of those that are forked from it.
//!
//! It makes the container's first process (with the runtime, in-process), owns its standard
//! streams, log and exit status, and outlives the daemon that started it. One thread, epoll, no
//! async runtime; idle it costs a few dozen kilobytes. The protocol is
//! [`seacow_spec::shim`], drawn in `docs/design/shim-protocol.md`.
//!
//! It does *not* know images, networks, names or restart policies, and decides nothing: a daemon
//! asks, the shim does. The one thing it does unasked is to end when the daemon that made a
//! container goes before it asked for a start.
//!
//! | module | what |
//! |---|---|
//! | [`serve`] | the loop, requests, exits, deletion |
//! | [`runtime`] | the seam to the runtime: which one it is |
//! | [`container`] | a container of our own runtime |
//! | [`foreign`] | a container of another OCI runtime |
//! | [`group`] | all processes of either, by their cgroups |
//! | [`conn`] | a daemon's connection |
//! | [`io`] | standard streams and attached clients |
//! | [`log`] | json-file log with rotation |
//! | [`dir`] | files of the exec directory |
//! | [`poll`] | epoll |
//! | [`cleanup`] | `--cleanup`: what is left of a shim that was killed |
#![forbid(unsafe_code)]

mod cleanup;
mod conn;
mod container;
mod dir;
mod foreign;
mod group;
mod io;
mod log;
mod poll;
mod runtime;
mod serve;

use std::ffi::OsString;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::net::SocketType;
use rustix::net::sockopt::socket_type;
use seacow_spec::shim::PROTOCOL_VERSION;

#[global_allocator]
static HEAP: seacow_sys::heap::Heap = seacow_sys::heap::Heap;

const USAGE: &str = "\
usage: seacow-shim --dir DIR       be the parent of a container; the daemon's socket is standard input
       seacow-shim --cleanup DIR   remove what is left of a container whose shim was killed
       seacow-shim --version
       seacow-shim --help
";

/// What the command line asks for.
enum Command {
    Serve(PathBuf),
    Cleanup(PathBuf),
    Version,
    Help,
}

/// Why it could not be done.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Usage(String),
    #[error("standard input is not the daemon's socket")]
    NoSocket,
    #[error("{0}: {1}")]
    Setup(&'static str, #[source] std::io::Error),
    #[error(transparent)]
    Dir(#[from] dir::DirError),
    #[error(transparent)]
    Cleanup(#[from] cleanup::CleanupError),
    #[error(transparent)]
    Serve(#[from] serve::ServeError),
}

fn main() -> ExitCode {
    match parse(std::env::args_os().skip(1)).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&failure);
            ExitCode::from(if matches!(failure, Failure::Usage(_)) { 2 } else { 1 })
        }
    }
}

#[inline(never)]
fn parse(mut arguments: impl Iterator<Item = OsString>) -> Result<Command, Failure> {
    let usage = |text: &str| Failure::Usage(format!("{text}\n{USAGE}"));
    let word = arguments.next().ok_or_else(|| usage("nothing to do"))?;
    let mut directory = || arguments.next().map(PathBuf::from).ok_or_else(|| usage("DIR is missing"));
    let command = match word.to_str() {
        Some("--dir") => Command::Serve(directory()?),
        Some("--cleanup") => Command::Cleanup(directory()?),
        Some("--version" | "-v") => Command::Version,
        Some("--help" | "-h") => Command::Help,
        Some(_) | None => return Err(usage(&format!("unknown option {word:?}"))),
    };
    match arguments.next() {
        None => Ok(command),
        Some(extra) => Err(usage(&format!("unexpected argument {extra:?}"))),
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve(dir) => serve(&dir),
        Command::Cleanup(dir) => clean_up(&dir),
        Command::Version => {
            print(&format!("seacow-shim {} (protocol {PROTOCOL_VERSION})\n", env!("CARGO_PKG_VERSION")))
        }
        Command::Help => print(USAGE),
    }
}

/// Not inlined, nor are the two below: a shim's stack is as deep as the deepest of what its `main`
/// could do, for ever.
#[inline(never)]
fn clean_up(dir: &Path) -> Result<(), Failure> {
    Ok(cleanup::cleanup(&dir::Dir::open(dir)?)?)
}

#[inline(never)]
fn print(text: &str) -> Result<(), Failure> {
    std::io::stdout().write_all(text.as_bytes()).map_err(|error| Failure::Setup("write", error))
}

fn serve(dir: &Path) -> Result<(), Failure> {
    Ok(set_up(dir)?.run()?)
}

/// A word for whoever looks into the standard error of a shim. Not `eprintln!`, which panics when
/// that is a full disk or the pipe of a daemon that is gone.
#[inline(never)]
fn complain(error: &dyn std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "seacow-shim: {error}");
}

/// Leaves the daemon's session and takes its socket. Not inlined: its caller stays on the stack.
#[inline(never)]
fn set_up(dir: &Path) -> Result<serve::Shim, Failure> {
    let failed = |step| move |errno: rustix::io::Errno| Failure::Setup(step, errno.into());
    // Whatever was leaked to us must not reach the container (CVE-2024-21626).
    seacow_sys::process::close_on_exec_from(3).map_err(failed("mark inherited descriptors"))?;
    let daemon = take_socket()?;
    // Executed from a memory file, we would show as that file's descriptor number.
    let _ = rustix::thread::set_name(c"seacow-shim");
    // A session and process group of our own: the daemon's terminal, and signals to its group, do
    // not reach us. EPERM: we lead a group already.
    let _ = seacow_sys::process::new_session();
    // Started from a sealed memory file, we would be called after its descriptor.
    rustix::thread::set_name(c"seacow-shim").map_err(failed("set own name"))?;
    let dir = dir::Dir::open(dir)?;
    std::env::set_current_dir("/").map_err(|error| Failure::Setup("change to /", error))?;
    Ok(serve::Shim::new(dir, daemon)?)
}

/// Standard input, moved out of the way of the standard streams.
fn take_socket() -> Result<OwnedFd, Failure> {
    let failed = |error: std::io::Error| Failure::Setup("take standard input", error);
    // Not by std's handle on it, which would take a buffer for reading.
    let socket = rustix::stdio::stdin().try_clone_to_owned().map_err(failed)?;
    if socket_type(&socket) != Ok(SocketType::STREAM) {
        return Err(Failure::NoSocket);
    }
    let null = std::fs::File::open("/dev/null").map_err(failed)?;
    rustix::stdio::dup2_stdin(&null).map_err(|errno| failed(errno.into()))?;
    Ok(socket)
}
