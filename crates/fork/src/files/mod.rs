//! Descriptors of a process: what each is, and whether a clone can have it.

mod object;
mod socket;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::fs::OFlags;
use rustix::process::PidfdGetfdFlags;
use seacow_sys::inspect::{self, Common};

use crate::error::{Error, Result};
use crate::procfs::{self, Fields};
use crate::reason::{Descriptor, Reason};

use object::Moment;
pub(crate) use object::{EpollItem, TimerSetting};
pub(crate) use socket::{Address, Pair, Plain};

/// Which object a descriptor stands for, as fstat tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectId {
    /// `st_dev`.
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
}

impl ObjectId {
    /// Of an open descriptor: one's own end of a pipe has the same as the other.
    pub fn of(fd: impl AsFd) -> std::result::Result<Self, seacow_sys::Errno> {
        let found = rustix::fs::fstat(fd)?;
        Ok(Self { device: found.st_dev, inode: found.st_ino })
    }
}

/// A descriptor.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) number: i32,
    /// O_* bits that F_GETFL tells.
    pub(crate) flags: u64,
    pub(crate) close_on_exec: bool,
    /// An earlier descriptor that shares this one's offset and flags.
    pub(crate) same_as: Option<i32>,
    pub(crate) what: What,
}

/// What a descriptor stands for.
#[derive(Clone, Debug)]
pub(crate) enum What {
    /// One of the streams that the caller gives to each clone.
    Stream { index: usize },
    /// Something with a name: file, directory, harmless device.
    Named { path: Vec<u8>, position: u64 },
    /// An end of a pipe within the process.
    Pipe { inode: u64, reads: bool },
    /// A counter.
    Event { count: u64, semaphore: bool },
    /// An epoll set.
    Epoll { items: Vec<EpollItem> },
    /// A timer.
    Timer(TimerSetting),
    /// Signals as messages.
    Signals { mask: u64 },
    /// A socket that is not connected.
    Socket(Plain),
    /// One of two Unix sockets that are connected to each other within the process.
    Pair(Pair),
}

/// What a pipe within the process holds.
#[derive(Clone, Debug)]
pub(crate) struct Pipe {
    pub(crate) capacity: u64,
    pub(crate) data: Vec<u8>,
}

/// All descriptors.
#[derive(Clone, Debug, Default)]
pub(crate) struct Files {
    pub(crate) files: Vec<File>,
    pub(crate) pipes: BTreeMap<u64, Pipe>,
    pub(crate) refused: Vec<Reason>,
}

/// Looks at all descriptors of a process, running or not. Touches nothing.
pub(crate) fn survey(pid: i32, streams: &[ObjectId]) -> Result<Files> {
    let pidfd = seacow_sys::process::pidfd_open(pid).map_err(Error::own("open the source"))?;
    let mut survey = Survey { pid, pidfd, streams, peers: None, found: Files::default(), links: Vec::new() };
    for number in procfs::numbers(pid, "fd")? {
        survey.look_at(number)?;
    }
    survey.check_pipes()?;
    survey.check_pairs();
    survey.check_epoll();
    Ok(survey.found)
}

struct Survey<'a> {
    pid: i32,
    pidfd: OwnedFd,
    streams: &'a [ObjectId],
    /// Peers of Unix sockets by inode, when they were needed.
    peers: Option<BTreeMap<u64, u64>>,
    found: Files,
    links: Vec<(i32, Vec<u8>)>,
}

/// Whether a descriptor can be handled, and how.
type Looked = std::result::Result<What, Descriptor>;

