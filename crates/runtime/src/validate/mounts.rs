//! `mounts`.

use seacow_spec::oci::runtime::Mount;
use seacow_sys::ns::Kinds;

use super::{Error, Warning, maps, no_zero};
use crate::mounts::options::Options;

pub(super) fn check(mounts: &[Mount], kinds: Kinds, warnings: &mut Vec<Warning>) -> Result<(), Error> {
    for (index, mount) in mounts.iter().enumerate() {
        let at = |field: &str| format!("mounts[{index}].{field}");
        if mount.destination.is_empty() {
            return Err(Error::field(at("destination"), "missing"));
        }
        if !mount.destination.starts_with('/') {
            let what = format!("{:?} is not absolute, taken as below /", mount.destination);
            warnings.push(Warning { path: at("destination"), what });
        }
        for (field, text) in [("destination", &mount.destination), ("source", &mount.source)] {
            if text.contains('\0') {
                return Err(Error::field(at(field), "has a zero byte"));
            }
        }
        no_zero(&at("options"), &mount.options)?;
        let options = Options::parse(&mount.options);
        let bind = options.bind.is_some() || mount.kind == "bind";
        if bind && mount.source.is_empty() {
            return Err(Error::field(at("source"), "a bind mount needs one"));
        }
        if !bind && mount.kind.is_empty() {
            return Err(Error::field(at("type"), "missing"));
        }
        check_maps(mount, &options, bind, kinds, index)?;
    }
    Ok(())
}

fn check_maps(mount: &Mount, options: &Options, bind: bool, kinds: Kinds, index: usize) -> Result<(), Error> {
    let at = |field: &str| format!("mounts[{index}].{field}");
    let mapped = !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty();
    if !mapped {
        if options.id_map.is_some() && !kinds.contains(Kinds::USER) {
            return Err(Error::field(at("options"), "idmap without mappings needs a user namespace"));
        }
        return Ok(());
    }
    if !bind {
        return Err(Error::field(at("uidMappings"), "only bind mounts can be id-mapped"));
    }
    maps::check(&at("uidMappings"), &mount.uid_mappings)?;
    maps::check(&at("gidMappings"), &mount.gid_mappings)
}
