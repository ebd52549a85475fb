//! Memory of another process, by `/proc/PID/mem`.
//!
//! Not by process_vm_readv: that pins the pages, which makes the kernel copy those that the process
//! shares copy-on-write with others, so that looking at memory would double it.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::error::{Error, Result};
use crate::procfs;

/// An open `/proc/PID/mem`. It means the memory that the process had when it was opened, also after exec.
#[derive(Debug)]
pub(crate) struct Memory {
    pid: i32,
    file: File,
}

impl Memory {
    pub(crate) fn open(pid: i32) -> Result<Self> {
        Ok(Self { pid, file: procfs::open(pid, "mem", true)? })
    }

    pub(crate) fn read(&self, address: u64, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, address).map_err(|source| Error::Memory {
            pid: self.pid,
            address,
            source,
        })?;
        Ok(bytes)
    }

    pub(crate) fn read_word(&self, address: u64) -> Result<u64> {
        let bytes = self.read(address, 8)?;
        Ok(bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)))
    }

    /// Also where the process itself may not write: a private page is copied first.
    pub(crate) fn write(&self, address: u64, bytes: &[u8]) -> Result<()> {
        self.file.write_all_at(bytes, address).map_err(|source| Error::Memory {
            pid: self.pid,
            address,
            source,
        })
    }
}
