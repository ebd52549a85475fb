//! Containers with a terminal.

mod common;

use std::io::{Read, Write};
use std::net::Shutdown;

use common::*;
use seacow_spec::shim::{Attach, Request, Target};

fn options() -> Options {
    Options { stdio: terminal(), ..Options::default() }
}

#[test]
fn a_terminal_echoes_has_a_size_and_can_be_resized() {
    if !needs_root() {
        return;
    }
    let mut shim = Shim::create(&["sh"], &options());
    let mut client = shim.conn.attach(attach(true));
    shim.start();
    client.write_all(b"stty size; tty\n").unwrap();
    let text = read_until(&mut client, "/dev/pts/");
    assert!(text.contains("stty size; tty\r\n"), "no echo: {text:?}");
    assert!(text.contains("24 80\r\n"), "{text:?}");
    shim.conn.done(Request::Resize { target: Target::Init, rows: 50, cols: 132 });
    client.write_all(b"stty size\n").unwrap();
    read_until(&mut client, "50 132\r\n");
    // Input ends by the terminal's own end of file.
    client.write_all(b"exit 5\n").unwrap();
    assert_eq!(shim.conn.exit().code, 5);
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap();
    shim.delete();
}

#[test]
fn a_resize_is_told_to_the_program() {
    if !needs_root() {
        return;
    }
    let script = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.02; done";
    let mut shim = Shim::create(&["sh", "-c", script], &options());
    let mut client = shim.conn.attach(attach(true));
    shim.start();
    read_until(&mut client, "ready");
    shim.conn.done(Request::Resize { target: Target::Init, rows: 11, cols: 22 });
    read_until(&mut client, "11 22");
    shim.delete();
}

#[test]
fn detach_keys_end_the_session_and_nothing_else() {
    if !needs_root() {
        return;
    }
    let mut shim = Shim::create(&["cat"], &options());
    let keys = Attach { detach_keys: vec![16, 17], ..attach(true) };
    let mut client = shim.conn.attach(keys.clone());
    shim.start();
    client.write_all(b"one\n").unwrap();
    read_until(&mut client, "one\r\none\r\n");
    // Over two writes, after a false start.
    client.write_all(b"\x10").unwrap();
    client.write_all(b"\x10").unwrap();
    // The first was none of them, which the second shows.
    read_until(&mut client, "^P");
    client.write_all(b"\x11never\n").unwrap();
    let mut rest = String::new();
    client.read_to_string(&mut rest).unwrap();
    assert!(!rest.contains("never"), "{rest:?}");
    let mut again = shim.conn.attach(keys);
    again.write_all(b"two\n").unwrap();
    assert!(read_until(&mut again, "two\r\n").contains("two"));
    shim.delete();
}

#[test]
fn the_end_of_a_clients_input_ends_its_session_only() {
    if !needs_root() {
        return;
    }
    let mut shim = Shim::run(&["cat"], &options());
    let mut client = shim.conn.attach(attach(true));
    client.write_all(b"x\n").unwrap();
    read_until(&mut client, "x\r\nx\r\n");
    client.shutdown(Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap();
    let mut again = shim.conn.attach(attach(true));
    again.write_all(b"y\n").unwrap();
    read_until(&mut again, "y\r\ny\r\n");
    again.write_all(b"\x04").unwrap();
    assert_eq!(shim.conn.exit().code, 0);
    shim.delete();
}

#[test]
fn a_terminals_output_is_logged_raw_and_as_stdout() {
    if !needs_root() {
        return;
    }
    let options = Options { log: Some((1 << 20, 2)), ..options() };
    let mut shim = Shim::run(&["sh", "-c", "echo one; echo two >&2"], &options);
    assert_eq!(shim.conn.exit().code, 0);
    let log = std::fs::read_to_string(shim.log()).unwrap();
    let lines: Vec<_> = log.lines().map(|line| line.split(",\"time\"").next().unwrap().to_owned()).collect();
    assert_eq!(lines, [r#"{"log":"one\r\n","stream":"stdout""#, r#"{"log":"two\r\n","stream":"stdout""#]);
    shim.delete();
}
