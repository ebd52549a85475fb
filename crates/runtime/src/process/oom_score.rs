//! How willingly the kernel's OOM killer picks a process.

use seacow_sys::Errno;

use crate::error::{Error, Step};

/// Writes the score. Docker writes 0 for everybody: where lowering to it is not permitted (no
/// CAP_SYS_RESOURCE, and we ourselves were made more killable) it stays; another value was asked
/// for and its refusal is an error.
pub(crate) fn set(score: Option<i32>) -> Result<(), Error> {
    let Some(score) = score else { return Ok(()) };
    match std::fs::write("/proc/self/oom_score_adj", score.to_string()) {
        Err(error) if score == 0 && error.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
        done => done
            .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))
            .step(|| format!("set oom_score_adj {score}")),
    }
}
