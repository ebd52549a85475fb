//! Kernel objects without name: pipes, eventfd, epoll, timerfd, signalfd.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::OFlags;
use rustix::pipe::{PipeFlags, SpliceFlags};

use super::{Looked, Pipe, What};
use crate::error::{Error, Result};
use crate::procfs::{Fields, hex, open_link};
use crate::reason::Descriptor;

/// One file that an epoll set watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EpollItem {
    pub(crate) number: i32,
    pub(crate) events: u32,
    pub(crate) data: u64,
}

/// A timerfd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimerSetting {
    pub(crate) clock: u64,
    /// Expirations that nobody has read yet.
    pub(crate) ticks: u64,
    /// Seconds and nanoseconds until it expires; zeroes when it does not run.
    pub(crate) value: [u64; 2],
    pub(crate) interval: [u64; 2],
}

/// Whether what a timer shows can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    Settled,
    /// It does not run, or its interrupt is on its way.
    Open {
        at_most: Duration,
    },
}

impl TimerSetting {
    pub(super) fn moment(&self) -> Moment {
        // A processor of a busy virtual machine may be away for so long.
        const PERIODIC: Duration = Duration::from_millis(3);
        // One that has been stopped is common, and its source stands still.
        const OTHER: Duration = Duration::from_micros(100);
        match (self.ticks, self.value, self.interval) {
            (0, [0, 0], [0, 0]) => Moment::Open { at_most: OTHER },
            (0, [0, 0], _) => Moment::Open { at_most: PERIODIC },
            (_, _, _) => Moment::Settled,
        }
    }
}

/// An anonymous inode; `name` as in `/proc/PID/fd`, without `anon_inode:`.
pub(super) fn look_at(name: &[u8], info: &Fields) -> Result<Looked> {
    Ok(match name {
        b"[eventfd]" => {
            // Written without 0x, in hexadecimal.
            let count = hex(info.get("eventfd-count")?.trim()).unwrap_or_default();
            // Told since Linux 6.5.
            let semaphore = info.find("eventfd-semaphore").is_some_and(|word| word != "0");
            Ok(What::Event { count, semaphore })
        }
        b"[signalfd]" => Ok(What::Signals { mask: info.hex("sigmask")? }),
        b"[eventpoll]" => {
            match info.text().lines().filter(|line| line.starts_with("tfd:")).map(epoll_item).collect() {
                Some(items) => Ok(What::Epoll { items }),
                None => Err(object(name)),
            }
        }
        b"[timerfd]" => match timer(info) {
            Some(setting) => Ok(What::Timer(setting)),
            None => Err(object(name)),
        },
        _ => Err(object(name)),
    })
}

fn object(name: &[u8]) -> Descriptor {
    Descriptor::Object { name: String::from_utf8_lossy(name).trim_matches(['[', ']']).to_owned() }
}

/// `tfd:        5 events:       19 data:                5  pos:0 ino:1 sdev:1`
fn epoll_item(line: &str) -> Option<EpollItem> {
    let words: Vec<&str> = line.split([':', ' ', '\t']).filter(|word| !word.is_empty()).collect();
    match words.as_slice() {
        ["tfd", number, "events", events, "data", data, ..] => Some(EpollItem {
            number: number.parse().ok()?,
            events: u32::try_from(hex(events)?).ok()?,
            data: hex(data)?,
        }),
        _ => None,
    }
}

pub(super) fn timer(info: &Fields) -> Option<TimerSetting> {
    let pair = |key: &str| -> Option<[u64; 2]> {
        let (seconds, nanoseconds) = info.find(key)?.trim_matches(['(', ')']).split_once(',')?;
        Some([seconds.trim().parse().ok()?, nanoseconds.trim().parse().ok()?])
    };
    Some(TimerSetting {
        clock: info.find("clockid")?.parse().ok()?,
        ticks: info.find("ticks")?.parse().ok()?,
        value: pair("it_value")?,
        interval: pair("it_interval")?,
    })
}

/// Whether nobody has the other end of a pipe any more.
pub(super) fn other_end_is_closed(end: &OwnedFd) -> Result<bool> {
    let mut polled = [PollFd::from_borrowed_fd(end.as_fd(), PollFlags::empty())];
    rustix::event::poll(&mut polled, Some(&rustix::event::Timespec::default()))
        .map_err(Error::own("look at a pipe"))?;
    // HUP at the reading end, ERR at the writing end.
    Ok(polled[0].revents().intersects(PollFlags::HUP | PollFlags::ERR))
}

/// What is in a pipe, left there.
pub(super) fn contents(
    pid: i32,
    number: i32,
    end: &OwnedFd,
) -> Result<std::result::Result<Pipe, Descriptor>> {
    let capacity = rustix::pipe::fcntl_getpipe_size(end).map_err(Error::own("size of a pipe"))?;
    // Any end opens as a reading one.
    let reader = open_link(pid, &format!("fd/{number}"), OFlags::RDONLY | OFlags::NONBLOCK)?;
    let waiting = seacow_sys::socket::unread(reader.as_fd()).map_err(Error::own("look into a pipe"))?;
    if waiting == 0 {
        return Ok(Ok(Pipe { capacity: capacity as u64, data: Vec::new() }));
    }
    let flags = rustix::fs::fcntl_getfl(end).map_err(Error::own("flags of a pipe"))?;
    if flags.contains(OFlags::DIRECT) {
        return Ok(Err(Descriptor::PacketPipe));
    }
    let (mine, to) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(Error::own("make a pipe"))?;
    rustix::pipe::fcntl_setpipe_size(&to, capacity).map_err(Error::own("size of a pipe"))?;
    let got =
        rustix::pipe::tee(&reader, &to, waiting, SpliceFlags::NONBLOCK).map_err(Error::own("copy a pipe"))?;
    drop(to);
    let mut data = Vec::with_capacity(got);
    std::io::Read::read_to_end(&mut std::fs::File::from(mine), &mut data)
        .map_err(|_| Error::Own { step: "copy a pipe", source: seacow_sys::Errno::IO })?;
    if data.len() == waiting {
        Ok(Ok(Pipe { capacity: capacity as u64, data }))
    } else {
        Ok(Err(Descriptor::PacketPipe))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epoll_items_are_read() {
        let line = "tfd:        5 events: 80000019 data:     ffffffff00000005  pos:0 ino:40b sdev:f";
        let item = EpollItem { number: 5, events: 0x8000_0019, data: 0xffff_ffff_0000_0005 };
        assert_eq!(epoll_item(line), Some(item));
        assert_eq!(epoll_item("tfd: x"), None);
    }
}
