//! More processes in a running container.

mod common;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use common::*;
use seacow_spec::ErrorClass;
use seacow_spec::shim::{Answer, Event, Request, Stdio, Target};

fn sleeper() -> Shim {
    Shim::run(&["sleep", "1000"], &Options::default())
}

#[test]
fn output_and_exit_status() {
    if !needs_root() {
        return;
    }
    let mut shim = sleeper();
    for code in [0, 3, 255] {
        let script = format!("echo out; echo err >&2; exit {code}");
        let (id, client) = shim.conn.exec(exec(&["sh", "-c", &script], Stdio::default()));
        let streams = demultiplex(&mut client.unwrap());
        assert_eq!(streams, (b"out\n".to_vec(), b"err\n".to_vec()));
        // Whoever has seen the end of the streams and asks gets the status.
        let status = shim.conn.status();
        let exit = status.execs.iter().find(|exec| exec.exec_id == id).unwrap().exit.clone().unwrap();
        assert_eq!(exit.code, code);
        assert_eq!(shim.conn.exec_exit(&id), exit);
    }
    assert_eq!(shim.conn.status().execs.len(), 3);
    shim.delete();
}

#[test]
fn it_runs_in_the_container() {
    if !needs_root() {
        return;
    }
    let mut shim = sleeper();
    let script = "hostname; cat /proc/1/cmdline | tr '\\0' ' '; echo; ls /; grep -c . /proc/self/cgroup";
    let (_, client) = shim.conn.exec(exec(&["sh", "-c", script], Stdio::default()));
    let text = String::from_utf8(demultiplex(&mut client.unwrap()).0).unwrap();
    assert!(text.starts_with("seacow\nsleep 1000 \nbin\n"), "{text}");
    // And is killed with it.
    let (_, client) = shim.conn.exec(exec(&["sleep", "1000"], Stdio::default()));
    let pids = shim.conn.pids();
    assert_eq!(pids.len(), 2, "{pids:?}");
    assert!(pids.contains(&shim.init));
    shim.conn.signal(9);
    assert_eq!(demultiplex(&mut client.unwrap()), (Vec::new(), Vec::new()));
    let mut codes = Vec::new();
    while codes.len() < 2 {
        match shim.conn.event() {
            Event::Exited(exit) | Event::ExecExited { exit, .. } => codes.push(exit.code),
            Event::OutOfMemory | Event::Moved { .. } => {}
        }
    }
    // Init's and the sleeping exec's; the first exec's came before.
    assert!(codes.contains(&137), "{codes:?}");
    shim.delete();
}

#[test]
fn what_cannot_be_executed_is_told_with_dockers_status() {
    if !needs_root() {
        return;
    }
    let mut shim = sleeper();
    for (program, code) in
        [("nosuch", 127), ("/bin/nosuch", 127), ("/bin/not-executable", 126), ("/etc", 126)]
    {
        let (id, outcome) = shim.conn.exec(exec(&[program], Stdio::default()));
        let report = outcome.unwrap_err();
        assert_eq!(report.exit_code, Some(code), "{report}");
        assert!(report.to_string().contains(program), "{report}");
        assert!(shim.conn.status().execs.iter().all(|exec| exec.exec_id != id));
    }
    assert!(shim.conn.events_so_far().is_empty());
    shim.delete();
}

