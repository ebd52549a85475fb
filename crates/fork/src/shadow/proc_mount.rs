//! `/proc` of a new pid namespace in the place of the old one's, with all that is mounted below it.

use std::collections::BTreeSet;

use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::procfs;

const HERE: u64 = libc::AT_FDCWD as u64;
const CLOSE: u64 = libc::O_CLOEXEC as u64;
/// OPEN_TREE_CLONE.
const CLONE: u64 = 1;
/// MOVE_MOUNT_F_EMPTY_PATH.
const FROM_DESCRIPTOR: u64 = 4;
/// What is mounted below `/proc` at most: masked and read-only paths are a dozen.
const MAX_BELOW: usize = 64;

/// A mount, as `/proc/PID/mountinfo` tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mounted {
    id: u64,
    parent: u64,
    device: String,
    /// What of its file system is mounted.
    root: Vec<u8>,
    place: Vec<u8>,
    /// MOUNT_ATTR_* bits.
    attributes: u64,
    /// It passes mounts on, or is passed some.
    propagates: bool,
    kind: String,
    /// Of the file system.
    options: String,
}

/// How to make it anew.
#[derive(Debug)]
pub(super) struct ProcMount {
    proc: Mounted,
    /// Parents come first.
    below: Vec<Mounted>,
}

impl ProcMount {
    /// Of a process; `None` when it has no `/proc`.
    pub(super) fn of(pid: i32) -> Result<Option<Self>> {
        let table = procfs::read_bytes(pid, "mountinfo")?;
        let table = String::from_utf8_lossy(&table);
        let mounts: Option<Vec<Mounted>> = table.lines().map(Mounted::parse).collect();
        Self::among(mounts.ok_or_else(|| Error::proc(pid, "mountinfo"))?)
    }

    fn among(mounts: Vec<Mounted>) -> Result<Option<Self>> {
        let is_proc = |mount: &&Mounted| mount.place == b"/proc" && mount.kind == "proc";
        let Some(proc) = mounts.iter().find(is_proc).cloned() else { return Ok(None) };
        let mut below: Vec<Mounted> = Vec::new();
        for mount in &mounts {
            let inside = mount.parent == proc.id || below.iter().any(|other| other.id == mount.parent);
            if mount.id == proc.id {
                continue;
            }
            if inside && below.iter().chain([&proc]).any(|other| other.place == mount.place) {
                return Err(Error::no_shadow(format!("two mounts at {}", shown(&mount.place))));
            }
            match inside {
                true => below.push(mount.clone()),
                false if mount.device == proc.device => {
                    return Err(Error::no_shadow(format!("its proc is at {}, too", shown(&mount.place))));
                }
                false => {}
            }
        }
        if below.iter().chain([&proc]).any(|mount| mount.propagates) {
            return Err(Error::no_shadow("mounts of /proc are passed on"));
        }
        let simple = |option: &str| option == "rw" || option.contains('=');
        if below.len() > MAX_BELOW || !proc.options.split(',').all(simple) || proc.root != b"/" {
            return Err(Error::no_shadow("its /proc is not a usual one"));
        }
        Ok(Some(Self { proc, below }))
    }

    /// Writes the calls by which a process of the new namespace puts it in place, whose descriptors are
    /// `taken`; it has no others afterwards.
    pub(super) fn replace(&self, batch: &mut Batch, taken: BTreeSet<u64>) {
        let mut table = Table { batch, taken };
        // What is not proc itself goes over as it is.
        let mut kept = Vec::new();
        for mount in &self.below {
            let other = mount.device != self.proc.device;
            kept.push(other.then(|| table.open_tree("take a mount below /proc", &mount.place)));
        }
        let made = self.make(&mut table);
        let place = table.batch.text("/proc");
        let detach = [place, libc::MNT_DETACH as u64];
        table.batch.call("let go of the old proc", libc::SYS_umount2, &detach);
        table.attach(made, b"/proc");
        for (mount, kept) in self.below.iter().zip(kept) {
            match kept {
                Some(tree) => table.attach(tree, &mount.place),
                None => self.bind(&mut table, mount),
            }
        }
    }

    /// A new file system of the same options.
    fn make(&self, table: &mut Table<'_>) -> u64 {
        const SET_STRING: u64 = 1;
        const CREATE: u64 = 6;
        let kind = table.batch.text("proc");
        table.batch.call("make a proc", libc::SYS_fsopen, &[kind, 1]);
        let made = table.take();
        let options = self.proc.options.split(',').filter_map(|option| option.split_once('='));
        for (name, value) in options.chain([("source", "proc")]) {
            let (name, value) = (table.batch.text(name), table.batch.text(value));
            table.batch.call("option of proc", libc::SYS_fsconfig, &[made, SET_STRING, name, value, 0]);
        }
        table.batch.call("make a proc", libc::SYS_fsconfig, &[made, CREATE, 0, 0, 0]);
        table.batch.call("mount a proc", libc::SYS_fsmount, &[made, 1, self.proc.attributes]);
        let mounted = table.take();
        table.close(made);
        mounted
    }

    /// A part of proc at a place of its own: read-only, say.
    fn bind(&self, table: &mut Table<'_>, mount: &Mounted) {
        let mut source = self.proc.place.clone();
        source.extend_from_slice(&mount.root);
        let tree = table.open_tree("take a part of proc", &source);
        // struct mount_attr: to set, to clear (the field of access times as a whole), propagation, namespace.
        const ACCESS_TIMES: u64 = 0x70;
        let attributes = table.batch.words(&[mount.attributes, ACCESS_TIMES, 0, 0]);
        let empty = table.batch.text("");
        let set = [tree, empty, libc::AT_EMPTY_PATH as u64, attributes, 32];
        table.batch.call("options of a part of proc", libc::SYS_mount_setattr, &set);
        table.attach(tree, &mount.place);
    }
}

