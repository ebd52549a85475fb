//! `--security-opt`.

use seacow_spec::oci::runtime::Seccomp;
use seacow_spec::shim::SeccompChoice;

use super::error::ContainerError;
use super::invalid::Invalid;
use super::seccomp;

/// What the options say together.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Security {
    pub(crate) seccomp: SeccompChoice,
    /// Name of an AppArmor profile; none is the default one.
    pub(crate) apparmor: Option<String>,
    pub(crate) no_new_privileges: bool,
    /// `systempaths=unconfined`: nothing masked or read-only.
    pub(crate) open_system_paths: bool,
    /// `label=…`, as they came.
    pub(crate) labels: Vec<String>,
}

/// Reads the options. A privileged container is unconfined unless it says otherwise.
///
/// # Errors
/// An option is unknown, malformed, or not honoured.
pub(crate) fn parse(
    options: &[String],
    privileged: bool,
    caps: &[String],
) -> Result<Security, ContainerError> {
    let mut security = Security::default();
    if privileged {
        security.seccomp = SeccompChoice::Unconfined;
    }
    for option in options {
        let invalid = || Invalid::SecurityOption(option.clone());
        // `key:value` is the old way of writing it.
        let (key, value) = match option.split_once('=').or_else(|| option.split_once(':')) {
            Some((key, value)) => (key, Some(value)),
            None => (option.as_str(), None),
        };
        match (key, value) {
            ("no-new-privileges", None | Some("true")) => security.no_new_privileges = true,
            ("no-new-privileges", Some("false")) => security.no_new_privileges = false,
            ("seccomp", Some("unconfined")) => security.seccomp = SeccompChoice::Unconfined,
            ("seccomp", Some("builtin" | "default")) => security.seccomp = SeccompChoice::Default,
            ("seccomp", Some(profile)) => {
                security.seccomp = SeccompChoice::Profile(Box::new(custom(profile, caps)?));
            }
            ("apparmor", Some("")) => security.apparmor = None,
            ("apparmor", Some(profile)) => security.apparmor = Some(profile.to_owned()),
            ("systempaths", Some("unconfined")) => security.open_system_paths = true,
            // Looked at by a daemon that labels; to another they mean nothing, as in Docker.
            ("disable", None) => security.labels.push("disable".into()),
            ("label", Some(option)) => security.labels.push(option.to_owned()),
            _ => return Err(invalid().into()),
        }
    }
    Ok(security)
}

fn custom(profile: &str, caps: &[String]) -> Result<Seccomp, Invalid> {
    seccomp::parse(profile, caps).map_err(|error| Invalid::SeccompProfile(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(options: &[&str]) -> Result<Security, ContainerError> {
        parse(&options.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>(), false, &[])
    }

    #[test]
    fn known_options() {
        assert!(of(&["no-new-privileges"]).unwrap().no_new_privileges);
        assert!(of(&["no-new-privileges:true"]).unwrap().no_new_privileges);
        assert_eq!(of(&["seccomp=unconfined"]).unwrap().seccomp, SeccompChoice::Unconfined);
        assert_eq!(of(&["apparmor=mine"]).unwrap().apparmor.as_deref(), Some("mine"));
        assert_eq!(of(&["apparmor:unconfined"]).unwrap().apparmor.as_deref(), Some("unconfined"));
        assert_eq!(of(&["apparmor="]).unwrap().apparmor, None);
        let SeccompChoice::Profile(profile) =
            of(&[r#"seccomp={"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"mkdir","action":"SCMP_ACT_ERRNO"}]}"#])
                .unwrap()
                .seccomp
        else {
            panic!("not a profile")
        };
        assert_eq!(profile.syscalls[0].names, ["mkdir"]);
    }

    #[test]
    fn labels_in_their_order() {
        let all = of(&["label=type:x", "label:level:s0:c1,c2", "disable", "label=disable"]).unwrap();
        assert_eq!(all.labels, ["type:x", "level:s0:c1,c2", "disable", "disable"]);
    }

    #[test]
    fn unknown_ones_are_refused() {
        for bad in ["nonsense", "seccomp={", "label", "no-new-privileges=maybe"] {
            assert!(of(&[bad]).is_err(), "{bad}");
        }
    }
}