#[test]
fn a_start_that_fails_is_told_the_same_way() {
    if !needs_root() {
        return;
    }
    for (program, code) in [("nosuch", 127), ("/bin/not-executable", 126)] {
        let mut shim = Shim::create(&[program], &Options::default());
        let mut client = shim.conn.attach(attach(false));
        let report = shim.conn.refused(Request::Start);
        assert_eq!(report.exit_code, Some(code), "{report}");
        assert_eq!(demultiplex(&mut client), (Vec::new(), Vec::new()));
        match shim.conn.status().state {
            Some(seacow_spec::lifecycle::State::Created { failure: Some(exit) }) => {
                assert_eq!(exit.code, code)
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(shim.exit_file(), None);
        assert_eq!(shim.conn.refused(Request::Start).class, ErrorClass::Conflict);
        shim.delete();
    }
}

#[test]
fn input_and_half_close() {
    if !needs_root() {
        return;
    }
    let mut shim = sleeper();
    let (id, client) = shim.conn.exec(exec(&["sh", "-c", "cat; echo end"], with_stdin()));
    let mut client = client.unwrap();
    client.write_all(b"typed\n").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(demultiplex(&mut client).0, b"typed\nend\n");
    assert_eq!(shim.conn.exec_exit(&id).code, 0);
    shim.delete();
}

#[test]
fn a_terminal() {
    if !needs_root() {
        return;
    }
    let mut shim = sleeper();
    let (id, client) = shim.conn.exec(exec(&["sh"], terminal()));
    let mut client = client.unwrap();
    client.write_all(b"stty size; tty\n").unwrap();
    let text = read_until(&mut client, "/dev/pts/");
    assert!(text.contains("24 80\r\n"), "{text:?}");
    shim.conn.done(Request::Resize { target: Target::Exec(id.clone()), rows: 40, cols: 100 });
    client.write_all(b"stty size; exit 4\n").unwrap();
    read_until(&mut client, "40 100\r\n");
    assert_eq!(shim.conn.exec_exit(&id).code, 4);
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap();
    let late = shim.conn.refused(Request::Resize { target: Target::Exec(id), rows: 1, cols: 1 });
    assert_eq!(late.class, ErrorClass::Conflict);
    let unknown = Target::Exec(seacow_spec::ExecId::random().unwrap());
    let never = shim.conn.refused(Request::Resize { target: unknown, rows: 1, cols: 1 });
    assert_eq!(never.class, ErrorClass::NotFound);
    shim.delete();
}

#[test]
fn detached_ones_are_reported_too() {
    if !needs_root() {
        return;
    }
    let mut shim = sleeper();
    let detached = |script: &str| {
        let mut request = exec(&["sh", "-c", script], Stdio::default());
        request.attach = None;
        request
    };
    let (id, client) = shim.conn.exec(detached("echo unseen; exit 6"));
    drop(client.unwrap());
    assert_eq!(shim.conn.exec_exit(&id).code, 6);
    let mut terminal = detached("echo unseen; tty > /dev/null || exit 9; exit 7");
    terminal.stdio = Stdio { terminal: true, ..Stdio::default() };
    terminal.process.terminal = true;
    let (id, client) = shim.conn.exec(terminal);
    drop(client.unwrap());
    assert_eq!(shim.conn.exec_exit(&id).code, 7);
    shim.delete();
}

#[test]
fn many_at_once_and_signals_to_one() {
    if !needs_root() {
        return;
    }
    let mut shim = sleeper();
    let mut running = Vec::new();
    for _ in 0..20 {
        let (id, client) = shim.conn.exec(exec(&["sh", "-c", "echo up; exec sleep 1000"], Stdio::default()));
        running.push((id, client.unwrap()));
    }
    for (id, client) in &mut running {
        let mut frame = [0; 11];
        client.read_exact(&mut frame).unwrap();
        shim.conn.done(Request::Signal { target: Target::Exec(id.clone()), signal: 15, all: false });
        assert_eq!(shim.conn.exec_exit(id).code, 143);
        assert_eq!(demultiplex(client), (Vec::new(), Vec::new()));
    }
    shim.delete();
}

#[test]
fn ended_ones_are_remembered_within_bounds() {
    if !needs_root() {
        return;
    }
    let mut shim = sleeper();
    let detached = |script: &str| {
        let mut request = exec(&["sh", "-c", script], Stdio::default());
        request.attach = None;
        request
    };
    let mut last = None;
    for _ in 0..100 {
        let (id, client) = shim.conn.exec(detached(":"));
        drop(client.unwrap());
        assert_eq!(shim.conn.exec_exit(&id).code, 0);
        last = Some(id);
    }
    let execs = shim.conn.status().execs;
    assert_eq!(execs.len(), 64);
    assert_eq!(execs.last().map(|exec| exec.exec_id.clone()), last);
    // Those that end while nobody is there to be told.
    let ids: Vec<_> = (0..80)
        .map(|n| {
            let (id, client) = shim.conn.exec(detached(&format!("sleep 4; exit {n}")));
            drop(client.unwrap());
            id
        })
        .collect();
    let pids = shim.conn.pids();
    shim.lose_daemon();
    eventually("the end of all execs", || pids.iter().all(|pid| *pid == shim.init || is_dead(*pid)));
    shim.conn = Conn::connect(shim.dir.path());
    shim.conn.hello();
    for (n, id) in (0..).zip(&ids) {
        let mut code = None;
        eventually("the shim has noticed", || {
            let execs = shim.conn.status().execs;
            let exec = execs.iter().find(|exec| exec.exec_id == *id);
            code = exec.and_then(|exec| exec.exit.as_ref()).map(|exit| exit.code);
            code.is_some()
        });
        assert_eq!(code, Some(n));
    }
    shim.delete();
}

#[test]
fn a_child_that_keeps_the_streams_open_does_not_hold_the_report() {
    if !needs_root() {
        return;
    }
    let mut shim = sleeper();
    for script in ["sleep 1000 & echo up", "yes & echo up"] {
        let (id, client) = shim.conn.exec(exec(&["sh", "-c", script], Stdio::default()));
        let begin = std::time::Instant::now();
        let mut client = client.unwrap();
        let reader = std::thread::spawn(move || demultiplex(&mut client).0);
        assert_eq!(shim.conn.exec_exit(&id).code, 0);
        assert!(begin.elapsed() < std::time::Duration::from_secs(5));
        let output = String::from_utf8(reader.join().unwrap()).unwrap();
        assert!(output.contains("up\n"));
    }
    shim.delete();
}

#[test]
fn a_slow_client_s_stream_ends_between_frames() {
    if !needs_root() {
        return;
    }
    let mut shim = sleeper();
    let (mut client, theirs) = UnixStream::pair().unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    // Less than a frame, so that the client is always in the middle of one.
    rustix::net::sockopt::set_socket_send_buffer_size(&theirs, 8 << 10).unwrap();
    // Writes without end after the exec's own process is gone.
    let request = exec(&["sh", "-c", "echo up; yes &"], Stdio::default());
    let id = request.exec_id.clone();
    let seq = shim.conn.send(Request::Exec(Box::new(request)), Some(theirs.into()));
    assert!(matches!(shim.conn.answer(seq), Answer::Started { .. }));
    assert_eq!(shim.conn.exec_exit(&id).code, 0);
    let (out, err) = demultiplex(&mut client);
    assert!(String::from_utf8(out).unwrap().starts_with("up\n"));
    assert!(err.is_empty());
    shim.delete();
}

#[test]
fn not_in_a_paused_or_ended_container() {
    if !needs_root() {
        return;
    }
    let mut shim = sleeper();
    shim.conn.done(Request::Pause);
    let (_, outcome) = shim.conn.exec(exec(&["true"], Stdio::default()));
    assert_eq!(outcome.unwrap_err().class, ErrorClass::Conflict);
    assert_eq!(shim.conn.refused(Request::Pause).class, ErrorClass::Conflict);
    shim.conn.done(Request::Resume);
    let (_, client) = shim.conn.exec(exec(&["echo", "again"], Stdio::default()));
    assert_eq!(demultiplex(&mut client.unwrap()).0, b"again\n");
    shim.conn.signal(9);
    shim.conn.exit();
    let (_, outcome) = shim.conn.exec(exec(&["true"], Stdio::default()));
    assert_eq!(outcome.unwrap_err().class, ErrorClass::Conflict);
    shim.delete();
}
