//! From start to exit: statuses, streams, input.

mod common;

use std::io::{Read, Write};
use std::net::Shutdown;

use common::*;
use seacow_spec::lifecycle::State;
use seacow_spec::shim::{Request, Target};

#[test]
fn true_false_and_other_statuses() {
    if !needs_root() {
        return;
    }
    for (script, code) in [("exit 0", 0), ("exit 3", 3), ("exit 255", 255), ("kill -9 $$", 0)] {
        let mut shim = Shim::run(&["sh", "-c", script], &Options::default());
        let exit = shim.conn.exit();
        if script.starts_with("exit") {
            assert_eq!(exit.code, code, "{script}");
        }
        assert!(!exit.oom_killed);
        match shim.conn.status().state {
            Some(State::Exited { exit: known, .. }) => assert_eq!(known, exit),
            other => panic!("{other:?}"),
        }
        // Before any later request is answered.
        assert_eq!(shim.exit_file(), Some(exit));
        shim.delete();
    }
}

#[test]
fn a_signal_is_delivered_and_becomes_128_plus_n() {
    if !needs_root() {
        return;
    }
    // Without a handler pid 1 ignores TERM; KILL from outside it cannot.
    let mut shim = Shim::run(&["sleep", "1000"], &Options::default());
    shim.conn.signal(9);
    assert_eq!(shim.conn.exit().code, 137);
    let report = shim.conn.refused(Request::Signal { target: Target::Init, signal: 15, all: false });
    assert_eq!(report.class, seacow_spec::ErrorClass::Conflict);
    shim.delete();

    let mut shim = Shim::create(
        &["sh", "-c", "trap 'echo got; exit 7' TERM; echo up; while :; do sleep 0.05; done"],
        &Options::default(),
    );
    let mut client = shim.conn.attach(attach(false));
    shim.start();
    let mut header = [0; 11];
    client.read_exact(&mut header).unwrap();
    shim.conn.signal(15);
    assert_eq!(shim.conn.exit().code, 7);
    assert_eq!(demultiplex(&mut client).0, b"got\n");
    shim.delete();
}

