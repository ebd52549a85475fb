//! Turning libc's answers into results.

use crate::Errno;

/// A negative answer of a libc wrapper means: look at errno.
pub(crate) fn check(result: libc::c_long) -> Result<libc::c_long, Errno> {
    if result < 0 { Err(last()) } else { Ok(result) }
}

/// The calling thread's errno.
pub(crate) fn last() -> Errno {
    std::io::Error::last_os_error().raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error)
}
