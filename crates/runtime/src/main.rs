//! `seacow-runtime`: the runtime as an OCI command line, with runc's verbs and flags.
//!
//! Global flags come before the command. Errors go to standard error and, as runc's callers expect,
//! to `--log` in `--log-format`.

#![forbid(unsafe_code)]

mod cli;

use std::process::ExitCode;

#[global_allocator]
static HEAP: seacow_sys::heap::Heap = seacow_sys::heap::Heap;

fn main() -> ExitCode {
    cli::run()
}
