//! A copy of the memory by one fork of the shadow.

use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Instant;

use super::Shadow;
use crate::batch::{Area, Batch};
use crate::error::{Error, Result};
use crate::procfs::Mapping;
use crate::puppet::{self, Puppet};
use crate::snapshot;
use crate::source::Source;

/// A process with a copy-on-write copy of the memory, outside of the container, and of nothing else of the
/// source's.
#[derive(Debug)]
pub(crate) struct Copied {
    pub(crate) puppet: Puppet,
    /// Memory for lists that the source had then, and the copy has.
    pub(crate) scratch: Range<u64>,
    /// Where it is charged, if not where it is.
    pub(crate) charged: Option<OwnedFd>,
    /// How many of the source's filters it has.
    pub(crate) filters: usize,
    /// Ranges that no fork inherits, inherited by this one all the same.
    pub(crate) not_forked: Vec<Range<u64>>,
}

impl Shadow {
    /// Copies the memory of a source that stands still.
    pub(crate) fn fork(
        &mut self,
        source: &mut Source,
        mappings: &[Mapping],
        deadline: Instant,
    ) -> Result<Copied> {
        // The code for lists is where the source has it: it is the same memory.
        self.puppet.area = source.area()?;
        let scratch = source.scratch().ok_or(Error::Gone { pid: source.pid })?;
        let first = self.fork_with(&[], deadline)?;
        let charged = self.templates_memory.as_ref().map(|file| file.try_clone());
        let charged = charged.transpose().map_err(|_| Error::TooMany { what: "descriptors" })?;
        let filters = self.filters;
        let copied = |puppet, not_forked| Copied { puppet, scratch, charged, filters, not_forked };
        if snapshot::size(first.pid)? == snapshot::size(source.pid)? {
            return Ok(copied(first, Vec::new()));
        }
        let not_forked = snapshot::missing(first.pid, mappings)?;
        if not_forked.is_empty() {
            return Ok(copied(first, not_forked));
        }
        drop(first);
        let second = self.fork_with(&not_forked, deadline)?;
        Ok(copied(second, not_forked))
    }

    fn fork_with(&self, lifted: &[Range<u64>], deadline: Instant) -> Result<Puppet> {
        const INTO_CGROUP: u64 = 0x2_0000_0000;
        let own = &self.puppet;
        let mut batch = Batch::new(own.area);
        snapshot::lift(&mut batch, lifted);
        let mut flags = libc::CLONE_PARENT as u64;
        let us = seacow_sys::process::own_pid() as u64;
        batch.call("open ourselves", libc::SYS_pidfd_open, &[us, 0]);
        if let Some(cgroup) = &self.templates {
            flags |= INTO_CGROUP;
            let ours = cgroup.as_fd().as_raw_fd() as u64;
            batch.call("fetch a descriptor", libc::SYS_pidfd_getfd, &[0, ours, 0]);
        }
        // struct clone_args; the cgroup is descriptor 1: the shadow has none of its own.
        let arguments = batch.words(&[flags, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        batch.fork("copy the memory", libc::SYS_clone3, &[arguments, 88]);
        batch.call("close descriptors", libc::SYS_close_range, &[0, u64::from(u32::MAX), 0]);
        snapshot::put_back(&mut batch, lifted);
        let answers = own.run(&batch, deadline)?;
        let [pid] = answers.children[..] else {
            return Err(Error::Astray { tid: own.pid, what: "no child".into(), step: "copy the memory" });
        };
        puppet::settle(pid, deadline).inspect_err(|_| puppet::end(pid))?;
        Puppet::adopt(pid, Area::small(own.area.base))
    }
}
