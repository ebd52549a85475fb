//! One wrong field at a time; the error must name it.

use seacow_spec::error::{Classified, ErrorClass};
use seacow_spec::oci::runtime::Spec;
use serde_json::{Value, json};

use super::{check, read};

fn good() -> Value {
    json!({
        "ociVersion": "1.2.0",
        "process": {"args": ["sh"], "cwd": "/", "user": {"uid": 0, "gid": 0}},
        "root": {"path": "rootfs"},
        "hostname": "h",
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {
            "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "uts"}, {"type": "user"}],
            "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}],
            "gidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}],
        },
    })
}

/// The document with `value` at a JSON pointer.
fn with(pointer: &str, value: Value) -> Value {
    let mut document = good();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match document.pointer_mut(parent).unwrap() {
        Value::Object(object) => drop(object.insert(key.to_owned(), value)),
        Value::Array(list) => match key.parse::<usize>() {
            Ok(index) if index < list.len() => list[index] = value,
            _ => list.push(value),
        },
        other => panic!("{other}"),
    }
    document
}

fn outcome(document: &Value) -> Result<Vec<String>, (ErrorClass, String)> {
    let text = |e: super::Error| (e.class(), seacow_spec::error::ErrorReport::of(&e).to_string());
    let spec = read(document.to_string().as_bytes()).map_err(text)?;
    Ok(check(&spec).map_err(text)?.iter().map(ToString::to_string).collect())
}

#[test]
fn a_good_one_passes_without_a_word() {
    assert_eq!(outcome(&good()).unwrap(), Vec::<String>::new());
}

#[test]
fn the_wrong_field_is_named() {
    let map = |c: u32, h: u32, s: u32| json!({"containerID": c, "hostID": h, "size": s});
    let cases = [
        (
            "/linux/namespaces/3",
            json!({"type": "cpu"}),
            "linux.namespaces[3].type: malformed: unknown variant",
        ),
        ("/linux/namespaces/4", json!({"type": "pid"}), "linux.namespaces[4].type: a second pid namespace"),
        ("/linux/namespaces/0", json!({"type": "pid", "path": "x"}), "linux.namespaces[0].path: "),
        ("/linux/uidMappings", json!([]), "linux.uidMappings: "),
        ("/linux/uidMappings/0", map(0, 1, 0), "linux.uidMappings[0].size: zero"),
        (
            "/linux/gidMappings/1",
            map(5, 5000, 10),
            "linux.gidMappings[1].containerID: overlaps linux.gidMappings[0]",
        ),
        (
            "/linux/gidMappings/1",
            map(50, 1009, 1),
            "linux.gidMappings[1].hostID: overlaps linux.gidMappings[0]",
        ),
        ("/linux/uidMappings/0", map(0, 4_294_967_290, 9), "linux.uidMappings[0].hostID: "),
        (
            "/linux/timeOffsets",
            json!({"monotonic": {"secs": 1}}),
            "linux.timeOffsets: without a time namespace",
        ),
        ("/linux/rootfsPropagation", json!("sideways"), "linux.rootfsPropagation: unknown word"),
        ("/linux/sysctl", json!({"kernel.msgmax": "1"}), "linux.sysctl[\"kernel.msgmax\"]: "),
        ("/linux/devices", json!([{"path": "/dev/x", "type": "q"}]), "linux.devices[0].type: unknown type"),
        ("/linux/devices", json!([{"path": "x", "type": "p"}]), "linux.devices[0].path: "),
        ("/linux/devices", json!([{"path": "/x", "type": "c", "major": -1}]), "linux.devices[0].major: "),
        ("/linux/personality", json!({"domain": "VMS"}), "linux.personality.domain: unknown domain"),
        (
            "/linux/resources",
            json!({"memory": {"limit": -2}}),
            "linux.resources.memory.limit: -2 is below -1",
        ),
        ("/linux/resources", json!({"memory": {"limit": "x"}}), "linux.resources.memory.limit: malformed"),
        ("/linux/netDevices", json!({"eth0": {}}), "linux.netDevices: needs a network namespace"),
        ("/linux/maskedPaths", json!(["/a", "b"]), "linux.maskedPaths[1]: "),
        ("/linux/cgroupsPath", json!("/a/../b"), "linux.cgroupsPath: "),
        ("/process/cwd", json!("srv"), "process.cwd: \"srv\" is not an absolute path"),
        ("/process/args", json!([]), "process.args: empty"),
        ("/process/args", json!(["a\u{0}"]), "process.args[0]: has a zero byte"),
        ("/process/oomScoreAdj", json!(2000), "process.oomScoreAdj: "),
        (
            "/process/rlimits",
            json!([{"type": "RLIMIT_X", "soft": 1, "hard": 1}]),
            "process.rlimits[0].type: unknown",
        ),
        (
            "/process/rlimits",
            json!([{"type": "RLIMIT_CPU", "soft": 2, "hard": 1}]),
            "process.rlimits[0].soft: ",
        ),
        ("/process/scheduler", json!({"policy": "SCHED_X"}), "process.scheduler.policy: unknown policy"),
        (
            "/process/scheduler",
            json!({"policy": "SCHED_FIFO", "nice": 3}),
            "process.scheduler.nice: only for",
        ),
        (
            "/process/scheduler",
            json!({"policy": "SCHED_RR", "runtime": 3}),
            "process.scheduler.runtime: only for",
        ),
        (
            "/process/ioPriority",
            json!({"class": "IOPRIO_CLASS_RT", "priority": 9}),
            "process.ioPriority.priority: ",
        ),
        ("/process/execCPUAffinity", json!({"initial": "3-1"}), "process.execCPUAffinity.initial: bad list"),
        ("/process/user/umask", json!(4096), "process.user.umask: "),
        ("/process/user/uid", json!(33), "process.user.uid: 33 is not mapped"),
        (
            "/process/capabilities",
            json!({"effective": ["CAP_CHOWN"]}),
            "process.capabilities.effective: CAP_CHOWN",
        ),
        ("/mounts/1", json!({"type": "tmpfs"}), "mounts[1].destination: missing"),
        ("/mounts/1", json!({"destination": "/x"}), "mounts[1].type: missing"),
        ("/mounts/1", json!({"destination": "/x", "options": ["bind"]}), "mounts[1].source: "),
        ("/hooks", json!({"poststop": [{"path": "x"}]}), "hooks.poststop[0].path: \"x\" is not absolute"),
        ("/hooks", json!({"prestart": [{"path": "/x", "timeout": 0}]}), "hooks.prestart[0].timeout: "),
        ("/root/path", json!(""), "root.path: empty"),
        ("/ociVersion", json!("2.0"), "ociVersion: "),
    ];
    for (pointer, value, expected) in cases {
        let (class, text) = outcome(&with(pointer, value.clone())).expect_err(expected);
        assert!(text.starts_with(expected), "{pointer} {value}: {text}");
        assert_eq!(class, ErrorClass::InvalidArgument, "{text}");
    }
}

