//! What `/proc` tells about a process.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;

use rustix::fs::{Mode, OFlags};

use crate::error::{Error, Result};

/// Bytes of a file that are read at a time.
const PIECE: usize = 16 << 10;

/// A mapping of a process's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mapping {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// PROT_* bits.
    pub(crate) protection: u64,
    pub(crate) shared: bool,
    /// Where in the file it begins.
    pub(crate) offset: u64,
    /// Device of the file, as `/proc` writes it.
    pub(crate) device: String,
    /// 0 where there is no file.
    pub(crate) inode: u64,
    /// Path of the file, or what the kernel calls it: `[heap]`, `[stack]`.
    pub(crate) name: String,
}

impl Mapping {
    pub(crate) fn length(&self) -> u64 {
        self.end - self.start
    }

    /// Made by the kernel for every process: vdso and its data.
    pub(crate) fn is_kernels(&self) -> bool {
        self.name.starts_with("[v")
    }

    pub(crate) fn parse(line: &str) -> Option<Self> {
        let mut words = line.splitn(6, ' ');
        let (start, end) = words.next()?.split_once('-')?;
        let rights = words.next()?.as_bytes();
        let bit =
            |index: usize, letter: u8, bit: u64| if rights.get(index) == Some(&letter) { bit } else { 0 };
        let protection = bit(0, b'r', 1) | bit(1, b'w', 2) | bit(2, b'x', 4);
        let shared = rights.get(3) == Some(&b's');
        let offset = hex(words.next()?)?;
        let device = words.next()?.to_owned();
        let inode = words.next()?.trim().parse().ok()?;
        let name = words.next().unwrap_or_default().trim().to_owned();
        Some(Self { start: hex(start)?, end: hex(end)?, protection, shared, offset, device, inode, name })
    }
}

pub(crate) fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).ok()
}

/// Reads a file of `/proc/PID`.
pub(crate) fn read(pid: i32, name: &str) -> Result<String> {
    String::from_utf8(read_bytes(pid, name)?).map_err(|_| Error::proc(pid, name))
}

pub(crate) fn read_bytes(pid: i32, name: &str) -> Result<Vec<u8>> {
    let failed = |source| Error::Proc { pid, name: name.to_owned(), source };
    let mut file = std::fs::File::open(format!("/proc/{pid}/{name}")).map_err(failed)?;
    // The kernel makes such a file while it is read: in one piece, where it fits.
    let (mut bytes, mut piece) = (Vec::new(), [0; PIECE]);
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok(bytes),
            Ok(count) => bytes.extend_from_slice(piece.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
}

/// Opens a file of `/proc/PID`.
pub(crate) fn open(pid: i32, name: &str, write: bool) -> Result<File> {
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(write).open(format!("/proc/{pid}/{name}")).map_err(|source| Error::Proc {
        pid,
        name: name.to_owned(),
        source,
    })
}

/// Where a link of `/proc/PID` points, as bytes: file names need not be text.
pub(crate) fn link(pid: i32, name: &str) -> Result<Vec<u8>> {
    std::fs::read_link(format!("/proc/{pid}/{name}"))
        .map(|path| path.into_os_string().into_vec())
        .map_err(|source| Error::Proc { pid, name: name.to_owned(), source })
}

/// Opens what a link of `/proc/PID` stands for.
pub(crate) fn open_link(pid: i32, name: &str, flags: OFlags) -> Result<OwnedFd> {
    rustix::fs::open(format!("/proc/{pid}/{name}"), flags | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::Proc { pid, name: name.to_owned(), source: errno.into() })
}

pub(crate) fn mappings(pid: i32) -> Result<Vec<Mapping>> {
    // A path may be any bytes.
    let text = read_bytes(pid, "maps")?;
    let text = String::from_utf8_lossy(&text);
    text.lines().map(|line| Mapping::parse(line).ok_or_else(|| Error::proc(pid, "maps"))).collect()
}

/// Numbers in a directory of `/proc/PID`, sorted: threads, descriptors.
pub(crate) fn numbers(pid: i32, name: &str) -> Result<Vec<i32>> {
    let io = |source| Error::Proc { pid, name: name.to_owned(), source };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/{name}")).map_err(io)? {
        found.extend(entry.map_err(io)?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()));
    }
    found.sort_unstable();
    Ok(found)
}

/// A `key: value` file, `status` and `fdinfo`.
#[derive(Debug)]
pub(crate) struct Fields {
    pid: i32,
    name: String,
    text: String,
}

impl Fields {
    pub(crate) fn read(pid: i32, name: &str) -> Result<Self> {
        // The name of a thread may be any bytes.
        let text = String::from_utf8_lossy(&read_bytes(pid, name)?).into_owned();
        Ok(Self { pid, name: name.to_owned(), text })
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn find(&self, key: &str) -> Option<&str> {
        self.text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim)
    }

