//! Users, groups and the ranges of ids that are granted to them.

use std::process::Command;

use super::RemapError;

/// The host's files.
#[derive(Clone, Debug, Default)]
pub(super) struct Accounts {
    pub(super) passwd: String,
    pub(super) group: String,
    pub(super) subuid: String,
    pub(super) subgid: String,
    /// Users and groups of a directory service are in none of the files, but `getent` knows them.
    pub(super) ask_others: bool,
}

/// Ids of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    User,
    Group,
}

impl Kind {
    /// Docker's name for the ranges.
    pub(super) const fn ranges(self) -> &'static str {
        match self {
            Self::User => "subuid",
            Self::Group => "subgid",
        }
    }
}

impl Accounts {
    /// As they are now. A file that is not there is empty.
    pub(super) fn of_host() -> Result<Self, RemapError> {
        Ok(Self {
            passwd: read("read /etc/passwd", "/etc/passwd")?,
            group: read("read /etc/group", "/etc/group")?,
            subuid: read("read /etc/subuid", "/etc/subuid")?,
            subgid: read("read /etc/subgid", "/etc/subgid")?,
            ask_others: true,
        })
    }

    /// The user of that name: the same name, if there is one.
    pub(super) fn user(&self, name: &str) -> Option<String> {
        self.find(&self.passwd, "passwd", 0, name)
    }

    /// The name of the user with that id.
    pub(super) fn user_by_id(&self, uid: u32) -> Option<String> {
        self.find(&self.passwd, "passwd", 2, &uid.to_string())
    }

    /// Whether there is such a group.
    pub(super) fn group(&self, name: &str) -> bool {
        self.find(&self.group, "group", 0, name).is_some()
    }

    /// Whether there is a group with that id.
    pub(super) fn group_by_id(&self, gid: u32) -> bool {
        self.find(&self.group, "group", 2, &gid.to_string()).is_some()
    }

    /// First field of the line whose field `field` is `value`.
    fn find(&self, text: &str, database: &str, field: usize, value: &str) -> Option<String> {
        let of_line = |line: &str| {
            let fields: Vec<&str> = line.split(':').collect();
            (fields.get(field) == Some(&value)).then(|| fields.first().map(|name| (*name).to_owned()))?
        };
        if let Some(found) = text.lines().find_map(of_line) {
            return Some(found);
        }
        if !self.ask_others {
            return None;
        }
        let asked = Command::new("getent").args([database, value]).output().ok()?;
        String::from_utf8_lossy(&asked.stdout).lines().find_map(of_line)
    }

    /// First id and number of ids of every range granted to a user: those by his number, then those
    /// by his name.
    pub(super) fn granted(&self, kind: Kind, user: &str) -> Result<Vec<(u32, u32)>, RemapError> {
        let text = match kind {
            Kind::User => &self.subuid,
            Kind::Group => &self.subgid,
        };
        let all = parse(text).ok_or_else(|| RemapError::Format(format!("/etc/{}", kind.ranges())))?;
        let uid = self.passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(user)).then(|| fields.nth(1).map(str::to_owned))?
        });
        let owners = [uid.as_deref(), Some(user)].into_iter().flatten();
        Ok(owners
            .flat_map(|owner| all.iter().filter(move |range| range.owner == owner))
            .map(Range::numbers)
            .collect())
    }
}

/// The first id after everything that is granted to anybody.
pub(super) fn first_free(accounts: &Accounts) -> u32 {
    // Where distributions begin (login.defs, SUB_UID_MIN).
    const BEGIN: u32 = 100_000;
    let ranges = [&accounts.subuid, &accounts.subgid].into_iter().filter_map(|text| parse(text)).flatten();
    ranges.map(|range| range.first.saturating_add(range.count)).fold(BEGIN, u32::max)
}

struct Range {
    owner: String,
    first: u32,
    count: u32,
}

impl Range {
    fn numbers(&self) -> (u32, u32) {
        (self.first, self.count)
    }
}

/// Every range of a file; `None` when a line is none.
fn parse(text: &str) -> Option<Vec<Range>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let [owner, first, count] = fields.as_slice() else { return None };
            Some(Range { owner: (*owner).to_owned(), first: first.parse().ok()?, count: count.parse().ok()? })
        })
        .collect()
}

fn read(step: &'static str, path: &str) -> Result<String, RemapError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(source) => Err(RemapError::Io { step, source }),
    }
}