#[test]
fn names_of_network_devices() {
    let check = |devices: Value| {
        let mut document = with("/linux/netDevices", devices);
        document["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "network"}));
        outcome(&document).map_err(|(_, text)| text)
    };
    for good in
        [json!({"eth0": {}, "eth1": {"name": "eth2"}}), json!({"e": {"name": "f"}, "f": {"name": "e"}})]
    {
        assert_eq!(check(good).unwrap(), Vec::<String>::new());
    }
    for name in ["", ".", "..", "a/b", "a b", "a:b", "eth%d", "sixteen_byte_name"] {
        let error = check(json!({name: {}})).unwrap_err();
        assert!(error.starts_with("linux.netDevices: ") && error.ends_with("not a device's name"), "{error}");
        if !name.is_empty() {
            let error = check(json!({"eth0": {"name": name}})).unwrap_err();
            assert!(error.starts_with("linux.netDevices.eth0.name: "), "{error}");
        }
    }
    let error = check(json!({"eth0": {}, "eth1": {"name": "eth0"}})).unwrap_err();
    assert_eq!(error, "linux.netDevices.eth1.name: a second device would be called eth0");
}

#[test]
fn what_is_not_built_is_said() {
    let (class, text) = outcome(&with("/linux/intelRdt", json!({"closID": "x"}))).unwrap_err();
    assert_eq!(class, ErrorClass::NotImplemented);
    assert!(text.starts_with("linux.intelRdt is not implemented"), "{text}");
}

#[test]
fn what_cannot_be_granted_is_told_and_no_error() {
    let sets = json!({"bounding": ["CAP_CHOWN", "CAP_NOSUCH"], "ambient": ["CAP_KILL"]});
    let warnings = outcome(&with("/process/capabilities", sets)).unwrap();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].starts_with("process.capabilities.bounding[1]: ignored"), "{warnings:?}");
    assert!(warnings[1].starts_with("process.capabilities.ambient: ignored: CAP_KILL"), "{warnings:?}");
    let relative = json!({"destination": "x", "type": "tmpfs"});
    assert_eq!(outcome(&with("/mounts/1", relative)).unwrap().len(), 1);
}

#[test]
fn junk_is_no_document() {
    for junk in ["", "{", "[]", "{} x", "{\"linux\": 3}", "{\"process\": {\"args\": [1]}}"] {
        let error = read(junk.as_bytes()).unwrap_err();
        assert_eq!(error.class(), ErrorClass::InvalidArgument, "{junk}");
    }
    let spec: Spec =
        read(b"{\"mounts\": null, \"annotations\": null, \"linux\": {\"namespaces\": null}}").unwrap();
    assert!(check(&spec).unwrap_err().to_string().starts_with("root: missing"));
}
