//! Users and groups by the container's own `/etc/passwd` and `/etc/group`.

use std::path::Path;

use seacow_sys::Errno;
use seacow_sys::rooted::Root;

/// Why a user or group cannot be used. The texts are what docker's users know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A name that the password file does not have.
    #[error("unable to find user {0}: no matching entries in passwd file")]
    NoUser(String),
    /// A name that the group file does not have.
    #[error("unable to find group {0}: no matching entries in group file")]
    NoGroup(String),
    /// A number out of range.
    #[error("uids and gids must be in range 0-2147483647")]
    Range,
    /// A file that is there but cannot be read.
    #[error("read {file} of the container")]
    Read {
        /// Which.
        file: &'static str,
        /// Why.
        #[source]
        errno: Errno,
    },
}

/// Who a process is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Home directory, from the password file, otherwise `/`.
    pub home: String,
}

/// Bound of the password and group files: a large directory service dumped to a file is a few MiB.
const LIMIT: u64 = 32 << 20;
const MAX_ID: u32 = i32::MAX as u32;

/// Looks up `user[:group]` (empty: root) and further groups below `root`.
pub(crate) fn resolve(root: &Root, user: &str, extra: &[String]) -> Result<Identity, Error> {
    let passwd = read(root, "/etc/passwd")?;
    let group = read(root, "/etc/group")?;
    identity(&passwd, &group, user, extra)
}

/// A missing file is an empty one.
fn read(root: &Root, file: &'static str) -> Result<String, Error> {
    match root.read(Path::new(file), LIMIT) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(String::new()),
        Err(errno) => Err(Error::Read { file, errno }),
    }
}

/// One line of either file: name, number, and what else is used of it.
struct Line<'a> {
    name: &'a str,
    number: u32,
    /// passwd: group number. group: unused.
    gid: u32,
    /// passwd: home. group: members, comma separated.
    rest: &'a str,
}

fn passwd_lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let (name, _) = (fields.next()?, fields.next()?);
        let number = fields.next()?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Line { name, number, gid, rest: fields.nth(1).unwrap_or("") })
    })
}

fn group_lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let (name, _) = (fields.next()?, fields.next()?);
        let number = fields.next()?.parse().ok()?;
        Some(Line { name, number, gid: 0, rest: fields.next().unwrap_or("") })
    })
}

fn identity(passwd: &str, group: &str, spec: &str, extra: &[String]) -> Result<Identity, Error> {
    let (user, wanted_group) = match spec.split_once(':') {
        Some((user, group)) => (user, group),
        None => (spec, ""),
    };
    // A name of digits is a name first, as the files decide.
    let number = user.parse::<u32>().ok();
    let found = if user.is_empty() {
        passwd_lines(passwd).find(|l| l.number == 0)
    } else {
        passwd_lines(passwd).find(|l| l.name == user || Some(l.number) == number)
    };
    let mut who = Identity { home: "/".into(), ..Identity::default() };
    match (&found, number) {
        (Some(line), _) => {
            (who.uid, who.gid) = (line.number, line.gid);
            if !line.rest.is_empty() {
                who.home = line.rest.to_owned();
            }
        }
        (None, Some(number)) => who.uid = number,
        (None, None) if user.is_empty() => {}
        (None, None) => return Err(Error::NoUser(user.to_owned())),
    }
    if wanted_group.is_empty() {
        if let Some(line) = &found {
            who.groups = group_lines(group)
                .filter(|g| g.rest.split(',').any(|member| member.trim() == line.name))
                .map(|g| g.number)
                .collect();
        }
    } else {
        who.gid = group_number(group, wanted_group)?;
    }
    for name in extra {
        let gid = group_number(group, name)?;
        if !who.groups.contains(&gid) {
            who.groups.push(gid);
        }
    }
    if who.uid > MAX_ID || who.gid > MAX_ID || who.groups.iter().any(|g| *g > MAX_ID) {
        return Err(Error::Range);
    }
    Ok(who)
}

fn group_number(group: &str, name: &str) -> Result<u32, Error> {
    let number = name.parse::<u32>().ok();
    match group_lines(group).find(|g| g.name == name || Some(g.number) == number) {
        Some(line) => Ok(line.number),
        None => number.ok_or_else(|| Error::NoGroup(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\n# comment\nweb:x:33:33::/srv:/bin/false\n7:x:70:70::/seven:\n";
    const GROUP: &str = "root:x:0:\nweb:x:33:\naudio:x:29:web, alice\nvideo:x:44:bob,web\n";

    fn who(spec: &str) -> Result<Identity, Error> {
        identity(PASSWD, GROUP, spec, &[])
    }

    #[test]
    fn names_numbers_and_groups() {
        let root = who("").unwrap();
        assert_eq!((root.uid, root.gid, root.home.as_str()), (0, 0, "/root"));
        let web = who("web").unwrap();
        assert_eq!(
            (web.uid, web.gid, web.groups.as_slice(), web.home.as_str()),
            (33, 33, &[29, 44][..], "/srv")
        );
        assert_eq!(who("33").unwrap(), web);
        let mixed = who("web:audio").unwrap();
        assert_eq!((mixed.uid, mixed.gid, mixed.groups.len()), (33, 29, 0));
        let numeric = who("1000:1000").unwrap();
        assert_eq!((numeric.uid, numeric.gid, numeric.home.as_str()), (1000, 1000, "/"));
        assert_eq!(who("1000").unwrap().gid, 0);
        assert_eq!(who("7").unwrap().uid, 70);
        assert_eq!(who(":audio").unwrap().gid, 29);
    }

    #[test]
    fn texts_of_refusals() {
        assert_eq!(
            who("foo").unwrap_err().to_string(),
            "unable to find user foo: no matching entries in passwd file"
        );
        assert_eq!(
            who("web:foo").unwrap_err().to_string(),
            "unable to find group foo: no matching entries in group file"
        );
        assert_eq!(who("4294967295").unwrap_err(), Error::Range);
        assert_eq!(identity("", "", "", &[]).unwrap().home, "/");
        assert_eq!(identity("", "", "0", &["5".into(), "5".into()]).unwrap().groups, [5]);
    }
}
