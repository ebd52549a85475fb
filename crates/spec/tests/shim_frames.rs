//! Frames of every version of the shim protocol, as they were on the wire. A container that was
//! started by an earlier release speaks like this until it ends; nothing here is ever changed, only
//! added to.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on ends")]

use seacow_spec::shim::{Answer, FromShim, Request, ToShim};
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

fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(key, value)| whole.get(key).is_some_and(|found| contains(found, value)))
        }
        (whole, part) => whole == part,
    }
}
