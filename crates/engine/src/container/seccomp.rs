//! Docker's seccomp profile format, turned into OCI's: the architecture map resolved, rules kept or
//! left out by the container's capabilities and the machine.

use seacow_spec::oci::runtime::{Seccomp, SeccompArg, SeccompRule};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Profile {
    default_action: String,
    default_errno_ret: Option<u32>,
    architectures: Option<Vec<String>>,
    arch_map: Option<Vec<ArchMap>>,
    flags: Option<Vec<String>>,
    syscalls: Option<Vec<Rule>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMap {
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Rule {
    name: String,
    names: Option<Vec<String>>,
    action: String,
    errno_ret: Option<u32>,
    args: Option<Vec<Arg>>,
    includes: Condition,
    excludes: Condition,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Arg {
    index: u32,
    value: u64,
    value_two: u64,
    op: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Condition {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

#[cfg(target_arch = "x86_64")]
const MACHINE: (&str, &str) = ("SCMP_ARCH_X86_64", "amd64");
#[cfg(target_arch = "aarch64")]
const MACHINE: (&str, &str) = ("SCMP_ARCH_AARCH64", "arm64");

/// Reads a profile for a container with these capabilities.
///
/// # Errors
/// The text is not a profile.
pub(super) fn parse(text: &str, caps: &[String]) -> Result<Seccomp, serde_json::Error> {
    let profile: Profile = serde_json::from_str(text)?;
    if profile.default_action.is_empty() {
        return Err(serde::de::Error::custom("no defaultAction"));
    }
    let kernel = kernel_version();
    Ok(Seccomp {
        architectures: architectures(&profile),
        default_action: profile.default_action,
        default_errno_ret: profile.default_errno_ret,
        flags: profile.flags.unwrap_or_default(),
        syscalls: profile
            .syscalls
            .unwrap_or_default()
            .into_iter()
            .filter(|rule| applies(rule, caps, kernel))
            .map(rule)
            .collect(),
        ..Seccomp::default()
    })
}

fn architectures(profile: &Profile) -> Vec<String> {
    let mapped = profile.arch_map.iter().flatten().find(|entry| entry.architecture == MACHINE.0);
    match mapped {
        Some(entry) => {
            let own = std::iter::once(entry.architecture.clone());
            own.chain(entry.sub_architectures.iter().flatten().cloned()).collect()
        }
        None => profile.architectures.clone().unwrap_or_default(),
    }
}

fn applies(rule: &Rule, caps: &[String], kernel: (u32, u32)) -> bool {
    let has_cap = |name: &String| caps.contains(name);
    let is_arch = |name: &String| name == MACHINE.1;
    let new_enough = |version: &String| version_of(version).is_some_and(|wanted| kernel >= wanted);
    let (included, excluded) = (&rule.includes, &rule.excludes);
    included.caps.iter().flatten().all(has_cap)
        && included.arches.as_ref().is_none_or(|arches| arches.is_empty() || arches.iter().any(is_arch))
        && included.min_kernel.as_ref().is_none_or(new_enough)
        && !excluded.caps.iter().flatten().any(has_cap)
        && !excluded.arches.iter().flatten().any(is_arch)
        && !excluded.min_kernel.as_ref().is_some_and(new_enough)
}

fn rule(rule: Rule) -> SeccompRule {
    let mut names = rule.names.unwrap_or_default();
    if !rule.name.is_empty() {
        names.push(rule.name);
    }
    let args = rule.args.unwrap_or_default().into_iter().map(|arg| SeccompArg {
        index: arg.index,
        value: arg.value,
        value_two: arg.value_two,
        op: arg.op,
    });
    SeccompRule { names, action: rule.action, errno_ret: rule.errno_ret, args: args.collect() }
}

fn kernel_version() -> (u32, u32) {
    version_of(&rustix::system::uname().release().to_string_lossy()).unwrap_or((0, 0))
}

fn version_of(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_depend_on_capabilities_machine_and_kernel() {
        let text = r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":1,
            "archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]}],
            "syscalls":[
              {"names":["read","write"],"action":"SCMP_ACT_ALLOW"},
              {"names":["mount"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_ADMIN"]}},
              {"names":["clone"],"action":"SCMP_ACT_ALLOW","excludes":{"caps":["CAP_SYS_ADMIN"]},
               "args":[{"index":0,"value":2114060288,"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"}]},
              {"names":["s390_only"],"action":"SCMP_ACT_ALLOW","includes":{"arches":["s390"]}},
              {"names":["ptrace"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"4.8"}},
              {"names":["future"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"99.0"}}]}"#;
        let names = |caps: &[String]| {
            parse(text, caps).unwrap().syscalls.into_iter().flat_map(|rule| rule.names).collect::<Vec<_>>()
        };
        assert_eq!(names(&[]), ["read", "write", "clone", "ptrace"]);
        assert_eq!(names(&["CAP_SYS_ADMIN".into()]), ["read", "write", "mount", "ptrace"]);
        assert!(parse("{}", &[]).is_err());
    }
}
