//! Frames of every version of the shim protocol, as they were on the wire. A container that was
//! started by an earlier release speaks like this until it ends; nothing here is ever changed, only
//! added to.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on ends")]

use seacow_spec::shim::{Answer, Decoder, FromShim, Pause, Request, ToShim, encode};
use serde_json::Value;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// What a shim of version 1 says.
const SAID_BY_1: [&str; 11] = [
    r#"{"answer":{"seq":1,"answer":{"hello":{"version":1,"shim_pid":7,"status":{"id":"ID","state":{"state":"running","pid":8,"since":"2026-01-02T03:04:05.000000006Z"},"execs":[{"exec_id":"ID","pid":9,"exit":null}]}}}}}"#,
    r#"{"answer":{"seq":2,"answer":"done"}}"#,
    r#"{"answer":{"seq":3,"answer":{"prepared":{"pid":8}}}}"#,
    r#"{"answer":{"seq":4,"answer":{"created":{"pid":8}}}}"#,
    r#"{"answer":{"seq":5,"answer":{"started":{"pid":8,"at":"2026-01-02T03:04:05.000000006Z"}}}}"#,
    r#"{"answer":{"seq":6,"answer":{"attached":{"log_offset":4096}}}}"#,
    r#"{"answer":{"seq":7,"answer":{"status":{"id":"ID","state":{"state":"exited","since":"2026-01-02T03:04:05Z","exit":{"code":3,"at":"2026-01-02T03:04:06Z","oom_killed":false,"reason":null}},"execs":[]}}}}"#,
    r#"{"answer":{"seq":8,"answer":{"pids":[8,9]}}}"#,
    r#"{"answer":{"seq":9,"answer":{"failed":{"class":"internal","message":"exec: \"x\"","causes":["no"],"exit_code":127}}}}"#,
    r#"{"event":{"exited":{"code":3,"at":"2026-01-02T03:04:06Z","oom_killed":true,"reason":null}}}"#,
    r#"{"event":{"exec_exited":{"exec_id":"ID","exit":{"code":0,"at":"2026-01-02T03:04:06Z","oom_killed":false,"reason":null}}}}"#,
];

/// What a shim of version 1 is asked by whoever takes it over.
const ASKED_OF_1: [&str; 11] = [
    r#"{"seq":1,"request":{"hello":{"version":1}}}"#,
    r#"{"seq":2,"request":"start"}"#,
    r#"{"seq":3,"request":{"attach":{"target":"init","stdin":true,"stdout":true,"stderr":true,"detach_keys":[16,17]}}}"#,
    r#"{"seq":4,"request":{"signal":{"target":{"exec":"ID"},"signal":15,"all":false}}}"#,
    r#"{"seq":5,"request":{"resize":{"target":"init","rows":24,"cols":80}}}"#,
    r#"{"seq":6,"request":{"close_stdin":{"target":"init"}}}"#,
    r#"{"seq":7,"request":"pause"}"#,
    r#"{"seq":8,"request":{"update":{"resources":{"memory":{"limit":67108864}}}}}"#,
    r#"{"seq":9,"request":"status"}"#,
    r#"{"seq":10,"request":"pids"}"#,
    r#"{"seq":11,"request":"delete"}"#,
];

/// What only a daemon of version 2 or later asks, of a shim that says version 2 or later.
const ASKED_OF_2: [&str; 2] = [
    r#"{"seq":1,"request":{"hello":{"version":2}}}"#,
    r#"{"seq":2,"request":{"connect":{"ifname":"eth0","address":"10.0.0.2","prefix":16,"gateway":"10.0.0.1"}}}"#,
];

/// A shim of version 2 greets; everything else it says as one of version 1 does.
const SAID_BY_2: &str = r#"{"answer":{"seq":1,"answer":{"hello":{"version":2,"shim_pid":7,"status":{"id":null,"state":null,"execs":[]}}}}}"#;

/// The rest of what a shim of version 2 or 3 says, where it differs from version 1 in a null left out.
const SAID_SINCE_2: [&str; 5] = [
    r#"{"answer":{"seq":2,"answer":"done"}}"#,
    r#"{"answer":{"seq":5,"answer":{"started":{"pid":8,"at":"2026-01-02T03:04:05.000000006Z"}}}}"#,
    r#"{"answer":{"seq":9,"answer":{"failed":{"class":"internal","message":"exec: \"x\"","causes":["no"],"exit_code":127}}}}"#,
    r#"{"event":{"exited":{"code":3,"at":"2026-01-02T03:04:06Z","oom_killed":true}}}"#,
    r#"{"event":{"exec_exited":{"exec_id":"ID","exit":{"code":0,"at":"2026-01-02T03:04:06Z","oom_killed":false}}}}"#,
];

