//! Descriptors of a clone: each object made anew, at the number that it has in the source.

use std::collections::BTreeSet;
use std::os::fd::AsRawFd;
use std::time::Instant;

use super::{Spec, fetch, sockets};
use crate::batch::Batch;
use crate::capture::State;
use crate::error::{Error, Result};
use crate::files::{File, What};
use crate::puppet::Puppet;
use crate::template::{Channel, Template, spill};

/// Operands of one descriptor at most, but for what waits in it.
const OPERANDS: usize = 8 << 10;
/// Calls for one descriptor at most.
const CALLS: usize = 64;

/// A list of calls and the numbers that are taken when it is worked off: the kernel gives the lowest
/// that is free, so that it is known beforehand.
pub(super) struct Table<'a> {
    pub(super) batch: Batch,
    taken: BTreeSet<i32>,
    channel: &'a Channel,
}

/// Makes all of them, and closes the way to us.
pub(super) fn open(
    template: &Template,
    puppet: &Puppet,
    state: &State,
    spec: &Spec<'_>,
    deadline: Instant,
) -> Result<()> {
    let channel = &template.channel;
    let taken = BTreeSet::from([channel.us]);
    let mut table = Table { batch: Batch::new(puppet.area), taken, channel };
    let files = &state.files.files;
    for file in files {
        let waiting = waiting(state, file);
        spill(puppet, &mut table.batch, CALLS, OPERANDS + waiting, deadline)?;
        // Made together with an earlier one.
        if table.taken.contains(&file.number) {
            continue;
        }
        if let Some(other) = file.same_as {
            table.duplicate(other, file);
            continue;
        }
        match &file.what {
            What::Stream { index } => {
                let stream = spec.streams.get(*index).ok_or(Error::TooMany { what: "streams" })?;
                fetch(&mut table.batch, template, stream.as_raw_fd());
                table.place(file);
            }
            What::Pipe { inode, .. } => pipe(&mut table, state, file, *inode),
            What::Socket(plain) => sockets::plain(&mut table, file, plain, spec),
            What::Pair(pair) => sockets::pair(&mut table, files, file, pair),
            What::Named { path, position } => named(&mut table, file, path, *position),
            What::Event { .. } | What::Epoll { .. } | What::Timer(_) | What::Signals { .. } => {
                anonymous(&mut table, file);
            }
        }
    }
    for file in files {
        if let (What::Epoll { items }, None) = (&file.what, file.same_as) {
            for item in items {
                spill(puppet, &mut table.batch, 2, 64, deadline)?;
                // struct epoll_event is packed: 4 and 8 bytes.
                let mut event = item.events.to_le_bytes().to_vec();
                event.extend_from_slice(&item.data.to_le_bytes());
                let event = table.batch.data(&event);
                let arguments = [file.number as u64, libc::EPOLL_CTL_ADD as u64, item.number as u64, event];
                table.batch.call("watch a file", libc::SYS_epoll_ctl, &arguments);
            }
        }
    }
    spill(puppet, &mut table.batch, 1, 0, deadline)?;
    table.batch.call("close the way to us", libc::SYS_close, &[channel.us as u64]);
    puppet.run(&table.batch, deadline).map(drop)
}

/// Bytes that wait in it or in its partner.
fn waiting(state: &State, file: &File) -> usize {
    match &file.what {
        What::Pipe { inode, .. } => state.files.pipes.get(inode).map_or(0, |pipe| pipe.data.len()),
        What::Pair(pair) => {
            let of_pair = |other: &File| match &other.what {
                What::Pair(other) if other.inode == pair.inode || other.inode == pair.peer => {
                    other.data.len()
                }
                _ => 0,
            };
            state.files.files.iter().map(of_pair).sum()
        }
        _ => 0,
    }
}

impl Table<'_> {
    fn lowest(&self) -> i32 {
        (0..).find(|number| !self.taken.contains(number)).unwrap_or_default()
    }

    /// What was just made gets the number that it must have. Gives the number.
    pub(super) fn place(&mut self, file: &File) {
        let made = self.lowest();
        if made != file.number {
            let close = if file.close_on_exec { libc::O_CLOEXEC as u64 } else { 0 };
            self.batch.call("place a descriptor", libc::SYS_dup3, &[made as u64, file.number as u64, close]);
            self.batch.call("close a descriptor", libc::SYS_close, &[made as u64]);
        } else {
            self.set_close_on_exec(file);
        }
        self.taken.insert(file.number);
    }

    /// What was just made is put aside, by the n-th spare number.
    pub(super) fn put_aside(&mut self, made: i32, spare: usize) -> u64 {
        let to = self.channel.spare[spare] as u64;
        self.batch.call("put a descriptor aside", libc::SYS_dup3, &[made as u64, to, libc::O_CLOEXEC as u64]);
        self.batch.call("close a descriptor", libc::SYS_close, &[made as u64]);
        to
    }

    /// The two numbers that the next pair gets.
    pub(super) fn next_two(&self) -> (i32, i32) {
        let mut free = (0..).filter(|number| !self.taken.contains(number));
        (free.next().unwrap_or_default(), free.next().unwrap_or_default())
    }

    /// Moves what was put aside to its number.
    pub(super) fn take_from(&mut self, aside: u64, file: &File) {
        let close = if file.close_on_exec { libc::O_CLOEXEC as u64 } else { 0 };
        self.batch.call("place a descriptor", libc::SYS_dup3, &[aside, file.number as u64, close]);
        self.batch.call("close a descriptor", libc::SYS_close, &[aside]);
        self.taken.insert(file.number);
        self.set_flags(file);
    }

    pub(super) fn drop_aside(&mut self, aside: u64) {
        self.batch.call("close a descriptor", libc::SYS_close, &[aside]);
    }

    fn duplicate(&mut self, other: i32, file: &File) {
        let close = if file.close_on_exec { libc::O_CLOEXEC as u64 } else { 0 };
        self.batch.call("duplicate", libc::SYS_dup3, &[other as u64, file.number as u64, close]);
        self.taken.insert(file.number);
    }

    fn set_close_on_exec(&mut self, file: &File) {
        let flag = if file.close_on_exec { libc::FD_CLOEXEC as u64 } else { 0 };
        self.batch.call("close on exec", libc::SYS_fcntl, &[file.number as u64, libc::F_SETFD as u64, flag]);
    }

    /// Non-blocking, append and the like, for what has no argument for them.
    pub(super) fn set_flags(&mut self, file: &File) {
        self.batch.attempt("flags", libc::SYS_fcntl, &[file.number as u64, libc::F_SETFL as u64, file.flags]);
    }
}

