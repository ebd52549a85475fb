//! Cgroups for callers who may not make any: an ordinary user on a host that delegates none. What
//! he asks to limit is refused, what nobody asked for is left out, as runc and crun do.

use std::os::fd::OwnedFd;

use seacow_spec::oci::runtime::{DeviceRule, LinuxResources};

use crate::cgroup::{self, Cgroups};
use crate::error::Error;
use crate::rights;

/// The cgroup to be born in. With `all` also those that are joined later: by somebody who will not
/// be able to wait for them.
pub(crate) fn create(cgroups: &Cgroups, all: bool) -> Result<Option<OwnedFd>, Error> {
    let born_in = tolerate(cgroups.create_for_clone(), None)?;
    if all {
        create_rest(cgroups)?;
    }
    Ok(born_in)
}

/// The version 1 cgroups.
pub(crate) fn create_rest(cgroups: &Cgroups) -> Result<(), Error> {
    tolerate(cgroups.create_v1(), ())
}

/// Device rules that have to be there before init makes devices. Nobody without rights can make
/// devices, so that where he has no cgroup the rules protect nothing.
pub(crate) fn set_devices(cgroups: &Cgroups, rules: &[DeviceRule], all: bool) -> Result<(), Error> {
    match cgroups.set_devices(rules, all) {
        Err(_) if is_without(cgroups) => Ok(()),
        set => Ok(set?),
    }
}

/// Limits, where there is a cgroup to have them.
pub(crate) fn apply(cgroups: &Cgroups, resources: &LinuxResources, all_devices: bool) -> Result<(), Error> {
    match cgroups.apply(resources, all_devices) {
        applied if !is_without_after(&applied, cgroups) => Ok(applied?),
        _ => {
            let asked = LinuxResources { devices: Vec::new(), ..resources.clone() };
            if asked == LinuxResources::default() {
                return Ok(());
            }
            let what = "limits without rights to make a cgroup (linux.resources)";
            Err(Error::NotImplemented { what: what.into() })
        }
    }
}

/// As [`is_without`], asked when there is a doubt.
fn is_without_after(applied: &Result<(), cgroup::Error>, cgroups: &Cgroups) -> bool {
    (applied.is_err() || !rustix::process::geteuid().is_root()) && is_without(cgroups)
}

fn is_without(cgroups: &Cgroups) -> bool {
    !cgroups.exists() && rights::are_limited()
}

fn tolerate<T>(made: Result<T, cgroup::Error>, otherwise: T) -> Result<T, Error> {
    match made {
        Err(error) if error.is_denied() && rights::are_limited() => Ok(otherwise),
        made => Ok(made?),
    }
}