/// What only a daemon of version 3 or later asks, of a shim that says version 3 or later.
const ASKED_OF_3: [&str; 2] = [
    r#"{"seq":1,"request":{"hello":{"version":3}}}"#,
    r#"{"seq":5,"request":{"program":{"args":["true"],"env":["A=1"],"user":"u","extra_groups":["g"]}}}"#,
];

/// A shim of version 3 greets, with a container that was created and not started.
const SAID_BY_3: &str = r#"{"answer":{"seq":1,"answer":{"hello":{"version":3,"shim_pid":7,"status":{"id":"ID","state":{"state":"created","failure":null},"execs":[]}}}}}"#;

/// What only a daemon of version 4 or later asks, of a shim that says version 4 or later.
const ASKED_OF_4: [&str; 6] = [
    r#"{"seq":1,"request":{"hello":{"version":4}}}"#,
    r#"{"seq":2,"request":"examine"}"#,
    r#"{"seq":3,"request":{"fork":{"pause_at_most":1000}}}"#,
    r#"{"seq":4,"request":{"sibling":{"dir":"/run/seacow/c/x"}}}"#,
    r#"{"seq":5,"request":{"clone":{"prepare":{"id":"ID","namespaces":[{"type":"network"}],"cgroups_path":"/seacow/x","mounts":[],"masked_paths":[],"readonly_paths":[],"privileged":false,"settings":{"uid_mappings":[],"gid_mappings":[],"time_offsets":{}}},"create":{"spec":{"ociVersion":"1.2.0","hostname":"h"},"user":"","extra_groups":[],"rootfs":{"directory":"/r"},"maps_root":false,"stdio":{"terminal":false,"rows":0,"cols":0,"open_stdin":false,"stdin_once":false},"log":"none","seccomp":"default","state":{"ociVersion":"","id":"","status":"creating","bundle":""}},"addresses":[["10.0.0.2","10.0.0.3"]]}}}"#,
    r#"{"seq":6,"request":"retire"}"#,
];

/// What a shim of version 4 answers to these.
const SAID_BY_4: [&str; 4] = [
    r#"{"answer":{"seq":1,"answer":{"hello":{"version":4,"shim_pid":7,"status":{"id":null,"state":null,"execs":[]}}}}}"#,
    r#"{"answer":{"seq":2,"answer":{"examined":{"reasons":["descriptor 0: a terminal"]}}}}"#,
    r#"{"answer":{"seq":3,"answer":{"forked":{"pause":2400,"files":100,"ready":55000,"copied":94371840,"path":"snapshot"}}}}"#,
    r#"{"answer":{"seq":5,"answer":{"held":{"pid":8}}}}"#,
];

/// What is said in a pause.
const SAID_IN_A_PAUSE: [&str; 3] = [
    r#""forking""#,
    r#""frozen""#,
    r#"{"failed":{"class":"internal","message":"no space left","causes":["no"]}}"#,
];

/// What a daemon of version 3 asks of its own shims before they run, and of any that runs.
const ASKED_BY_3: [&str; 4] = [
    r#"{"seq":2,"request":{"prepare":{"id":"ID","namespaces":[],"cgroups_path":"/seacow/x","mounts":[],"masked_paths":["/proc/kcore"],"readonly_paths":[],"privileged":false,"settings":{"uid_mappings":[],"gid_mappings":[],"time_offsets":{}}}}}"#,
    r#"{"seq":4,"request":{"create":{"spec":{"ociVersion":"1.2.0","process":{"user":{"uid":0,"gid":0},"args":["true"],"env":["A=1"],"cwd":"/"}},"user":"u","extra_groups":[],"rootfs":{"overlay":{"lowers":[{"dir":"/l"}],"upper":{"upper":"/u","work":"/w","volatile":true,"metacopy":false}}},"maps_root":false,"stdio":{"terminal":true,"rows":24,"cols":80,"open_stdin":true,"stdin_once":true},"log":{"json_file":{"path":"/log","max_size":1,"max_files":2}},"seccomp":"unconfined","state":{"ociVersion":"","id":"","status":"creating","bundle":""}}}}"#,
    r#"{"seq":6,"request":{"exec":{"exec_id":"ID","process":{"user":{"uid":0,"gid":0},"args":["true"],"env":["A=1"],"cwd":"/"},"user":"1:2","extra_groups":["audio"],"seccomp":"default","stdio":{"terminal":true,"rows":24,"cols":80,"open_stdin":true,"stdin_once":true},"attach":{"target":"init","stdin":true,"stdout":true,"stderr":false,"detach_keys":[16,17],"initial_stdin":[10]}}}}"#,
    r#"{"seq":7,"request":{"update":{"resources":{}}}}"#,
];

