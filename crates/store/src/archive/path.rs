//! What a path of `docker cp` means.

use std::path::{Component, Path, PathBuf};

/// A path within a container, as a client gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// Absolute, `.` and `..` taken out by text, as dockerd does.
    pub(super) path: PathBuf,
    /// A slash or `/.` came last: a symlink there is followed.
    pub(super) follow: bool,
    /// What the archive's top entry is called.
    pub(super) base: Vec<u8>,
}

impl Asked {
    pub(super) fn parse(path: &Path) -> Self {
        use std::os::unix::ffi::OsStrExt;
        let mut clean = PathBuf::from("/");
        for component in path.components() {
            match component {
                Component::Normal(name) => clean.push(name),
                Component::ParentDir => {
                    clean.pop();
                }
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
        let text = path.as_os_str().as_bytes();
        let dot = text == b"." || text.ends_with(b"/.");
        let follow = dot || text.ends_with(b"/") || clean.parent().is_none();
        let base = match clean.file_name() {
            _ if dot => b".".to_vec(),
            Some(name) => name.as_bytes().to_vec(),
            None => b"/".to_vec(),
        };
        Self { path: clean, follow, base }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_dockerd_reads_them() {
        for (text, path, follow, base) in [
            ("/etc/passwd", "/etc/passwd", false, "passwd"),
            ("etc/passwd", "/etc/passwd", false, "passwd"),
            ("/etc/", "/etc", true, "etc"),
            ("/etc/.", "/etc", true, "."),
            ("/", "/", true, "/"),
            (".", "/", true, "."),
            ("", "/", true, "/"),
            ("/a/../../b", "/b", false, "b"),
            ("../../x", "/x", false, "x"),
        ] {
            let asked = Asked::parse(Path::new(text));
            let expected = Asked { path: path.into(), follow, base: base.as_bytes().to_vec() };
            assert_eq!(asked, expected, "{text:?}");
        }
    }
}