/// A list of calls and the numbers that are taken when it is worked off.
struct Table<'a> {
    batch: &'a mut Batch,
    taken: BTreeSet<u64>,
}

impl Table<'_> {
    /// The number of what was just opened: the lowest that was free.
    fn take(&mut self) -> u64 {
        let number = (0..).find(|number| !self.taken.contains(number)).unwrap_or_default();
        self.taken.insert(number);
        number
    }

    fn close(&mut self, number: u64) {
        self.batch.call("close a descriptor", libc::SYS_close, &[number]);
        self.taken.remove(&number);
    }

    fn open_tree(&mut self, step: &'static str, path: &[u8]) -> u64 {
        open_tree(self.batch, step, path, CLONE);
        self.take()
    }

    fn attach(&mut self, tree: u64, place: &[u8]) {
        attach(self.batch, tree, place);
        self.close(tree);
    }
}

/// Opens the whole of `/proc` as a descriptor, to be put back by [`restore`].
pub(super) fn keep(batch: &mut Batch) {
    open_tree(batch, "keep the old proc", b"/proc", CLONE | libc::AT_RECURSIVE as u64);
}

/// Puts back what was kept, whatever is there by now.
pub(super) fn restore(batch: &mut Batch, kept: u64) {
    let place = batch.text("/proc");
    batch.attempt("let go of the new proc", libc::SYS_umount2, &[place, libc::MNT_DETACH as u64]);
    attach(batch, kept, b"/proc");
    batch.call("close a mount", libc::SYS_close, &[kept]);
}

fn open_tree(batch: &mut Batch, step: &'static str, path: &[u8], flags: u64) {
    let path = batch.text(path);
    batch.call(step, libc::SYS_open_tree, &[HERE, path, flags | CLOSE]);
}

fn attach(batch: &mut Batch, tree: u64, place: &[u8]) {
    let (empty, place) = (batch.text(""), batch.text(place));
    batch.call("attach a mount", libc::SYS_move_mount, &[tree, empty, HERE, place, FROM_DESCRIPTOR]);
}

impl Mounted {
    /// `36 35 98:0 /root /place rw,noatime master:1 - ext4 /dev/root rw,errors=continue`
    fn parse(line: &str) -> Option<Self> {
        let (left, right) = line.split_once(" - ")?;
        let mut words = left.split(' ');
        let id = words.next()?.parse().ok()?;
        let parent = words.next()?.parse().ok()?;
        let device = words.next()?.to_owned();
        let (root, place) = (unescaped(words.next()?), unescaped(words.next()?));
        let attributes = attributes(words.next()?);
        let propagates = words.next().is_some();
        let mut words = right.split(' ');
        let kind = words.next()?.to_owned();
        let options = words.nth(1)?.to_owned();
        Some(Self { id, parent, device, root, place, attributes, propagates, kind, options })
    }
}

fn attributes(text: &str) -> u64 {
    const STRICT: u64 = 0x20;
    const NONE: u64 = 0x10;
    let bit = |word: &str| match word {
        "ro" => 0x1,
        "nosuid" => 0x2,
        "nodev" => 0x4,
        "noexec" => 0x8,
        "nodiratime" => 0x80,
        "nosymfollow" => 0x20_0000,
        _ => 0,
    };
    let has = |wanted: &str| text.split(',').any(|word| word == wanted);
    let times = match (has("noatime"), has("relatime")) {
        (true, _) => NONE,
        (false, true) => 0,
        (false, false) => STRICT,
    };
    text.split(',').map(bit).fold(times, |all, bit| all | bit)
}

/// Blanks and the like are written as `\040`.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let code = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        let code = code.filter(|_| *first == b'\\');
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    bytes
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
30 1 0:50 / / rw,relatime - overlay overlay rw,lowerdir=/a
31 30 0:51 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw,hidepid=invisible
32 31 0:51 /sys /proc/sys ro,nosuid,nodev,noexec,relatime - proc proc rw
33 31 0:6 /null /proc/kcore rw,nosuid - devtmpfs none rw
34 30 0:52 / /sys ro - sysfs sysfs ro";

    fn among(table: &str) -> Result<Option<ProcMount>> {
        ProcMount::among(table.lines().map(|line| Mounted::parse(line).unwrap()).collect())
    }

    #[test]
    fn what_is_below_is_found() {
        let found = among(TABLE).unwrap().unwrap();
        assert_eq!(found.proc.attributes, 0xe);
        let below: Vec<_> = found.below.iter().map(|mount| (shown(&mount.place), mount.attributes)).collect();
        assert_eq!(below, [("/proc/sys".to_owned(), 0xf), ("/proc/kcore".to_owned(), 0x22)]);
        assert!(among("30 1 0:50 / / rw - overlay overlay rw").unwrap().is_none());
    }

    #[test]
    fn what_cannot_be_made_again_is_told() {
        for more in [
            "40 30 0:51 / /host rw - proc proc rw",
            "40 31 0:53 / /proc/x rw shared:3 - tmpfs none rw",
            "40 31 0:53 / /proc/sys rw - tmpfs none rw",
            "40 31 0:53 / /proc rw - tmpfs none rw",
        ] {
            assert!(matches!(among(&format!("{TABLE}\n{more}")), Err(Error::NoShadow { .. })), "{more}");
        }
    }

    #[test]
    fn escapes() {
        assert_eq!(unescaped(r"/a\040b\\134"), b"/a b\\\\");
        assert_eq!(unescaped(r"/a\"), b"/a\\");
    }
}
