//! Names: the OCI path `slice:prefix:name`, the scope it means, and where its cgroup is.

use std::path::{Path, PathBuf};

/// Slice of containers whose request names none, as runc has it.
const SYSTEM_SLICE: &str = "system.slice";
/// The same under a user's own manager.
const USER_SLICE: &str = "user.slice";

/// A scope of systemd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cgroup) struct Scope {
    /// `seacow-<id>.scope`
    pub(super) unit: String,
    /// `a-b.slice`
    pub(super) slice: String,
    /// The container's own name.
    pub(super) name: String,
    /// Whose manager: the machine's or the user's.
    pub(super) user: bool,
    /// Its cgroup below the hierarchies' roots: `a.slice/a-b.slice/seacow-<id>.scope`.
    pub(in crate::cgroup) dir: PathBuf,
}

impl Scope {
    /// Reads `slice:prefix:name`; `None` when it is not that, or makes no sense. `base` is the
    /// manager's own cgroup.
    pub(super) fn parse(path: &str, user: bool, base: &Path) -> Option<Self> {
        let mut parts = path.split(':');
        let (slice, prefix, name) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || name.is_empty() || name.ends_with(".slice") {
            return None;
        }
        let slice = match slice {
            "" if user => USER_SLICE,
            "" => SYSTEM_SLICE,
            given => given,
        };
        let unit = match prefix {
            "" => format!("{name}.scope"),
            prefix => format!("{prefix}-{name}.scope"),
        };
        // systemd's own limit on names, and the letters it takes.
        let valid = unit.len() < 256
            && unit
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b':' | b'-' | b'_' | b'.' | b'\\' | b'@'));
        valid.then_some(())?;
        let dir = base.join(expand(slice)?).join(&unit);
        Some(Self { unit, slice: slice.to_owned(), name: name.to_owned(), user, dir })
    }
}

/// `a-b-c.slice` lies in `a-b.slice`, which lies in `a.slice`. `-.slice` is the root.
fn expand(slice: &str) -> Option<PathBuf> {
    let stem = slice.strip_suffix(".slice")?;
    let mut path = PathBuf::new();
    if stem == "-" {
        return Some(path);
    }
    let mut name = String::new();
    for part in stem.split('-') {
        if part.is_empty() || part.contains('/') {
            return None;
        }
        if !name.is_empty() {
            name.push('-');
        }
        name.push_str(part);
        path.push(format!("{name}.slice"));
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_in_nested_slices() {
        let scope = |path| Scope::parse(path, false, Path::new(""));
        let one = scope("a-b-c.slice:seacow:x1").unwrap();
        assert_eq!(one.unit, "seacow-x1.scope");
        assert_eq!(one.dir, Path::new("a.slice/a-b.slice/a-b-c.slice/seacow-x1.scope"));
        assert_eq!(scope("::x").unwrap().dir, Path::new("system.slice/x.scope"));
        assert_eq!(scope("-.slice:p:x").unwrap().dir, Path::new("p-x.scope"));
        let own = Scope::parse(":p:x", true, Path::new("user.slice/user@7.service")).unwrap();
        assert_eq!(own.dir, Path::new("user.slice/user@7.service/user.slice/p-x.scope"));
        for wrong in [
            "a",
            "a:b",
            "a:b:c:d",
            "a:b:c",
            "-a.slice:b:c",
            "a-.slice:b:c",
            "a--b.slice:b:c",
            "a/b.slice:b:c",
            ".slice:b:c",
            "a.slice:b:",
            "a.slice:b:c/d",
            "a.slice:b:c.slice",
        ] {
            assert_eq!(scope(wrong), None, "{wrong}");
        }
    }
}
