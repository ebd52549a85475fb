//! System calls that an agent decides, with an agent that is this test.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test; the lint sees only functions marked so"
)]

mod common;

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::thread::JoinHandle;

use common::bundle::Bundle;
use seacow_spec::oci::runtime::{Seccomp, SeccompRule, Spec};
use seacow_sys::seccomp::{Answer, Notification, answer, receive};
use seacow_sys::unix;
use serde_json::Value;

const MKDIR: i64 = libc::SYS_mkdir;
const NO_MEDIUM: i32 = libc::ENOMEDIUM;

/// An agent that serves as many containers or execs as it is told.
struct Agent {
    _dir: tempfile::TempDir,
    path: PathBuf,
    served: JoinHandle<Vec<(Value, Vec<Notification>)>>,
}

impl Agent {
    /// Fails every mkdir with "no medium found", lets everything else through.
    fn start(processes: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let serve = move || {
            let connections: Vec<_> = (0..processes)
                .map(|_| {
                    let (connection, _) = listener.accept().unwrap();
                    std::thread::spawn(move || serve(connection.into()))
                })
                .collect();
            connections.into_iter().map(|served| served.join().unwrap()).collect()
        };
        Self { _dir: dir, path, served: std::thread::spawn(serve) }
    }

    /// What each process asked, in order of their starts.
    fn end(self) -> Vec<(Value, Vec<Notification>)> {
        self.served.join().unwrap()
    }
}

/// One connection: exactly one state with one descriptor, then the end.
fn serve(connection: OwnedFd) -> (Value, Vec<Notification>) {
    let (mut text, mut fds) = (Vec::new(), Vec::new());
    loop {
        let mut buffer = [0; 4096];
        let got = unix::receive(connection.as_fd(), &mut buffer).unwrap();
        if got.len == 0 {
            break;
        }
        text.extend_from_slice(&buffer[..got.len]);
        fds.extend(got.fds);
    }
    let [listener] = <[OwnedFd; 1]>::try_from(fds).unwrap();
    let mut asked = Vec::new();
    while let Some(call) = receive(listener.as_fd()).unwrap() {
        asked.push(call);
        let decision = match i64::from(call.number) {
            MKDIR => Answer::Fail(NO_MEDIUM),
            _ => Answer::Continue,
        };
        // Whoever was killed while it waited hears no answer.
        let _ = answer(listener.as_fd(), call.id, decision);
    }
    (serde_json::from_slice(&text).unwrap(), asked)
}

fn notify(spec: &mut Spec, path: &str, names: &[&str]) {
    spec.linux.as_mut().unwrap().seccomp = Some(Seccomp {
        default_action: "SCMP_ACT_ALLOW".into(),
        listener_path: path.into(),
        listener_metadata: "for the agent".into(),
        flags: vec!["SECCOMP_FILTER_FLAG_TSYNC".into()],
        syscalls: vec![SeccompRule {
            names: names.iter().map(|n| (*n).to_owned()).collect(),
            action: "SCMP_ACT_NOTIFY".into(),
            ..SeccompRule::default()
        }],
        ..Seccomp::default()
    });
}

#[test]
fn the_agent_decides_for_run_and_exec() {
    let agent = Agent::start(3);
    let path = agent.path.display().to_string();
    let script = "mkdir /srv/x; test ! -e /srv/x && exec sleep 1000";
    let bundle = Bundle::new("notify", script, |spec| {
        notify(spec, &path, &["mkdir"]);
        spec.annotations.insert("key".into(), "value".into());
    });
    let Some(bundle) = bundle else { return };
    bundle.ok(&["run", "-d", &bundle.id]);
    let said = bundle.refused(&["exec", &bundle.id, "mkdir", "/srv/y"]);
    assert!(said.contains("/srv/y': No medium found"), "{said}");
    assert!(!bundle.fixture.rootfs().join("srv/y").exists());
    // With no_new_privs nobody has CAP_SYS_ADMIN for the load.
    bundle.refused(&["exec", "--no-new-privs", &bundle.id, "mkdir", "/srv/z"]);
    let state: Value = serde_json::from_str(&bundle.ok(&["state", &bundle.id])).unwrap();
    bundle.ok(&["delete", "-f", &bundle.id]);
    let served = agent.end();
    for ((told, asked), status) in served.iter().zip(["created", "running", "running"]) {
        assert_eq!(told["fds"], serde_json::json!(["seccompFd"]));
        assert_eq!(told["metadata"], "for the agent");
        assert_eq!(told["ociVersion"], state["ociVersion"]);
        assert_eq!(told["state"]["id"], bundle.id.as_str());
        assert_eq!(told["state"]["status"], status);
        assert_eq!(told["state"]["pid"], state["pid"]);
        assert_eq!(told["state"]["bundle"], state["bundle"]);
        assert_eq!(told["state"]["annotations"]["key"], "value");
        assert_eq!(asked.len(), 1, "{asked:?}");
        assert_eq!(i64::from(asked[0].number), MKDIR);
    }
    assert_eq!(served[0].0["pid"], state["pid"]);
    assert_ne!(served[1].0["pid"], state["pid"]);
}

