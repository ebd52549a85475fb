//! From the OCI specification's words to a [`Profile`]. Errors name the field.

use seacow_spec::oci::runtime::{Seccomp, SeccompArg, SeccompRule};
use seacow_sys::seccomp::Flags;

use crate::validate::Warning;

use super::Error;
use super::profile::{
    ALLOW, Action, Arch, Condition, ERRNO, KILL_PROCESS, KILL_THREAD, Known, LOG, NOTIFY, Profile, TRACE,
    TRAP, Test, stricter,
};

/// The field's place in a `config.json`.
const FIELD: &str = "linux.seccomp";

/// Reads an OCI profile.
pub(super) fn parse(oci: &Seccomp) -> Result<Profile, Error> {
    let default = action(&oci.default_action, oci.default_errno_ret, || {
        (format!("{FIELD}.defaultAction"), format!("{FIELD}.defaultErrnoRet"))
    })?;
    if default == NOTIFY {
        // It would include `write`, below.
        return Err(invalid("defaultAction", "SCMP_ACT_NOTIFY cannot be used as default action"));
    }
    let mut profile = Profile::new(default, &arches(&oci.architectures)?, Flags::default());
    for (at, rule) in oci.syscalls.iter().enumerate() {
        add_rule(&mut profile, at, rule)?;
    }
    profile.flags = flags(&oci.flags, profile.notifies)?;
    listener(oci, profile.notifies)?;
    Ok(profile)
}

fn invalid(field: impl std::fmt::Display, why: &str) -> Error {
    Error::Invalid { path: format!("{FIELD}.{field}"), why: why.to_owned() }
}

/// Where notifications go. The path is used by the runtime, outside the container.
fn listener(oci: &Seccomp, notifies: bool) -> Result<(), Error> {
    if oci.listener_path.is_empty() && !oci.listener_metadata.is_empty() {
        return Err(invalid("listenerMetadata", "must not be set without listenerPath"));
    }
    if !notifies {
        // The specification: then the path is ignored.
        return Ok(());
    }
    if oci.listener_path.is_empty() {
        return Err(invalid("listenerPath", "must be set when SCMP_ACT_NOTIFY is used"));
    }
    if oci.listener_path.starts_with('/') {
        return Ok(());
    }
    Err(invalid("listenerPath", "must be an absolute path"))
}

fn add_rule(profile: &mut Profile, at: usize, rule: &SeccompRule) -> Result<(), Error> {
    let field = |name: &str| format!("{FIELD}.syscalls[{at}].{name}");
    let action = action(&rule.action, rule.errno_ret, || (field("action"), field("errnoRet")))?;
    let conditions = rule
        .args
        .iter()
        .enumerate()
        .map(|(number, arg)| condition(arg, || field(&format!("args[{number}]"))))
        .collect::<Result<Vec<_>, _>>()?;
    if rule.names.is_empty() {
        return Err(Error::Invalid { path: field("names"), why: "must have at least one entry".into() });
    }
    for (number, name) in rule.names.iter().enumerate() {
        let path = || field(&format!("names[{number}]"));
        if action == NOTIFY && name == "write" {
            // Other runtimes report through write that the filter is in place. A profile that works
            // here works there.
            let why = "SCMP_ACT_NOTIFY cannot be used for the write syscall".into();
            return Err(Error::Invalid { path: path(), why });
        }
        if profile.add(name, &conditions, action) == Known::Nowhere {
            unknown_name(profile, action, name, path())?;
        }
    }
    Ok(())
}

/// A name that no architecture has may be a call of a newer kernel: whatever permits it can be left
/// out, since the default is stricter. What forbids it cannot: the call would stay open.
fn unknown_name(profile: &mut Profile, action: Action, name: &str, path: String) -> Result<(), Error> {
    if name.is_empty() || stricter(action, profile.default) {
        return Err(Error::Unknown { path, what: "system call", value: name.to_owned() });
    }
    profile.ignored.push(Warning { path, what: format!("unknown system call {name:?} is ignored") });
    Ok(())
}

/// What cannot run on the kernels we have numbers for needs no rules: its calls cannot come.
const WITHOUT_NUMBERS: &[&str] = &[
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
];