fn named(table: &mut Table<'_>, file: &File, path: &[u8], position: u64) {
    // What made the file is not to be done again.
    let once = (libc::O_CREAT | libc::O_EXCL | libc::O_TRUNC | libc::O_NOCTTY) as u64;
    let path = table.batch.text(path);
    let arguments = [libc::AT_FDCWD as u64, path, file.flags & !once, 0];
    table.batch.call("open a file", libc::SYS_openat, &arguments);
    table.place(file);
    if position > 0 {
        let arguments = [file.number as u64, position, libc::SEEK_SET as u64];
        // A device without positions may have counted.
        table.batch.attempt("position of a file", libc::SYS_lseek, &arguments);
    }
}

fn anonymous(table: &mut Table<'_>, file: &File) {
    let nonblocking = file.flags & libc::O_NONBLOCK as u64;
    match &file.what {
        What::Event { count, semaphore } => {
            let flags = nonblocking | u64::from(*semaphore);
            // The first argument is an unsigned int; more is written.
            table.batch.call("eventfd", libc::SYS_eventfd2, &[0, flags]);
            table.place(file);
            if *count > 0 {
                let count = table.batch.words(&[*count]);
                table.batch.call("count of an eventfd", libc::SYS_write, &[file.number as u64, count, 8]);
            }
        }
        What::Epoll { .. } => {
            table.batch.call("epoll set", libc::SYS_epoll_create1, &[0]);
            table.place(file);
        }
        What::Timer(timer) => {
            const SET_TICKS: u64 = 0x4008_5400;
            table.batch.call("timerfd", libc::SYS_timerfd_create, &[timer.clock, nonblocking]);
            table.place(file);
            // A periodic one that has expired starts its next period when it is read; the kernel has no
            // other way to tell it so than to have it expire.
            let expired = timer.ticks > 0 && timer.value == [0, 0] && timer.interval != [0, 0];
            let [c, d] = if expired { [0, 1] } else { timer.value };
            let [a, b] = timer.interval;
            let setting = table.batch.words(&[a, b, c, d]);
            let number = file.number as u64;
            table.batch.call("set a timerfd", libc::SYS_timerfd_settime, &[number, 0, setting, 0]);
            if timer.ticks > 0 && !expired {
                let ticks = table.batch.words(&[timer.ticks]);
                table.batch.call("expirations of a timerfd", libc::SYS_ioctl, &[number, SET_TICKS, ticks]);
            }
        }
        What::Signals { mask } => {
            let mask = table.batch.words(&[*mask]);
            table.batch.call("signalfd", libc::SYS_signalfd4, &[u64::MAX, mask, 8, nonblocking]);
            table.place(file);
        }
        What::Stream { .. } | What::Named { .. } | What::Pipe { .. } | What::Socket(_) | What::Pair(_) => {}
    }
}

/// Both ends of a pipe, and what is in it.
fn pipe(table: &mut Table<'_>, state: &State, file: &File, inode: u64) {
    let end = |wanted: bool| {
        state.files.files.iter().find(|other| {
            other.same_as.is_none()
                && matches!(other.what, What::Pipe { inode: i, reads } if i == inode && reads == wanted)
        })
    };
    let (reader, writer) = (end(true), end(false));
    let first = if matches!(file.what, What::Pipe { reads: true, .. }) { reader } else { writer };
    if let Some(first) = first.filter(|first| table.taken.contains(&first.number)) {
        // Opened once more by way of /proc: the same pipe.
        return table.duplicate(first.number, file);
    }
    let numbers = table.batch.room(8);
    let (first, second) = table.next_two();
    table.batch.call("pipe", libc::SYS_pipe2, &[numbers, 0]);
    let reading = table.put_aside(first, 0);
    let writing = table.put_aside(second, 1);
    if let Some(pipe) = state.files.pipes.get(&inode) {
        let size = [writing, libc::F_SETPIPE_SZ as u64, pipe.capacity];
        // A large one may be refused to the unprivileged only.
        table.batch.call("size of a pipe", libc::SYS_fcntl, &size);
        if !pipe.data.is_empty() {
            let data = table.batch.data(&pipe.data);
            table.batch.call("fill a pipe", libc::SYS_write, &[writing, data, pipe.data.len() as u64]);
        }
    }
    for (aside, end) in [(reading, reader), (writing, writer)] {
        match end {
            Some(end) => table.take_from(aside, end),
            None => table.drop_aside(aside),
        }
    }
}