/// Everything that a runtime might do between loading the filter and the program waits for the
/// agent too: who does any of it before the agent has the listener waits for ever.
#[test]
fn every_call_on_the_way_to_the_program_may_be_notified() {
    let agent = Agent::start(1);
    let path = agent.path.display().to_string();
    let calls = [
        "execve",
        "openat",
        "open",
        "read",
        "close",
        "futex",
        "sendmsg",
        "sendto",
        "recvmsg",
        "recvfrom",
        "mmap",
        "munmap",
        "brk",
        "madvise",
        "capset",
        "prctl",
        "ioctl",
        "fcntl",
        "sched_yield",
        "exit",
        "rt_sigprocmask",
        "rt_sigaction",
        "poll",
        "getpid",
        "gettid",
        "clock_nanosleep",
    ];
    let Some(bundle) = Bundle::new("notify-all", "exit 7", |spec| notify(spec, &path, &calls)) else {
        return;
    };
    assert_eq!(bundle.call(&["run", &bundle.id]).status.code(), Some(7));
    let asked = agent.end().remove(0).1;
    assert!(asked.iter().any(|call| i64::from(call.number) == libc::SYS_execve), "{asked:?}");
}

#[test]
fn without_an_agent_nothing_starts() {
    let gone = "/nonexistent/agent.sock";
    let Some(bundle) = Bundle::new("notify-gone", "exit 0", |spec| notify(spec, gone, &["mkdir"])) else {
        return;
    };
    let said = bundle.refused(&["run", &bundle.id]);
    assert!(said.contains("failed to connect with seccomp agent /nonexistent/agent.sock"), "{said}");
    assert!(bundle.refused(&["state", &bundle.id]).contains("does not exist"));
}

#[test]
fn a_path_that_nobody_needs_is_ignored() {
    let Some(bundle) = Bundle::new("notify-unused", "exit 0", |spec| {
        notify(spec, "/nonexistent/agent.sock", &["mkdir"]);
        spec.linux.as_mut().unwrap().seccomp.as_mut().unwrap().syscalls.clear();
    }) else {
        return;
    };
    bundle.ok(&["run", &bundle.id]);
}

/// A profile is checked before anything is made. A call that nobody knows is refused where leaving
/// its rule out would leave it open, and told of where not.
#[test]
fn unknown_calls_are_told_with_their_place() {
    let profile = |default: &str, action: &str| Seccomp {
        default_action: default.into(),
        syscalls: vec![
            SeccompRule { names: vec!["getpid".into()], action: action.into(), ..SeccompRule::default() },
            SeccompRule {
                names: vec!["mkdir".into(), "nosuchcall".into()],
                action: action.into(),
                ..SeccompRule::default()
            },
        ],
        ..Seccomp::default()
    };
    let place = "linux.seccomp.syscalls[1].names[1]: unknown system call \"nosuchcall\"";
    let Some(bundle) = Bundle::new("unknown-call", "exit 0", |spec| {
        spec.linux.as_mut().unwrap().seccomp = Some(profile("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"));
    }) else {
        return;
    };
    let said = bundle.refused(&["create", &bundle.id]);
    assert!(said.contains(place), "{said}");
    assert!(bundle.refused(&["state", &bundle.id]).contains("does not exist"));
    let mut spec: Spec =
        serde_json::from_slice(&std::fs::read(bundle.fixture.path().join("config.json")).unwrap()).unwrap();
    spec.linux.as_mut().unwrap().seccomp = Some(profile("SCMP_ACT_LOG", "SCMP_ACT_ALLOW"));
    bundle.write(&spec);
    let log = bundle.fixture.path().join("runtime.log");
    let output = bundle.call(&["--log", log.to_str().unwrap(), "run", &bundle.id]);
    assert!(output.status.success());
    // Not on standard error, which is the program's.
    assert!(output.stderr.is_empty(), "{output:?}");
    let said = std::fs::read_to_string(&log).unwrap();
    // A line of a log, where quotes are escaped.
    assert!(said.replace('\\', "").contains(&format!("{place} is ignored")), "{said}");
}