fn arches(names: &[String]) -> Result<Vec<Arch>, Error> {
    // The native one is always there, as in libseccomp.
    let mut found: Vec<Arch> = Arch::NATIVE.first().copied().into_iter().collect();
    for (at, name) in names.iter().enumerate() {
        match Arch::ALL.iter().find(|arch| arch.name() == name) {
            Some(arch) if !found.contains(arch) => found.push(*arch),
            Some(_) => {}
            None if name == "SCMP_ARCH_NATIVE" || WITHOUT_NUMBERS.contains(&name.as_str()) => {}
            None => {
                let path = format!("{FIELD}.architectures[{at}]");
                return Err(Error::Unknown { path, what: "architecture", value: name.clone() });
            }
        }
    }
    Ok(found)
}

fn flags(names: &[String], notifies: bool) -> Result<Flags, Error> {
    if names.is_empty() {
        // As runc: the mitigation costs much and protects only within one process.
        return Ok(Flags::SPEC_ALLOW);
    }
    let mut all = Flags::default();
    for (at, name) in names.iter().enumerate() {
        let flag = match name.as_str() {
            // The process has one thread, and with a listener the kernel refuses the flag.
            "SECCOMP_FILTER_FLAG_TSYNC" if notifies => continue,
            "SECCOMP_FILTER_FLAG_TSYNC" => Flags::TSYNC,
            "SECCOMP_FILTER_FLAG_LOG" => Flags::LOG,
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => Flags::SPEC_ALLOW,
            // Without a listener there is nothing to wait for, and the kernel refuses the flag.
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" if !notifies => continue,
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => Flags::WAIT_KILLABLE_RECV,
            _ => {
                let path = format!("{FIELD}.flags[{at}]");
                return Err(Error::Unknown { path, what: "flag", value: name.clone() });
            }
        };
        all = all | flag;
    }
    Ok(all)
}

/// `paths` gives the fields of the word and of its value.
fn action(
    name: &str,
    errno_ret: Option<u32>,
    paths: impl FnOnce() -> (String, String),
) -> Result<Action, Error> {
    const EPERM: u32 = 1;
    // The kernel caps errno values at MAX_ERRNO; a tracer gets all 16 bits.
    let (base, most) = match name {
        "SCMP_ACT_ALLOW" => (ALLOW, None),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => (KILL_THREAD, None),
        "SCMP_ACT_KILL_PROCESS" => (KILL_PROCESS, None),
        "SCMP_ACT_TRAP" => (TRAP, None),
        "SCMP_ACT_ERRNO" => (ERRNO, Some(4095)),
        "SCMP_ACT_TRACE" => (TRACE, Some(0xffff)),
        "SCMP_ACT_LOG" => (LOG, None),
        "SCMP_ACT_NOTIFY" => (NOTIFY, None),
        _ => return Err(Error::Unknown { path: paths().0, what: "action", value: name.to_owned() }),
    };
    match (most, errno_ret) {
        (None, None) => Ok(base),
        (Some(_), None) => Ok(base | EPERM),
        (Some(most), Some(value)) if value <= most => Ok(base | value),
        (Some(_), Some(value)) => Err(Error::Range { path: paths().1, value: value.into() }),
        (None, Some(_)) => {
            Err(Error::Invalid { path: paths().1, why: format!("{name} does not return an errno") })
        }
    }
}

fn condition(arg: &SeccompArg, path: impl Fn() -> String) -> Result<Condition, Error> {
    let index = u8::try_from(arg.index)
        .ok()
        .filter(|i| *i < 6)
        .ok_or_else(|| Error::Range { path: format!("{}.index", path()), value: arg.index.into() })?;
    let test = match arg.op.as_str() {
        "SCMP_CMP_EQ" => Test::Equal(arg.value),
        "SCMP_CMP_NE" => Test::NotEqual(arg.value),
        "SCMP_CMP_LT" => Test::Less(arg.value),
        "SCMP_CMP_LE" => Test::LessOrEqual(arg.value),
        "SCMP_CMP_GT" => Test::Greater(arg.value),
        "SCMP_CMP_GE" => Test::GreaterOrEqual(arg.value),
        // As libseccomp: bits of the value outside the mask do not count.
        "SCMP_CMP_MASKED_EQ" => Test::Masked { mask: arg.value, value: arg.value_two & arg.value },
        _ => {
            let path = format!("{}.op", path());
            return Err(Error::Unknown { path, what: "comparison", value: arg.op.clone() });
        }
    };
    Ok(Condition { index, test })
}
