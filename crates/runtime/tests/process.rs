//! What the kernel is told about a process and its devices; and what is refused before anything is
//! made.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test; the lint sees only functions marked so"
)]

mod bundle;
mod common;

use std::os::unix::fs::FileTypeExt;

use bundle::Bundle;
use seacow_spec::oci::runtime::{
    CpuAffinity, IoPriority, LinuxDevice, MemoryPolicy, Personality, Process, Scheduler, Spec,
};

fn process(spec: &mut Spec) -> &mut Process {
    spec.process.as_mut().unwrap()
}

/// Runs with a change and gives what it printed.
fn run(name: &str, script: &str, change: impl FnOnce(&mut Spec)) -> Option<String> {
    let bundle = Bundle::new(name, script, change)?;
    let applets = ["nice", "chrt", "ionice", "uname", "taskset"];
    for applet in applets {
        let _ = std::os::unix::fs::symlink("busybox", bundle.path().join("rootfs/bin").join(applet));
    }
    let text = bundle.ok(&["run", &bundle.id]);
    Some(text)
}

#[test]
fn names_of_host_and_domain() {
    let show = "hostname; cat /proc/sys/kernel/domainname";
    let names = |spec: &mut Spec| {
        (spec.hostname, spec.domainname) = ("manatee".into(), "sea.example".into());
    };
    let Some(text) = run("names", show, names) else { return };
    assert_eq!(text, "manatee\nsea.example\n");
    let host = std::fs::read_to_string("/proc/sys/kernel/domainname").unwrap();
    assert_ne!(host.trim(), "sea.example");
}

#[test]
fn scheduler_and_priorities() {
    // Fields 19 and 41 of stat: nice value and policy.
    let stat = "s=$(cat /proc/self/stat); s=${s##*) }; set -- $s; echo $17 ${38} ${39}";
    let stat = stat.replace("$17", "${17}");
    for (wanted, shown) in [
        (Scheduler { policy: "SCHED_BATCH".into(), nice: 7, ..Scheduler::default() }, "7 0 3"),
        (Scheduler { policy: "SCHED_IDLE".into(), ..Scheduler::default() }, "0 0 5"),
        (Scheduler { policy: "SCHED_OTHER".into(), nice: -3, ..Scheduler::default() }, "-3 0 0"),
    ] {
        let policy = wanted.policy.clone();
        let Some(text) = run("sched", &stat, |spec| process(spec).scheduler = Some(wanted)) else { return };
        assert_eq!(text.trim(), shown, "{policy}");
    }
    let priority = IoPriority { class: "IOPRIO_CLASS_BE".into(), priority: 6 };
    let Some(text) = run("ioprio", "ionice", |spec| process(spec).io_priority = Some(priority)) else {
        return;
    };
    assert_eq!(text, "best-effort: prio 6\n");
    let domain = Personality { domain: "LINUX32".into(), ..Personality::default() };
    let Some(text) =
        run("persona", "uname -m", |spec| spec.linux.as_mut().unwrap().personality = Some(domain))
    else {
        return;
    };
    assert!(["i686", "armv8l"].contains(&text.trim()), "{text}");
}

/// As the kernel shows it of every mapping; a node beyond what any machine has is refused.
#[test]
fn memory_comes_from_its_nodes() {
    if !std::path::Path::new("/proc/self/numa_maps").exists() {
        return eprintln!("SKIP: this kernel has no NUMA policies");
    }
    for (mode, nodes, shown) in [
        ("MPOL_BIND", "0", "bind:0"),
        ("MPOL_INTERLEAVE", "0", "interleave:0"),
        ("MPOL_PREFERRED", "0", "prefer:0"),
    ] {
        let policy = MemoryPolicy { mode: mode.into(), nodes: nodes.into(), ..MemoryPolicy::default() };
        let change = |spec: &mut Spec| spec.linux.as_mut().unwrap().memory_policy = Some(policy);
        let Some(text) = run("mempolicy", "head -n 1 /proc/self/numa_maps", change) else { return };
        assert_eq!(text.split_whitespace().nth(1), Some(shown), "{text}");
    }
    let flags = vec!["MPOL_F_STATIC_NODES".to_owned()];
    let policy = MemoryPolicy { mode: "MPOL_BIND".into(), nodes: "0".into(), flags };
    let change = |spec: &mut Spec| spec.linux.as_mut().unwrap().memory_policy = Some(policy);
    let Some(text) = run("mempolicy-flag", "head -n 1 /proc/self/numa_maps", change) else { return };
    assert_eq!(text.split_whitespace().nth(1), Some("bind=static:0"), "{text}");
}

#[test]
fn an_exec_runs_on_its_processors() {
    if std::thread::available_parallelism().unwrap().get() < 2 {
        return eprintln!("SKIP: one processor only");
    }
    let Some(bundle) = Bundle::new("affinity", "exec sleep 60", |_| {}) else { return };
    bundle.ok(&["run", "-d", &bundle.id]);
    let mut process = common::process(&["grep", "Cpus_allowed_list", "/proc/self/status"]);
    for (initial, last, shown) in [("0", "", "0"), ("0", "1", "1"), ("", "0-1", "0-1")] {
        process.exec_cpu_affinity = Some(CpuAffinity { initial: initial.into(), final_: last.into() });
        std::fs::write(bundle.path().join("process"), serde_json::to_vec(&process).unwrap()).unwrap();
        let text = bundle.ok(&["exec", "-p", "process", &bundle.id]);
        assert_eq!(text, format!("Cpus_allowed_list:\t{shown}\n"));
    }
    process.exec_cpu_affinity = Some(CpuAffinity { initial: "8000".into(), final_: String::new() });
    std::fs::write(bundle.path().join("process"), serde_json::to_vec(&process).unwrap()).unwrap();
    let text = String::from_utf8(bundle.call(&["exec", "-p", "process", &bundle.id]).stderr).unwrap();
    assert!(text.contains("set process.execCPUAffinity.initial"), "{text}");
}

