//! A process in numbers.

use std::path::PathBuf;

use seacow_spec::oci::runtime::{Capabilities, ConsoleSize, Process, User};
use seacow_spec::shim::Stdio;
use seacow_sys::cred::{self, Caps};
use seacow_sys::rooted::Root;

use crate::error::{Error, Step};
use crate::process::user;

/// `process` as a runtime takes it: the user looked up in the root file system, `HOME` set where
/// the environment has none, the terminal's size.
///
/// # Errors
/// The user or a group does not exist.
pub fn process(
    root: &Root,
    process: &Process,
    user: &str,
    groups: &[String],
    stdio: Stdio,
) -> Result<Process, Error> {
    let who = user::resolve(root, user, groups)?;
    let mut process = process.clone();
    if !process.env.iter().any(|entry| entry.starts_with("HOME=")) {
        process.env.push(format!("HOME={}", who.home));
    }
    process.user = User { uid: who.uid, gid: who.gid, umask: None, additional_gids: who.groups };
    if let Some(sets) = &mut process.capabilities {
        // Where we lack some, runtimes would fail; ours leaves them out as well.
        let available = cred::bounding().step(|| "read the bounding set".into())?;
        let there = |name: &String| Caps::named(name).is_some_and(|one| one & available == one);
        let Capabilities { bounding, effective, inheritable, permitted, ambient } = sets;
        for set in [bounding, effective, inheritable, permitted, ambient] {
            set.retain(there);
        }
    }
    process.terminal = stdio.terminal;
    if stdio.terminal && stdio.rows != 0 {
        process.console_size = Some(ConsoleSize { height: stdio.rows, width: stdio.cols });
    }
    Ok(process)
}

/// As [`process`], in the root file system of a running container.
///
/// # Errors
/// As [`process`], or the container has ended.
pub fn process_in(
    pid: i32,
    base: &Process,
    user: &str,
    groups: &[String],
    stdio: Stdio,
) -> Result<Process, Error> {
    let root = Root::open(&PathBuf::from(format!("/proc/{pid}/root")))
        .step(|| format!("open the root of process {pid}"))?;
    process(&root, base, user, groups, stdio)
}