    pub(crate) fn get(&self, key: &str) -> Result<&str> {
        self.find(key).ok_or_else(|| Error::proc(self.pid, &self.name))
    }

    pub(crate) fn hex(&self, key: &str) -> Result<u64> {
        hex(self.get(key)?).ok_or_else(|| Error::proc(self.pid, &self.name))
    }

    pub(crate) fn octal(&self, key: &str) -> Result<u64> {
        u64::from_str_radix(self.get(key)?, 8).map_err(|_| Error::proc(self.pid, &self.name))
    }

    pub(crate) fn decimal<T: std::str::FromStr>(&self, key: &str) -> Result<T> {
        self.get(key)?.parse().map_err(|_| Error::proc(self.pid, &self.name))
    }

    pub(crate) fn list<T: std::str::FromStr>(&self, key: &str) -> Result<Vec<T>> {
        let words = self.get(key)?.split_whitespace();
        words.map(|word| word.parse().map_err(|_| Error::proc(self.pid, &self.name))).collect()
    }

    /// The last of a list: a pid as the innermost namespace sees it.
    pub(crate) fn innermost(&self, key: &str) -> Result<i32> {
        self.list(key)?.last().copied().ok_or_else(|| Error::proc(self.pid, &self.name))
    }
}

/// Soft and hard value of every kind of limit, in the order of the kernel's numbers. (prlimit would do for
/// processes of our own user, or with CAP_SYS_RESOURCE.)
pub(crate) fn limits(pid: i32) -> Result<Vec<[u64; 2]>> {
    let text = read(pid, "limits")?;
    text.lines().skip(1).map(|line| limit(line).ok_or_else(|| Error::proc(pid, "limits"))).collect()
}

/// `Max cpu time              unlimited            unlimited            seconds`
fn limit(line: &str) -> Option<[u64; 2]> {
    const NAME: usize = 26;
    let mut words = line.get(NAME..)?.split_whitespace();
    let mut value = || match words.next()? {
        "unlimited" => Some(u64::MAX),
        word => word.parse().ok(),
    };
    Some([value()?, value()?])
}

/// A child that has ended and that its parent has not taken note of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Zombie {
    pub(crate) name: String,
    /// The signal that its parent gets, 0 for none.
    pub(crate) signal: i32,
}

/// `None` while it lives, and when it is gone.
pub(crate) fn zombie(pid: i32) -> Option<Zombie> {
    let stat = read(pid, "stat").ok()?;
    let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // As numbered in proc(5), the state is field 3 and the signal field 38.
    let signal = fields.get(38 - 3)?.parse().ok()?;
    (fields.first() == Some(&"Z")).then(|| Zombie { name: name.to_owned(), signal })
}

/// Children of all threads.
pub(crate) fn children(pid: i32) -> Result<Vec<i32>> {
    let mut found = Vec::new();
    for tid in numbers(pid, "task")? {
        // A thread may end meanwhile.
        let children = read(pid, &format!("task/{tid}/children")).unwrap_or_default();
        found.extend(children.split_whitespace().filter_map(|word| word.parse::<i32>().ok()));
    }
    Ok(found)
}

/// A value of the auxiliary vector.
pub(crate) fn auxiliary(vector: &[u8], key: u64) -> Option<u64> {
    let word = |bytes: &[u8]| Some(u64::from_le_bytes(bytes.try_into().ok()?));
    vector.chunks_exact(16).find_map(|pair| (word(&pair[..8])? == key).then(|| word(&pair[8..]))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_are_read() {
        let line = "7f17a35ae000-7f17a35b2000 rw-s 00001000 00:05 1041   /dev/a file (deleted)";
        let mapping = Mapping::parse(line).unwrap();
        assert_eq!((mapping.start, mapping.length()), (0x7f17_a35a_e000, 0x4000));
        assert_eq!((mapping.protection, mapping.shared, mapping.offset), (3, true, 0x1000));
        assert_eq!((mapping.inode, mapping.name.as_str()), (1041, "/dev/a file (deleted)"));
        assert!(Mapping::parse("nonsense").is_none());
    }

    #[test]
    fn limits_are_read() {
        let line = "Max open files            1024                 unlimited            files     ";
        assert_eq!(limit(line), Some([1024, u64::MAX]));
        assert_eq!(limits(std::process::id() as i32).unwrap().len(), 16);
    }

    #[test]
    fn own_process() {
        let pid = std::process::id() as i32;
        let status = Fields::read(pid, "status").unwrap();
        assert_eq!(status.innermost("NSpid").unwrap(), pid);
        assert!(status.find("Nothing").is_none());
        let vector = read_bytes(pid, "auxv").unwrap();
        let vdso = auxiliary(&vector, 33).unwrap();
        assert!(mappings(pid).unwrap().iter().any(|m| m.start == vdso && m.is_kernels()));
    }
}
