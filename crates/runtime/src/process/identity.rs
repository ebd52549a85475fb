//! Changing to a user with capabilities.

use std::sync::OnceLock;

use seacow_spec::oci::runtime::Capabilities;
use seacow_sys::Errno;
use seacow_sys::cred::{self, CapSets, Caps};

use super::user::Identity;
use crate::error::{Error, Step};

/// The five sets of a process.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) bounding: Caps,
    pub(crate) effective: Caps,
    pub(crate) permitted: Caps,
    pub(crate) inheritable: Caps,
    pub(crate) ambient: Caps,
}

impl Wanted {
    /// From names. What this host cannot give (unknown to the kernel, or missing from our own
    /// bounding set: an engine inside a container) is left out, as runc does.
    pub(crate) fn of(capabilities: Option<&Capabilities>) -> Result<Self, Error> {
        let available = available()?;
        let none = Capabilities::default();
        let from = capabilities.unwrap_or(&none);
        let set = |names: &[String]| set_of(names) & available;
        Ok(Self {
            bounding: set(&from.bounding),
            effective: set(&from.effective),
            permitted: set(&from.permitted),
            inheritable: set(&from.inheritable),
            // The kernel refuses others; runc leaves them out as well.
            ambient: set(&from.ambient) & set(&from.permitted) & set(&from.inheritable),
        })
    }

    fn sets(&self) -> CapSets {
        CapSets { effective: self.effective, permitted: self.permitted, inheritable: self.inheritable }
    }
}

/// What there is to give: our own bounding set, which nothing changes before a child limits its
/// copy. Read once, by the parent: one call for each capability that the kernel has.
pub(crate) fn available() -> Result<Caps, Error> {
    static AVAILABLE: OnceLock<Caps> = OnceLock::new();
    if let Some(known) = AVAILABLE.get() {
        return Ok(*known);
    }
    let read = cred::bounding().step(|| "read the bounding set".into())?;
    Ok(*AVAILABLE.get_or_init(|| read))
}

/// The capabilities of these names; unknown ones are ignored.
pub(crate) fn set_of(names: &[String]) -> Caps {
    names.iter().filter_map(|n| Caps::named(n)).fold(Caps::default(), |all, one| all | one)
}

const SYS_ADMIN: Caps = Caps(1 << 21);

/// Takes what is not wanted from the bounding set, for ever.
pub(crate) fn limit(wanted: &Wanted) -> Result<(), Error> {
    cred::limit_bounding(wanted.bounding).step(|| "limit the capability bounding set".into())
}

/// Becomes the user, with the wanted sets; when `for_filter`, CAP_SYS_ADMIN is kept for a moment,
/// because loading a filter without no_new_privs needs it ([`drop_rest`] takes it). The bounding set is
/// limited before ([`limit`]).
pub(crate) fn change(who: &Identity, wanted: &Wanted, for_filter: bool) -> Result<(), Error> {
    cred::keep_capabilities(true).step(|| "keep capabilities over the change of user".into())?;
    match cred::set_groups(&who.groups) {
        // In a user namespace that denies setgroups there is nothing to leave and nothing to get.
        Err(Errno::PERM) if who.groups.is_empty() => {}
        done => done.step(|| format!("set groups {:?}", who.groups))?,
    }
    cred::set_gid(who.gid).step(|| format!("set group {}", who.gid))?;
    cred::set_uid(who.uid).step(|| format!("set user {}", who.uid))?;
    let mut sets = wanted.sets();
    if for_filter {
        sets.effective = sets.effective | SYS_ADMIN;
        sets.permitted = sets.permitted | SYS_ADMIN;
    }
    cred::set_capabilities(sets).step(|| "set capabilities".into())?;
    cred::set_ambient(wanted.ambient).step(|| "set ambient capabilities".into())
}

/// Takes what was kept for the filter.
pub(crate) fn drop_rest(wanted: &Wanted) -> Result<(), Error> {
    cred::set_capabilities(wanted.sets()).step(|| "drop the last capabilities".into())
}
