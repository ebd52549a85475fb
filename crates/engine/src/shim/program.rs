//! The shim's program as a sealed memory file.
//!
//! A container can get hold of the program that entered it: it names `/proc/self/exe` as what to
//! execute, keeps a descriptor of it, and overwrites it once nobody runs it any more
//! (CVE-2019-5736). What all our shims run from is therefore a copy in memory that nobody can
//! write to; the file on disk is never executed in a container. Its pages are shared by all shims.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{MemfdFlags, SealFlags};

/// What `ps` shows of a shim.
pub(crate) const NAME: &str = "seacow-shim";

/// The program, ready to be executed any number of times.
#[derive(Debug)]
pub(crate) struct Program {
    memory: OwnedFd,
}

impl Program {
    /// Copies the program at `path`.
    pub(crate) fn load(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let mut memory = File::from(memory_file()?);
        io::copy(&mut file, &mut memory)?;
        let all = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
        rustix::fs::fcntl_add_seals(&memory, all)?;
        Ok(Self { memory: memory.into() })
    }

    /// A path that a child of ours can execute: it is looked up before descriptors are closed.
    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.memory.as_raw_fd()).into()
    }
}

fn memory_file() -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Since Linux 6.3 a kernel may be told to refuse executing memory files that do not say so.
    match rustix::fs::memfd_create(NAME, flags | MemfdFlags::EXEC) {
        Err(rustix::io::Errno::INVAL) => Ok(rustix::fs::memfd_create(NAME, flags)?),
        made => Ok(made?),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn it_runs_and_cannot_be_written_to() {
        let program = Program::load(Path::new("/bin/echo")).unwrap();
        let output = std::process::Command::new(program.path()).arg("hi").output().unwrap();
        assert_eq!(output.stdout, b"hi\n");
        // Root may open it for writing all the same; the seal is what refuses.
        let mut file = File::options().write(true).open(program.path()).unwrap();
        assert_eq!(file.write(b"x").unwrap_err().raw_os_error(), Some(1));
    }
}