fn device(path: &str, kind: &str, major: i64, minor: i64, mode: u32) -> LinuxDevice {
    let file_mode = Some(mode);
    LinuxDevice { path: path.into(), kind: kind.into(), major, minor, file_mode, uid: Some(5), gid: Some(6) }
}

#[test]
fn devices_of_all_types() {
    let script = "stat -c '%n %F %t:%T %a %u:%g' /dev/c /dev/u /dev/b /dev/deep/p /dev/null /dev/kept";
    let devices = || {
        vec![
            device("/dev/c", "c", 10, 229, 0o640),
            device("/dev/u", "u", 1, 7, 0o4600),
            device("/dev/b", "b", 7, 300, 0o660),
            device("/dev/deep/p", "p", 0, 0, 0o622),
            device("/dev/null", "c", 1, 3, 0o666),
        ]
    };
    let Some(text) = run("devices", &script.replace(" /dev/kept", ""), |spec| {
        spec.linux.as_mut().unwrap().devices = devices();
    }) else {
        return;
    };
    let expected = "/dev/c character special file a:e5 640 5:6\n/dev/u character special file 1:7 4600 5:6\n\
                    /dev/b block special file 7:12c 660 5:6\n/dev/deep/p fifo 0:0 622 5:6\n\
                    /dev/null character special file 1:3 666 5:6\n";
    assert_eq!(text, expected);
    // What is there and something else is not replaced.
    let Some(bundle) = Bundle::new("devices-other", "true", |spec| {
        spec.linux.as_mut().unwrap().devices = vec![device("/etc/passwd", "c", 1, 3, 0o666)];
    }) else {
        return;
    };
    let text = String::from_utf8(bundle.call(&["run", &bundle.id]).stderr).unwrap();
    assert!(text.contains("linux.devices[0].path: /etc/passwd exists and is another file"), "{text}");
    let kind = std::fs::metadata(bundle.path().join("rootfs/etc/passwd")).unwrap().file_type();
    assert!(kind.is_file() && !kind.is_char_device());
}

#[test]
fn unknown_capabilities_are_told_and_the_rest_is_given() {
    let Some(bundle) = Bundle::new("caps", "grep CapBnd /proc/self/status", |spec| {
        let sets = process(spec).capabilities.as_mut().unwrap();
        sets.bounding = vec!["CAP_CHOWN".into(), "CAP_TIME_TRAVEL".into()];
        (sets.effective, sets.permitted) = (Vec::new(), Vec::new());
    }) else {
        return;
    };
    let text = bundle.ok(&["--log", "log", "run", &bundle.id]);
    assert_eq!(text, "CapBnd:\t0000000000000001\n");
    let errors = std::fs::read_to_string(bundle.path().join("log")).unwrap();
    assert!(
        errors.contains("process.capabilities.bounding[1]") && errors.contains("CAP_TIME_TRAVEL"),
        "{errors}"
    );
}

#[test]
fn what_is_wrong_is_named_and_leaves_nothing() {
    let cases: [(&str, &str); 9] = [
        (r#".linux.namespaces[0].type = "galaxy""#, "linux.namespaces[0].type"),
        (r#".root.path = "nosuch""#, "root.path"),
        (r#".linux.intelRdt = {"closID": "x"}"#, "linux.intelRdt is not implemented"),
        (r#".linux.netDevices = {"no such": {}}"#, "linux.netDevices: \"no such\" is not a device's name"),
        (r#".linux.memoryPolicy = {"mode": "MPOL_NONSENSE"}"#, "linux.memoryPolicy.mode"),
        (r#".linux.memoryPolicy = {"mode": "MPOL_BIND", "nodes": "a-b"}"#, "linux.memoryPolicy.nodes"),
        (
            r#".linux.memoryPolicy = {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_NONSENSE"]}"#,
            "linux.memoryPolicy.flags[0]",
        ),
        (r#".linux.memoryPolicy = {"mode": "MPOL_BIND"}"#, "set linux.memoryPolicy MPOL_BIND"),
        (r#".process.user.uid = -4"#, "process.user.uid"),
    ];
    for (change, expected) in cases {
        let Some(bundle) = Bundle::new("wrong", "true", |_| {}) else { return };
        let path = bundle.path().join("config.json");
        let mut document: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let (at, value) = change.split_once(" = ").unwrap();
        let pointer = at.replace(['.', '['], "/").replace(']', "");
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let value: serde_json::Value = serde_json::from_str(value).unwrap();
        document.pointer_mut(parent).unwrap()[key] = value;
        std::fs::write(&path, document.to_string()).unwrap();
        for verb in ["create", "run"] {
            let done = bundle.call(&[verb, &bundle.id]);
            let text = String::from_utf8_lossy(&done.stderr);
            assert!(!done.status.success() && text.contains(expected), "{change}: {text}");
            let left = std::fs::read_dir(bundle.path().join("state")).map_or(0, |dir| dir.count());
            assert_eq!(left, 0, "{change} left a state");
        }
    }
}
