//! Mount options as texts, as fstab and the OCI specification write them.

use std::path::PathBuf;

use seacow_spec::shim::BENEATH;
use seacow_sys::mount::{Attributes, MountFlags, Propagation};

/// All options that are not left to the file system.
pub const NAMES: &[&str] = &[
    "async",
    "atime",
    "bind",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "idmap",
    "iversion",
    "lazytime",
    "loud",
    "mand",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "noiversion",
    "nolazytime",
    "nomand",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nosymfollow",
    "private",
    "ratime",
    "rbind",
    "rdev",
    "rdiratime",
    "relatime",
    "remount",
    "rexec",
    "ridmap",
    "rnoatime",
    "rnodev",
    "rnodiratime",
    "rnoexec",
    "rnorelatime",
    "rnostrictatime",
    "rnosuid",
    "rnosymfollow",
    "ro",
    "rprivate",
    "rrelatime",
    "rro",
    "rrw",
    "rshared",
    "rslave",
    "rstrictatime",
    "rsuid",
    "rsymfollow",
    "runbindable",
    "rw",
    "shared",
    "silent",
    "slave",
    "strictatime",
    "suid",
    "symfollow",
    "sync",
    "tmpcopyup",
    "unbindable",
];

/// Options sorted by who handles them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// Bind, and with all mounts below.
    pub(crate) bind: Option<Bind>,
    /// Attributes of the mount itself to set.
    pub(crate) set: Attributes,
    /// Attributes to clear (`rw`, `suid`, `dev`, `exec` written out).
    pub(crate) clear: Attributes,
    /// Attributes of the mount and all below (`rro`, …).
    pub(crate) set_recursive: Attributes,
    /// Attributes to clear of the mount and all below (`rrw`, …).
    pub(crate) clear_recursive: Attributes,
    /// Propagation of the mount, and whether of all below.
    pub(crate) propagation: Option<(Propagation, bool)>,
    /// Map ids (`idmap`), and with all mounts below (`ridmap`).
    pub(crate) id_map: Option<Bind>,
    /// Switches of the file system that mount(2) takes as flags.
    fs_flags: u32,
    /// Options of the file system, comma separated.
    pub(crate) data: String,
    /// Copy what the mount hides into the new tmpfs.
    pub(crate) copy_up: bool,
    /// What is bound is at this path in the source, whatever links lie on it.
    pub(crate) beneath: Option<PathBuf>,
}

/// Whether mounts below the source come along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bind {
    Single,
    Recursive,
}

impl Options {
    /// Sorts them. Never fails: what is unknown is the file system's own.
    pub(crate) fn parse(texts: &[String]) -> Self {
        let mut options = Self::default();
        for text in texts {
            options.take(text);
        }
        options
    }

    fn take(&mut self, text: &str) {
        if let Some((attribute, on)) = attribute(text) {
            turn((&mut self.set, &mut self.clear), attribute, on);
            return;
        }
        if let Some((attribute, on)) = text.strip_prefix('r').and_then(attribute) {
            turn((&mut self.set_recursive, &mut self.clear_recursive), attribute, on);
            return;
        }
        if let Some((flag, on)) = fs_flag(text) {
            self.fs_flags = if on { self.fs_flags | flag.bits() } else { self.fs_flags & !flag.bits() };
            return;
        }
        match text {
            "bind" => self.bind = self.bind.or(Some(Bind::Single)),
            "rbind" => self.bind = Some(Bind::Recursive),
            "private" => self.propagation = Some((Propagation::Private, false)),
            "rprivate" => self.propagation = Some((Propagation::Private, true)),
            "shared" => self.propagation = Some((Propagation::Shared, false)),
            "rshared" => self.propagation = Some((Propagation::Shared, true)),
            "slave" => self.propagation = Some((Propagation::Slave, false)),
            "rslave" => self.propagation = Some((Propagation::Slave, true)),
            "unbindable" => self.propagation = Some((Propagation::Unbindable, false)),
            "runbindable" => self.propagation = Some((Propagation::Unbindable, true)),
            "idmap" => self.id_map = Some(Bind::Single),
            "ridmap" => self.id_map = Some(Bind::Recursive),
            "tmpcopyup" => self.copy_up = true,
            "defaults" | "" => {}
            other if other.starts_with(BENEATH) => {
                self.beneath = other.strip_prefix(BENEATH).map(PathBuf::from)
            }
            other => {
                if !self.data.is_empty() {
                    self.data.push(',');
                }
                self.data.push_str(other);
            }
        }
    }

