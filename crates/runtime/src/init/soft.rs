//! Cgroups for callers who may not make any: an ordinary user on a host that delegates none. What
//! he asks to limit is refused, what nobody asked for is left out, as runc and crun do.

use std::os::fd::OwnedFd;

use seacow_spec::oci::runtime::{DeviceRule, LinuxResources};

use crate::cgroup::{self, Cgroups};
use crate::error::Error;

/// The cgroup to be born in. With `all` also those that are joined later: by somebody who will not
/// be able to wait for them.
pub(super) fn create(cgroups: &Cgroups, all: bool) -> Result<Option<OwnedFd>, Error> {
    let born_in = tolerate(cgroups.create_for_clone(), None)?;
    if all {
        create_rest(cgroups)?;
    }
    Ok(born_in)
}

/// The version 1 cgroups.
pub(super) fn create_rest(cgroups: &Cgroups) -> Result<(), Error> {
    tolerate(cgroups.create_v1(), ())
}

/// Device rules that have to be there before init makes devices. Nobody without rights can make
/// devices, so that where he has no cgroup the rules protect nothing.
pub(super) fn set_devices(cgroups: &Cgroups, rules: &[DeviceRule], all: bool) -> Result<(), Error> {
    match cgroups.set_devices(rules, all) {
        Err(_) if is_without(cgroups) => Ok(()),
        set => Ok(set?),
    }
}

/// Limits, where there is a cgroup to have them.
pub(super) fn apply(cgroups: &Cgroups, resources: &LinuxResources, all_devices: bool) -> Result<(), Error> {
    if is_without(cgroups) {
        let asked = LinuxResources { devices: Vec::new(), ..resources.clone() };
        if asked == LinuxResources::default() {
            return Ok(());
        }
        let what = "limits without rights to make a cgroup (linux.resources)";
        return Err(Error::NotImplemented { what: what.into() });
    }
    Ok(cgroups.apply(resources, all_devices)?)
}

fn is_without(cgroups: &Cgroups) -> bool {
    !rustix::process::geteuid().is_root() && !cgroups.exists()
}

fn tolerate<T>(made: Result<T, cgroup::Error>, otherwise: T) -> Result<T, Error> {
    match made {
        Err(error) if error.is_denied() && !rustix::process::geteuid().is_root() => Ok(otherwise),
        made => Ok(made?),
    }
}
