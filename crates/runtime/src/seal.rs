//! Our own binary as a sealed memory file.
//!
//! A container can get hold of the binary that entered it (`/proc/<pid>/exe`, CVE-2019-5736). When
//! that binary is a sealed memory file, nobody can write to it, and the file on disk is out of
//! reach. Whoever starts many shims makes one such file and starts all from it; a program that
//! starts itself once re-executes.

use std::ffi::CString;
use std::io::Seek;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags};
use seacow_sys::{Errno, process};

use crate::error::{Error, Step};

/// The sealed copy of the running binary.
pub fn copy_of_self() -> Result<OwnedFd, Error> {
    let mut own = std::fs::File::open("/proc/self/exe").step(|| "open own binary".into())?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels that may forbid executing memory files want to be told (Linux 6.3).
    let memory = match rustix::fs::memfd_create("seacow-sealed", flags | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => rustix::fs::memfd_create("seacow-sealed", flags),
        made => made,
    }
    .step(|| "make a memory file".into())?;
    let mut memory = std::fs::File::from(memory);
    std::io::copy(&mut own, &mut memory).step(|| "copy own binary".into())?;
    memory.rewind().step(|| "rewind the memory file".into())?;
    rustix::fs::fcntl_add_seals(&memory, ALL_SEALS).step(|| "seal the memory file".into())?;
    Ok(memory.into())
}

const ALL_SEALS: SealFlags =
    SealFlags::SEAL.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::WRITE);

/// Whether the running binary is sealed.
pub fn is_sealed() -> Result<bool, Error> {
    let own = std::fs::File::open("/proc/self/exe").step(|| "open own binary".into())?;
    match rustix::fs::fcntl_get_seals(&own) {
        Ok(seals) => Ok(seals.contains(ALL_SEALS)),
        // Not a memory file.
        Err(Errno::INVAL) => Ok(false),
        Err(errno) => Err(errno).step(|| "read seals of own binary".into()),
    }
}

/// Re-executes the running program from a sealed copy, with the same arguments and environment;
/// does nothing when it runs from one.
pub fn ensure() -> Result<(), Error> {
    if is_sealed()? {
        return Ok(());
    }
    let copy = copy_of_self()?;
    let args = strings(std::env::args_os())?;
    let env = strings(std::env::vars_os().map(|(key, value)| {
        let mut both = key;
        both.push("=");
        both.push(value);
        both
    }))?;
    Err(Error::step("execute own sealed binary", process::execve_fd(copy.as_fd(), &args, &env)))
}

fn strings(all: impl Iterator<Item = std::ffi::OsString>) -> Result<Vec<CString>, Error> {
    all.map(|s| CString::new(s.into_encoded_bytes()).map_err(|_| Error::step("copy arguments", Errno::INVAL)))
        .collect()
}