    /// The attributes and switches as mount(2) takes them.
    pub(crate) fn flags(&self) -> MountFlags {
        let pairs = [
            (Attributes::READ_ONLY, MountFlags::RDONLY),
            (Attributes::NO_SUID, MountFlags::NOSUID),
            (Attributes::NO_DEV, MountFlags::NODEV),
            (Attributes::NO_EXEC, MountFlags::NOEXEC),
            (Attributes::NO_ATIME, MountFlags::NOATIME),
            (Attributes::NO_DIRATIME, MountFlags::NODIRATIME),
            (Attributes::STRICT_ATIME, MountFlags::STRICTATIME),
            // MS_NOSYMFOLLOW (Linux 5.10)
            (Attributes::NO_SYMFOLLOW, MountFlags::from_bits_retain(0x100)),
        ];
        let mut flags = MountFlags::from_bits_retain(self.fs_flags);
        for (attribute, flag) in pairs {
            if self.set.contains(attribute) {
                flags |= flag;
            }
        }
        flags
    }
}

/// The last word counts, and of the three access time modes the last one alone.
fn turn((set, clear): (&mut Attributes, &mut Attributes), attribute: Attributes, on: bool) {
    let field = if Attributes::ATIME_MODES.contains(attribute) { Attributes::ATIME_MODES } else { attribute };
    (*set, *clear) = (set.without(field), clear.without(field));
    if on { *set |= attribute } else { *clear |= field }
}

/// An option that is an attribute of the mount, and whether it sets it.
fn attribute(text: &str) -> Option<(Attributes, bool)> {
    Some(match text {
        "ro" => (Attributes::READ_ONLY, true),
        "rw" => (Attributes::READ_ONLY, false),
        "nosuid" => (Attributes::NO_SUID, true),
        "suid" => (Attributes::NO_SUID, false),
        "nodev" => (Attributes::NO_DEV, true),
        "dev" => (Attributes::NO_DEV, false),
        "noexec" => (Attributes::NO_EXEC, true),
        "exec" => (Attributes::NO_EXEC, false),
        "noatime" => (Attributes::NO_ATIME, true),
        "atime" => (Attributes::NO_ATIME, false),
        "strictatime" => (Attributes::STRICT_ATIME, true),
        "nostrictatime" => (Attributes::STRICT_ATIME, false),
        // The default of the kernel, which is what is left when no mode is set.
        "relatime" | "norelatime" => (Attributes::ATIME_MODES, false),
        "nodiratime" => (Attributes::NO_DIRATIME, true),
        "diratime" => (Attributes::NO_DIRATIME, false),
        "nosymfollow" => (Attributes::NO_SYMFOLLOW, true),
        "symfollow" => (Attributes::NO_SYMFOLLOW, false),
        _ => return None,
    })
}

/// An option that is a flag of mount(2) but no attribute of the mount.
fn fs_flag(text: &str) -> Option<(MountFlags, bool)> {
    // MS_REMOUNT, which rustix keeps for itself, and MS_I_VERSION.
    let (remount, i_version) = (MountFlags::from_bits_retain(0x20), MountFlags::from_bits_retain(0x80_0000));
    Some(match text {
        "sync" => (MountFlags::SYNCHRONOUS, true),
        "async" => (MountFlags::SYNCHRONOUS, false),
        "dirsync" => (MountFlags::DIRSYNC, true),
        "mand" => (MountFlags::PERMIT_MANDATORY_FILE_LOCKING, true),
        "nomand" => (MountFlags::PERMIT_MANDATORY_FILE_LOCKING, false),
        "lazytime" => (MountFlags::LAZYTIME, true),
        "nolazytime" => (MountFlags::LAZYTIME, false),
        "iversion" => (i_version, true),
        "noiversion" => (i_version, false),
        "silent" => (MountFlags::SILENT, true),
        "loud" => (MountFlags::SILENT, false),
        "remount" => (remount, true),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Options {
        Options::parse(&text.split(',').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn every_name_is_known() {
        for name in NAMES {
            assert_eq!(parse(name).data, "", "{name}");
        }
        assert!(NAMES.is_sorted());
        assert_eq!(parse("mode=700").data, "mode=700");
    }

    #[test]
    fn sorts() {
        let o = parse("nosuid,noexec,mode=755,size=65536k,ro,rw");
        assert_eq!(o.data, "mode=755,size=65536k");
        assert_eq!(o.set, Attributes::NO_SUID | Attributes::NO_EXEC);
        assert_eq!(o.flags(), MountFlags::NOSUID | MountFlags::NOEXEC);
        let o = parse("rbind,rro,rslave");
        assert_eq!((o.bind, o.set_recursive), (Some(Bind::Recursive), Attributes::READ_ONLY));
        assert_eq!(o.propagation, Some((Propagation::Slave, true)));
        assert_eq!(parse("rro,rrw,rnosuid").clear_recursive, Attributes::READ_ONLY);
        assert_eq!(parse("rnoatime,rrelatime").clear_recursive, Attributes::ATIME_MODES);
        assert_eq!(parse("noatime,strictatime").set, Attributes::STRICT_ATIME);
        assert_eq!(parse("sync,nosymfollow,mand").data, "");
        assert_eq!(
            (parse("idmap").id_map, parse("ridmap").id_map),
            (Some(Bind::Single), Some(Bind::Recursive))
        );
        assert_eq!(parse("bind,rbind").bind, Some(Bind::Recursive));
        assert_eq!(parse("rbind,bind").bind, Some(Bind::Recursive));
    }
}
