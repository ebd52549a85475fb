//! Several clients, slow clients, clients that go.

mod common;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use common::*;
use seacow_spec::shim::{Answer, Attach, Request, Target};

#[test]
fn two_clients_see_the_same_and_both_may_type() {
    if !needs_root() {
        return;
    }
    let stdio = seacow_spec::shim::Stdio { open_stdin: true, ..Default::default() };
    let mut shim = Shim::create(&["cat"], &Options { stdio, ..Options::default() });
    let mut one = shim.conn.attach(attach(true));
    let mut two = shim.conn.attach(attach(true));
    shim.start();
    one.write_all(b"from one\n").unwrap();
    for client in [&mut one, &mut two] {
        let mut frame = [0; 17];
        client.read_exact(&mut frame).unwrap();
        assert_eq!(&frame[8..], b"from one\n");
    }
    two.write_all(b"from two\n").unwrap();
    shim.conn.done(Request::CloseStdin { target: Target::Init });
    // What was typed before the close may be cut off by it, what was read is not.
    shim.conn.exit();
    let (a, b) = (demultiplex(&mut one).0, demultiplex(&mut two).0);
    assert_eq!(a, b);
    shim.delete();
}

#[test]
fn a_client_sees_only_the_streams_it_asked_for() {
    if !needs_root() {
        return;
    }
    let mut shim = Shim::create(&["sh", "-c", "echo out; echo err >&2"], &Options::default());
    let mut out = shim.conn.attach(Attach { stderr: false, ..attach(false) });
    let mut err = shim.conn.attach(Attach { stdout: false, ..attach(false) });
    shim.start();
    assert_eq!(demultiplex(&mut out), (b"out\n".to_vec(), Vec::new()));
    assert_eq!(demultiplex(&mut err), (Vec::new(), b"err\n".to_vec()));
    shim.conn.exit();
    shim.delete();
}

#[test]
fn a_slow_client_holds_the_container_and_its_hang_up_frees_it() {
    if !needs_root() {
        return;
    }
    // Two megabytes: more than all buffers between.
    let script = "i=0; while [ $i -lt 32 ]; do head -c 65536 /dev/zero; echo $i > /tmp/at; i=$((i+1)); done; touch /tmp/done";
    let options = Options { log: Some((64 << 20, 2)), ..Options::default() };
    let mut shim = Shim::create(&["sh", "-c", script], &options);
    let client = shim.conn.attach(attach(false));
    shim.start();
    let at = shim.dir.path().join("upper/tmp/at");
    let done = shim.dir.path().join("upper/tmp/done");
    let progress = || std::fs::read_to_string(&at).unwrap_or_default();
    // It comes to a stop.
    let mut last = progress();
    loop {
        std::thread::sleep(Duration::from_millis(300));
        let now = progress();
        if now == last && !now.is_empty() {
            break;
        }
        last = now;
    }
    assert!(!done.exists(), "the container was not held");
    // The shim itself is not held.
    shim.conn.status();
    let memory = kilobytes(shim.child.id(), "status", "RssAnon:");
    assert!(memory < 1000, "the shim took {memory} kB");
    drop(client);
    assert_eq!(shim.conn.exit().code, 0);
    assert!(done.exists());
    // Nothing is missing from the log.
    let log = std::fs::read_to_string(shim.log()).unwrap();
    assert_eq!(log.matches("\\u0000").count(), 32 * 65536);
    shim.delete();
}

#[test]
fn a_slow_client_gets_everything_after_the_exit() {
    if !needs_root() {
        return;
    }
    let mut shim = Shim::create(&["sh", "-c", "head -c 400000 /dev/zero; echo end"], &Options::default());
    let mut client = shim.conn.attach(attach(false));
    shim.start();
    // Read just enough to let the container end, then let the shim be deleted.
    let reader = std::thread::spawn(move || {
        let mut seen = vec![0; 250_000];
        client.read_exact(&mut seen).unwrap();
        (client, seen.len())
    });
    assert_eq!(shim.conn.exit().code, 0);
    let (mut client, seen) = reader.join().unwrap();
    shim.conn.done(Request::Delete);
    assert!(shim.conn.is_closed());
    std::thread::sleep(Duration::from_millis(100));
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap();
    let frames = (seen + rest.len() - 400_004) / 8;
    assert_eq!(seen + rest.len(), 400_004 + frames * 8);
    assert!(rest.ends_with(b"end\n"));
    shim.wait();
    shim.assert_nothing_left();
}

#[test]
fn input_that_nobody_reads_waits_and_is_no_reset_at_the_end() {
    if !needs_root() {
        return;
    }
    let options = Options { stdio: with_stdin(), ..Options::default() };
    let mut shim = Shim::create(&["sh", "-c", "sleep 0.2; echo end"], &options);
    let mut client = shim.conn.attach(attach(true));
    client.set_nonblocking(true).unwrap();
    let mut written = 0;
    let until = Instant::now() + Duration::from_millis(300);
    while Instant::now() < until {
        match client.write(&[b'x'; 4096]) {
            Ok(len) => written += len,
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
    }
    assert!(written < 2_000_000, "the shim swallowed {written} bytes");
    client.set_nonblocking(false).unwrap();
    shim.start();
    // An end, not "connection reset".
    assert_eq!(demultiplex(&mut client).0, b"end\n");
    shim.conn.exit();
    shim.delete();
}

#[test]
fn a_client_that_types_and_hangs_up_is_heard() {
    if !needs_root() {
        return;
    }
    let options = Options { stdio: with_stdin(), log: Some((1 << 20, 2)), ..Options::default() };
    let mut shim = Shim::create(&["wc", "-c"], &options);
    let mut client = shim.conn.attach(attach(true));
    let writer = std::thread::spawn(move || {
        client.write_all(&vec![b'x'; 300_000]).unwrap();
        client.shutdown(Shutdown::Both).unwrap();
    });
    shim.start();
    writer.join().unwrap();
    assert_eq!(shim.conn.exit().code, 0);
    assert!(std::fs::read_to_string(shim.log()).unwrap().starts_with("{\"log\":\"300000\\n\""));
    shim.delete();
}

#[test]
fn attaching_to_nothing_is_refused() {
    if !needs_root() {
        return;
    }
    let mut shim = Shim::run(&["sleep", "1000"], &Options::default());
    // No descriptor, and one that is no socket.
    let report = shim.conn.refused(Request::Attach(attach(false)));
    assert_eq!(report.class, seacow_spec::ErrorClass::InvalidArgument);
    let file = std::fs::File::open("/dev/null").unwrap();
    let seq = shim.conn.send(Request::Attach(attach(false)), Some(file.into()));
    assert!(matches!(shim.conn.answer(seq), Answer::Failed(_)));
    let (_, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let target = Target::Exec(seacow_spec::ExecId::random().unwrap());
    let seq = shim.conn.send(Request::Attach(Attach { target, ..attach(false) }), Some(theirs.into()));
    match shim.conn.answer(seq) {
        Answer::Failed(report) => assert_eq!(report.class, seacow_spec::ErrorClass::NotFound),
        other => panic!("{other:?}"),
    }
    shim.delete();
}
