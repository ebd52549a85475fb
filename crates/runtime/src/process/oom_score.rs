//! How willingly the kernel's OOM killer picks a process.

use std::path::Path;

use seacow_sys::Errno;

use crate::error::{Error, Step};
use crate::rights;

/// Writes the score. Docker writes 0 for everybody: where lowering to it is not permitted (no
/// CAP_SYS_RESOURCE, and we ourselves were made more killable) it stays; another value was asked
/// for and its refusal is an error.
pub(crate) fn set(score: Option<i32>) -> Result<(), Error> {
    write("/proc/self/oom_score_adj".as_ref(), score)
}

/// As [`set`], of a process that has no right to do it itself.
pub(crate) fn set_of(pid: i32, score: Option<i32>) -> Result<(), Error> {
    write(format!("/proc/{pid}/oom_score_adj").as_ref(), score)
}

fn write(file: &Path, score: Option<i32>) -> Result<(), Error> {
    let Some(score) = score else { return Ok(()) };
    let soft = || score == 0 || rights::are_limited();
    match std::fs::write(file, score.to_string()) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied && soft() => Ok(()),
        done => done
            .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))
            .step(|| format!("set oom_score_adj {score}")),
    }
}
