//! Mount options as texts, as fstab and the OCI specification write them.

use seacow_sys::mount::{Attributes, MountFlags, Propagation};

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
    /// Propagation of the mount, and whether of all below.
    pub(crate) propagation: Option<(Propagation, bool)>,
    /// Options of the file system, comma separated.
    pub(crate) data: String,
    /// Copy what the mount hides into the new tmpfs.
    pub(crate) copy_up: bool,
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
            if on {
                self.set |= attribute;
                self.clear = self.clear.without(attribute);
            } else {
                self.clear |= attribute;
                self.set = self.set.without(attribute);
            }
            return;
        }
        if let Some((attribute, true)) = text.strip_prefix('r').and_then(attribute) {
            self.set_recursive |= attribute;
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
            "tmpcopyup" => self.copy_up = true,
            "defaults" | "async" | "relatime" | "norelatime" | "" => {}
            other => {
                if !self.data.is_empty() {
                    self.data.push(',');
                }
                self.data.push_str(other);
            }
        }
    }

    /// The attributes as mount(2) takes them.
    pub(crate) fn flags(&self) -> MountFlags {
        let pairs = [
            (Attributes::READ_ONLY, MountFlags::RDONLY),
            (Attributes::NO_SUID, MountFlags::NOSUID),
            (Attributes::NO_DEV, MountFlags::NODEV),
            (Attributes::NO_EXEC, MountFlags::NOEXEC),
            (Attributes::NO_ATIME, MountFlags::NOATIME),
            (Attributes::NO_DIRATIME, MountFlags::NODIRATIME),
            (Attributes::STRICT_ATIME, MountFlags::STRICTATIME),
        ];
        let mut flags = MountFlags::empty();
        for (attribute, flag) in pairs {
            if self.set.contains(attribute) {
                flags |= flag;
            }
        }
        flags
    }
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
        "nodiratime" => (Attributes::NO_DIRATIME, true),
        "diratime" => (Attributes::NO_DIRATIME, false),
        "nosymfollow" => (Attributes::NO_SYMFOLLOW, true),
        "symfollow" => (Attributes::NO_SYMFOLLOW, false),
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
    fn sorts() {
        let o = parse("nosuid,noexec,mode=755,size=65536k,ro,rw");
        assert_eq!(o.data, "mode=755,size=65536k");
        assert_eq!(o.set, Attributes::NO_SUID | Attributes::NO_EXEC);
        assert_eq!(o.flags(), MountFlags::NOSUID | MountFlags::NOEXEC);
        let o = parse("rbind,rro,rslave");
        assert_eq!((o.bind, o.set_recursive), (Some(Bind::Recursive), Attributes::READ_ONLY));
        assert_eq!(o.propagation, Some((Propagation::Slave, true)));
        assert_eq!(parse("bind,rbind").bind, Some(Bind::Recursive));
        assert_eq!(parse("rbind,bind").bind, Some(Bind::Recursive));
    }
}