#[test]
fn the_program_starts_with_default_signals() {
    if !needs_root() {
        return;
    }
    // SIGPIPE ignored, or anything blocked, would show here.
    let mut shim = Shim::create(
        &["sh", "-c", "grep -E 'Sig(Blk|Ign)' /proc/self/status; ls /proc/self/fd | wc -l"],
        &Options::default(),
    );
    let mut client = shim.conn.attach(attach(false));
    shim.start();
    let text = String::from_utf8(demultiplex(&mut client).0).unwrap();
    assert_eq!(text, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n4\n");
    shim.conn.exit();
    shim.delete();
}

#[test]
fn three_megabytes_through_stdin() {
    if !needs_root() {
        return;
    }
    let options = Options { stdio: with_stdin(), ..Options::default() };
    let mut shim = Shim::create(&["sh", "-c", "cat | sha256sum"], &options);
    let mut client = shim.conn.attach(attach(true));
    let data: Vec<u8> = (0..3_000_000u32).map(|n| (n * 7 + n / 251) as u8).collect();
    let expected = sha256(&data);
    let mut writer = client.try_clone().unwrap();
    // Before the start: what does not fit into the pipe waits.
    let feeder = std::thread::spawn(move || {
        writer.write_all(&data).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    shim.start();
    let (out, err) = demultiplex(&mut client);
    feeder.join().unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), format!("{expected}  -\n"));
    assert!(err.is_empty());
    assert_eq!(shim.conn.exit().code, 0);
    shim.delete();
}

#[test]
fn input_that_came_with_the_request_goes_first() {
    if !needs_root() {
        return;
    }
    let options = Options { stdio: with_stdin(), ..Options::default() };
    let mut shim = Shim::create(&["cat"], &options);
    let early: Vec<u8> = (0..200_000u32).map(|n| n as u8).collect();
    let mut client =
        shim.conn.attach(seacow_spec::shim::Attach { initial_stdin: early.clone(), ..attach(true) });
    client.write_all(b"later").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    shim.start();
    let (out, _) = demultiplex(&mut client);
    assert_eq!(out.len(), early.len() + 5);
    assert_eq!(out, [&early[..], b"later"].concat());
    assert_eq!(shim.conn.exit().code, 0);
    shim.delete();
}

#[test]
fn each_stream_keeps_its_order() {
    if !needs_root() {
        return;
    }
    let script = "i=0; while [ $i -lt 2000 ]; do echo o$i; echo e$i >&2; i=$((i+1)); done";
    let mut shim = Shim::create(&["sh", "-c", script], &Options::default());
    let mut client = shim.conn.attach(attach(false));
    shim.start();
    let (out, err) = demultiplex(&mut client);
    let expected = |c: char| (0..2000).map(|n| format!("{c}{n}\n")).collect::<String>();
    assert_eq!(String::from_utf8(out).unwrap(), expected('o'));
    assert_eq!(String::from_utf8(err).unwrap(), expected('e'));
    assert_eq!(shim.conn.exit().code, 0);
    shim.delete();
}

#[test]
fn half_close_is_the_end_of_input_only() {
    if !needs_root() {
        return;
    }
    let options = Options { stdio: with_stdin(), ..Options::default() };
    let mut shim = Shim::run(&["sh", "-c", "wc -c; sleep 0.2; echo after"], &options);
    let mut client = shim.conn.attach(attach(true));
    client.write_all(b"12345").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let (out, _) = demultiplex(&mut client);
    assert_eq!(out, b"5\nafter\n");
    assert_eq!(shim.conn.exit().code, 0);
    shim.delete();
}

#[test]
fn stdin_is_null_unless_opened_and_close_stdin_ends_it() {
    if !needs_root() {
        return;
    }
    let mut shim = Shim::create(&["wc", "-c"], &Options::default());
    let mut client = shim.conn.attach(attach(true));
    shim.start();
    assert_eq!(demultiplex(&mut client).0, b"0\n");
    assert_eq!(shim.conn.exit().code, 0);
    shim.delete();

    let stdio = seacow_spec::shim::Stdio { open_stdin: true, ..Default::default() };
    let mut shim =
        Shim::run(&["sh", "-c", "tee /tmp/seen | wc -c"], &Options { stdio, ..Options::default() });
    let seen = shim.dir.path().join("upper/tmp/seen");
    // Not once: the first client's end ends its session, not the input.
    let mut first = shim.conn.attach(attach(true));
    first.write_all(b"abc").unwrap();
    first.shutdown(Shutdown::Write).unwrap();
    assert_eq!(demultiplex(&mut first), (Vec::new(), Vec::new()));
    let mut second = shim.conn.attach(attach(true));
    second.write_all(b"de").unwrap();
    eventually("all input has arrived", || std::fs::read(&seen).is_ok_and(|text| text == b"abcde"));
    shim.conn.done(Request::CloseStdin { target: Target::Init });
    assert_eq!(demultiplex(&mut second).0, b"5\n");
    assert_eq!(shim.conn.exit().code, 0);
    shim.delete();
}

#[test]
fn nothing_of_a_short_programs_output_is_lost() {
    if !needs_root() {
        return;
    }
    for round in 0..200 {
        let mut shim =
            Shim::create(&["echo", "hello"], &Options { log: Some((1 << 20, 2)), ..Options::default() });
        let mut client = shim.conn.attach(attach(false));
        client.shutdown(Shutdown::Write).unwrap();
        shim.start();
        let (out, _) = demultiplex(&mut client);
        assert_eq!(out, b"hello\n", "round {round}");
        assert_eq!(shim.conn.exit().code, 0);
        let log = std::fs::read_to_string(shim.log()).unwrap();
        assert!(log.starts_with("{\"log\":\"hello\\n\",\"stream\":\"stdout\",\"time\":\""), "{log}");
        shim.delete();
    }
}

#[test]
fn a_whole_pipe_is_drained_after_the_end() {
    if !needs_root() {
        return;
    }
    // More than one read, still in the pipe when its writer dies.
    let mut shim =
        Shim::create(&["sh", "-c", "head -c 60000 /dev/zero | tr '\\0' x; kill -9 $$"], &Options::default());
    let mut client = shim.conn.attach(attach(false));
    shim.start();
    assert_eq!(demultiplex(&mut client).0.len(), 60000);
    shim.conn.exit();
    shim.delete();
}
