//! `seacow-runtime`: the runtime as an OCI command line, with runc's verbs and flags.
//!
//! Global flags come before the command. Errors go to standard error and, as runc's callers expect,
//! to `--log` in `--log-format`.

#![forbid(unsafe_code)]

mod cli;

use std::process::ExitCode;

/// As in the shim: musl's own allocator gives single pages back and asks for them again.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    cli::run()
}