impl Survey<'_> {
    fn look_at(&mut self, number: i32) -> Result<()> {
        let link = procfs::link(self.pid, &format!("fd/{number}"))?;
        let info = Fields::read(self.pid, &format!("fdinfo/{number}"))?;
        let flags = info.octal("flags")?;
        let close = u64::from(OFlags::CLOEXEC.bits());
        let same_as = self.same_file(number, &link)?;
        self.links.push((number, link.clone()));
        let looked = match self.stream(number)? {
            Some(index) => Ok(What::Stream { index }),
            None if info.find("lock").is_some() => Err(Descriptor::Locked { path: shown(&link) }),
            None => self.kind_of(number, &link, &info, flags)?,
        };
        match looked {
            Ok(what) => self.found.files.push(File {
                number,
                flags: flags & !close,
                close_on_exec: flags & close != 0,
                same_as,
                what,
            }),
            Err(what) => self.found.refused.push(Reason::Descriptor { number, what }),
        }
        Ok(())
    }

    /// An earlier descriptor of the same open file.
    fn same_file(&self, number: i32, link: &[u8]) -> Result<Option<i32>> {
        for (other, its_link) in &self.links {
            let same = || inspect::shared(Common::File, (self.pid, *other), (self.pid, number));
            if its_link == link && same().map_err(Error::own("compare descriptors"))? {
                return Ok(Some(*other));
            }
        }
        Ok(None)
    }

    fn stream(&self, number: i32) -> Result<Option<usize>> {
        let path = format!("/proc/{}/fd/{number}", self.pid);
        let found = rustix::fs::stat(path).map_err(Error::own("look at a descriptor"))?;
        let id = ObjectId { device: found.st_dev, inode: found.st_ino };
        Ok(self.streams.iter().position(|stream| *stream == id))
    }

    fn kind_of(&mut self, number: i32, link: &[u8], info: &Fields, flags: u64) -> Result<Looked> {
        if let Some(inode) = numbered(link, b"pipe:[") {
            return Ok(Ok(What::Pipe { inode, reads: flags & 3 == 0 }));
        }
        if let Some(inode) = numbered(link, b"socket:[") {
            let socket = self.duplicate(number)?;
            let peers = match &self.peers {
                Some(peers) => peers,
                None => self.peers.insert(socket::unix_peers(self.pid)?),
            };
            return socket::look_at(self.pid, &socket, inode, peers);
        }
        if let Some(name) = link.strip_prefix(b"anon_inode:") {
            if name == b"[timerfd]" {
                return object::look_at(name, &self.settled_timer(number)?);
            }
            return object::look_at(name, info);
        }
        self.named(number, link, info)
    }

    /// A timer that is due, but whose interrupt has not come yet, shows like one that does not run: it is
    /// given a moment.
    fn settled_timer(&self, number: i32) -> Result<Fields> {
        let began = Instant::now();
        loop {
            let info = Fields::read(self.pid, &format!("fdinfo/{number}"))?;
            match object::timer(&info).map_or(Moment::Settled, |timer| timer.moment()) {
                Moment::Open { at_most } if began.elapsed() < at_most => std::thread::yield_now(),
                Moment::Open { .. } | Moment::Settled => return Ok(info),
            }
        }
    }

    /// A descriptor of our own for the same open file.
    fn duplicate(&self, number: i32) -> Result<OwnedFd> {
        rustix::process::pidfd_getfd(&self.pidfd, number, PidfdGetfdFlags::empty())
            .map_err(Error::own("duplicate a descriptor of the source"))
    }

    fn named(&self, number: i32, link: &[u8], info: &Fields) -> Result<Looked> {
        let path = shown(link);
        if !link.starts_with(b"/") {
            return Ok(Err(Descriptor::Outside { path }));
        }
        let found = rustix::fs::stat(format!("/proc/{}/fd/{number}", self.pid))
            .map_err(Error::own("look at a descriptor"))?;
        if found.st_nlink == 0 || link.ends_with(b" (deleted)") {
            return Ok(Err(Descriptor::Deleted { path }));
        }
        let kind = rustix::fs::FileType::from_raw_mode(found.st_mode);
        match kind {
            rustix::fs::FileType::RegularFile | rustix::fs::FileType::Directory => {}
            rustix::fs::FileType::CharacterDevice => match device(found.st_rdev) {
                Device::Harmless => {}
                Device::Terminal => return Ok(Err(Descriptor::Terminal)),
                Device::Other => return Ok(Err(Descriptor::Device { path })),
            },
            rustix::fs::FileType::Fifo => return Ok(Err(Descriptor::Pipe)),
            _ => return Ok(Err(Descriptor::Device { path })),
        }
        Ok(Ok(What::Named { path: link.to_vec(), position: info.decimal("pos")? }))
    }

    /// Pipes must have all their ends here, or none left elsewhere; their contents are read.
    fn check_pipes(&mut self) -> Result<()> {
        let mut ends: BTreeMap<u64, (Option<i32>, Option<i32>)> = BTreeMap::new();
        for file in &self.found.files {
            if let What::Pipe { inode, reads } = &file.what {
                let (reader, writer) = ends.entry(*inode).or_default();
                (if *reads { reader } else { writer }).get_or_insert(file.number);
            }
        }
        for (inode, (reader, writer)) in ends {
            let number = reader.or(writer).unwrap_or_default();
            let end = self.duplicate(number)?;
            let alone = reader.is_none() || writer.is_none();
            if alone && !object::other_end_is_closed(&end)? {
                self.refuse(number, Descriptor::Pipe);
                continue;
            }
            match object::contents(self.pid, number, &end)? {
                Ok(pipe) => drop(self.found.pipes.insert(inode, pipe)),
                Err(what) => self.refuse(number, what),
            }
        }
        Ok(())
    }

    /// Both sockets of a pair must be here.
    fn check_pairs(&mut self) {
        let pairs = self.found.files.iter().filter_map(|file| match &file.what {
            What::Pair(pair) => Some((file.number, pair.inode, pair.peer)),
            _ => None,
        });
        let pairs: Vec<(i32, u64, u64)> = pairs.collect();
        for (number, _, peer) in &pairs {
            if !pairs.iter().any(|(_, inode, _)| inode == peer) {
                self.refuse(*number, Descriptor::UnixConnection);
            }
        }
    }

    /// Every item must stand for a descriptor that is still there.
    fn check_epoll(&mut self) {
        let mut stale = Vec::new();
        for file in &self.found.files {
            let What::Epoll { items } = &file.what else { continue };
            let known = |item: &EpollItem| self.links.iter().any(|(number, _)| *number == item.number);
            if items.iter().any(|item| !known(item)) {
                stale.push(file.number);
            }
        }
        for number in stale {
            self.refuse(number, Descriptor::StaleEpollItem);
        }
    }

    fn refuse(&mut self, number: i32, what: Descriptor) {
        self.found.refused.push(Reason::Descriptor { number, what });
    }
}

/// The number in `pipe:[123]`.
fn numbered(link: &[u8], prefix: &[u8]) -> Option<u64> {
    let digits = link.strip_prefix(prefix)?.strip_suffix(b"]")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn shown(link: &[u8]) -> String {
    String::from_utf8_lossy(link).into_owned()
}

enum Device {
    /// Without state: null, zero, full, random, urandom.
    Harmless,
    Terminal,
    Other,
}

/// Whether it is a terminal, by what stat tells.
pub(crate) fn is_terminal(device_number: u64, mode: u32) -> bool {
    let kind = rustix::fs::FileType::from_raw_mode(mode);
    kind == rustix::fs::FileType::CharacterDevice && matches!(device(device_number), Device::Terminal)
}

fn device(number: u64) -> Device {
    match (rustix::fs::major(number), rustix::fs::minor(number)) {
        (1, 3 | 5 | 7 | 8 | 9) => Device::Harmless,
        (4 | 5 | 136..=143, _) => Device::Terminal,
        _ => Device::Other,
    }
}