fn read<T: serde::de::DeserializeOwned>(frame: &str) -> T {
    let frame = frame.replace("ID", ID);
    serde_json::from_str(&frame).unwrap_or_else(|error| panic!("{error}: {frame}"))
}

#[test]
fn what_version_1_says_is_understood() {
    for frame in SAID_BY_1 {
        let message: FromShim = read(frame);
        match message {
            FromShim::Answer { seq: 1, answer } => {
                let Answer::Hello { version, status, .. } = answer else { panic!("{answer:?}") };
                assert_eq!((version, status.id.unwrap().as_str()), (1, ID));
                assert_eq!((status.state.unwrap().pid(), status.execs[0].pid), (Some(8), 9));
            }
            FromShim::Answer { .. } | FromShim::Event(_) => {}
        }
    }
}

/// Written by today's types, a request has every field that version 1 knows, with the same value.
/// More fields it ignores.
#[test]
fn what_version_1_is_asked_looks_as_ever() {
    for frame in ASKED_OF_1 {
        let message: ToShim = read(frame);
        let then: Value = read(frame);
        let now = serde_json::to_value(&message).unwrap();
        assert!(contains(&now, &then), "then {then}\nnow  {now}");
        assert!(!matches!(message.request, Request::Prepare(_)), "a shim is prepared by its own daemon");
    }
}

/// The bytes of a frame: a little-endian length, then the text.
fn bytes(frame: &str) -> Vec<u8> {
    let frame = frame.replace("ID", ID);
    [&u32::try_from(frame.len()).unwrap().to_le_bytes(), frame.as_bytes()].concat()
}

fn decoded<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> T {
    let mut decoder = Decoder::default();
    decoder.push(bytes);
    let message = decoder.next_message().unwrap().unwrap();
    assert!(decoder.is_empty());
    message
}

#[test]
fn greetings_of_every_version_are_understood() {
    for (frame, wanted) in [(SAID_BY_2, 2), (SAID_BY_3, 3), (SAID_BY_4[0], 4)] {
        let FromShim::Answer { seq: 1, answer } = decoded(&bytes(frame)) else { panic!("{frame}") };
        let Answer::Hello { version, shim_pid: 7, status } = answer else { panic!("{answer:?}") };
        assert_eq!(version, wanted);
        assert_eq!(status.state.is_some(), wanted == 3);
    }
}

/// Byte by byte what was on the wire, both ways: whoever changes a frame meets peers that do not know of
/// it. A new field is left out where it has its default, or comes with a new version.
#[test]
fn frames_since_version_2_are_the_same_bytes_as_ever() {
    fn check<T: serde::de::DeserializeOwned + serde::Serialize>(frame: &str) {
        let then = bytes(frame);
        let now = encode(&decoded::<T>(&then)).unwrap();
        assert_eq!(String::from_utf8_lossy(&now), String::from_utf8_lossy(&then));
        assert_eq!(now, then);
    }
    let asked = ASKED_OF_2.iter().chain(&ASKED_OF_3).chain(&ASKED_BY_3).chain(&ASKED_OF_4);
    asked.for_each(|frame| check::<ToShim>(frame));
    let said = SAID_SINCE_2.iter().chain(&[SAID_BY_2, SAID_BY_3]).chain(&SAID_BY_4);
    said.for_each(|frame| check::<FromShim>(frame));
    SAID_IN_A_PAUSE.iter().for_each(|frame| check::<Pause>(frame));
}

/// What an old daemon does not send has its default in a new shim, and what a newer peer adds is
/// passed over.
#[test]
fn fields_come_and_go() {
    let old = ASKED_BY_3[1].replace(r#""maps_root":false,"#, "").replace(r#","metacopy":false"#, "");
    let old = old.replace(r#","state":{"ociVersion":"","id":"","status":"creating","bundle":""}"#, "");
    assert_eq!(read::<ToShim>(&old), read::<ToShim>(ASKED_BY_3[1]));
    let prepare =
        ASKED_BY_3[0].replace(r#","settings":{"uid_mappings":[],"gid_mappings":[],"time_offsets":{}}"#, "");
    assert_eq!(read::<ToShim>(&prepare), read::<ToShim>(ASKED_BY_3[0]));
    let newer = SAID_BY_3.replace(r#""shim_pid":7"#, r#""shim_pid":7,"colour":"grey""#);
    assert_eq!(read::<FromShim>(&newer), read::<FromShim>(SAID_BY_3));
}

fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(key, value)| whole.get(key).is_some_and(|found| contains(found, value)))
        }
        (whole, part) => whole == part,
    }
}
