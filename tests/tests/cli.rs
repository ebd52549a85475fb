//! Our own client beside the stock one.

use seacow_tests::{Engine, eventually, slowness};

fn engine() -> Option<Engine> {
    let engine = Engine::start();
    if engine.skip_on_docker() { None } else { Some(engine) }
}

#[test]
fn it_prints_what_docker_prints() {
    let Some(engine) = engine() else { return };
    engine.docker(&["run", "-d", "--name", "up", "bb", "sleep", "1000"]).ok();
    engine.docker(&["run", "--name", "down", "bb", "sh", "-c", "echo said; exit 3"]).code(3);
    let cases: [&[&str]; 16] = [
        &["ps", "-a", "--no-trunc"],
        &["ps", "-aq"],
        &["ps", "-a", "--format", "{{.Names}}\t{{.Image}}\t{{.State}}"],
        &["ps", "-a", "--format", "table {{.ID}}\t{{.Command}}"],
        &["images"],
        &["images", "--format", "{{json .Repository}} {{.Size}}"],
        &["inspect", "up"],
        &["inspect", "--format", "{{.State.Pid}} {{json .Config.Cmd}}", "up"],
        &["history", "bb"],
        &["logs", "down"],
        &["top", "up"],
        &["diff", "down"],
        &["volume", "ls"],
        &["network", "ls"],
        &["port", "up"],
        &["wait", "down"],
    ];
    for case in cases {
        // "1 second ago" may have become two between the one and the other.
        let mut pair = None;
        let same = (0..3 * slowness()).any(|_| {
            let (theirs, ours) = pair.insert((engine.docker(case), engine.seacow(case)));
            (ours.code, &ours.out) == (theirs.code, &theirs.out)
        });
        assert!(same, "{case:?}: {pair:#?}");
    }
    let failures: [&[&str]; 6] = [
        &["inspect", "nosuch"],
        &["start", "nosuch"],
        &["rm", "up"],
        &["logs", "nosuch"],
        &["exec", "down", "true"],
        &["kill", "down"],
    ];
    for case in failures {
        let (theirs, ours) = (engine.docker(case), engine.seacow(case));
        assert_eq!((ours.code, &ours.err), (theirs.code, &theirs.err), "{case:?}");
    }
}

#[test]
fn run_in_every_way() {
    let Some(engine) = engine() else { return };
    let done = engine.seacow(&["run", "--rm", "bb", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    done.code(7);
    assert_eq!((done.out.as_str(), done.err.as_str()), ("out\n", "err\n"));
    engine.seacow(&["run", "--rm", "bb", "nosuchcmd"]).fails(127, "executable file not found in $PATH");
    engine.seacow(&["run", "--rm", "bb", "/etc/passwd"]).fails(126, "permission denied");
    engine.seacow(&["run", "--rm", "bb", "/etc"]).fails(126, "is a directory");
    engine.seacow(&["run", "--rm", "127.0.0.1:1/nosuch", "true"]).fails(125, "connection refused");
    engine.seacow(&["run", "--nosuchflag"]).fails(125, "nosuchflag");
    engine.seacow(&["nosuchverb"]).code(1);
    let id = engine.seacow(&["run", "-d", "--name", "box", "bb", "sleep", "1000"]).ok();
    assert_eq!(id.len(), 64);
    assert_eq!(engine.seacow(&["exec", "box", "echo", "hi"]).ok(), "hi");
    engine.seacow(&["exec", "box", "sh", "-c", "exit 9"]).code(9);
    engine.seacow(&["stop", "-t", "0", "box"]).ok();
    assert_eq!(engine.seacow(&["rm", "box"]).ok(), "box");
}

#[test]
fn a_closed_pipe_ends_it_quietly() {
    let Some(engine) = engine() else { return };
    let seacow = engine.seacow_command(&["run", "--rm", "bb", "yes"]);
    let mut line = format!("{}", seacow.get_program().to_string_lossy());
    for arg in seacow.get_args() {
        line.push_str(&format!(" '{}'", arg.to_string_lossy()));
    }
    let out = std::process::Command::new("sh").arg("-c").arg(format!("{line} | head -1")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&out.stdout), "y\n");
    assert!(!String::from_utf8_lossy(&out.stderr).contains("panicked"), "{out:?}");
    engine.docker(&["ps", "-q"]).ok();
}

#[test]
fn it_starts_the_daemon_when_none_listens_and_names_it() {
    let Some(engine) = engine() else { return };
    let version = engine.seacow(&["version"]).ok();
    assert!(version.to_lowercase().contains("seacow"), "{version}");
    let doctor = engine.seacow(&["doctor"]);
    assert!(doctor.out.to_lowercase().contains("cgroup"), "{doctor:?}");
}

#[test]
fn another_engine_is_never_driven_silently() {
    let Some(engine) = engine() else { return };
    // A server that answers as dockerd does.
    let socket = engine.exec_root().join("docker.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let asked = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    let heard = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            use std::io::{Read, Write};
            let mut stream = stream.unwrap();
            let mut buffer = [0; 4096];
            let n = stream.read(&mut buffer).unwrap_or(0);
            heard.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..n]));
            let answer = "HTTP/1.1 200 OK\r\nApi-Version: 1.45\r\nServer: Docker/26\r\nContent-Length: 2\r\nConnection: close\r\n\r\nOK";
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    let mut command = std::process::Command::new(engine.seacow_command(&[]).get_program());
    command
        .env("DOCKER_HOST", format!("unix://{}", socket.display()))
        .env("SEACOW_HOST", format!("unix://{}", engine.socket().display()));
    let out = command.args(["ps", "-q"]).output().unwrap();
    assert!(out.status.success(), "{out:?}");
    eventually("nothing but a ping reached it", || {
        asked.lock().unwrap().lines().filter(|l| l.contains("HTTP/1.1")).all(|l| l.contains("/_ping"))
    });
}
