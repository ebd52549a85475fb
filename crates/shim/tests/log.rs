//! The log as Docker's clients know it.

mod common;

use common::*;
use seacow_spec::Timestamp;
use seacow_spec::shim::{Answer, Request};

#[test]
fn entries_have_dockers_form() {
    if !needs_root() {
        return;
    }
    let script = r#"printf 'a<b>&"\\\t\n'; sleep 0.05; printf '\377\n' >&2; sleep 0.05; printf 'no newline'"#;
    let mut shim =
        Shim::run(&["sh", "-c", script], &Options { log: Some((1 << 20, 2)), ..Options::default() });
    shim.conn.exit();
    let log = std::fs::read_to_string(shim.log()).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    let expected = [
        r#"{"log":"a\u003cb\u003e\u0026\"\\\u0009\n","stream":"stdout","time":""#,
        r#"{"log":"\ufffd\n","stream":"stderr","time":""#,
        r#"{"log":"no newline","stream":"stdout","time":""#,
    ];
    assert_eq!(lines.len(), 3, "{log}");
    let mut last = Timestamp::UNIX_EPOCH;
    for (line, start) in lines.iter().zip(expected) {
        let time = line.strip_prefix(start).unwrap_or_else(|| panic!("{line}")).strip_suffix("\"}").unwrap();
        let time: Timestamp = time.parse().unwrap();
        assert!(time > last);
        last = time;
    }
    shim.delete();
}

#[test]
fn a_long_line_is_cut_every_16_kib() {
    if !needs_root() {
        return;
    }
    let script = "head -c 40000 /dev/zero | tr '\\0' x; echo; echo next";
    let mut shim =
        Shim::run(&["sh", "-c", script], &Options { log: Some((1 << 20, 2)), ..Options::default() });
    shim.conn.exit();
    let log = std::fs::read_to_string(shim.log()).unwrap();
    let texts: Vec<String> = log
        .lines()
        .map(|line| {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            value["log"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(texts.iter().map(String::len).collect::<Vec<_>>(), [16384, 16384, 40000 - 32768 + 1, 5]);
    assert!(texts[2].ends_with("x\n") && !texts[1].ends_with('\n'));
    shim.delete();
}

#[test]
fn files_are_rotated_and_bounded() {
    if !needs_root() {
        return;
    }
    let script = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done";
    let mut shim =
        Shim::run(&["sh", "-c", script], &Options { log: Some((20_000, 3)), ..Options::default() });
    shim.conn.exit();
    let mut lines = Vec::new();
    for suffix in [".2", ".1", ""] {
        let path = format!("{}{suffix}", shim.log().display());
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.len() <= 20_000);
        lines.extend(text.lines().map(|line| {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            value["log"].as_str().unwrap().trim().to_owned()
        }));
    }
    let first = 3000 - lines.len();
    assert!(first > 0);
    assert_eq!(lines, (first..3000).map(|n| format!("line {n}")).collect::<Vec<_>>());
    assert!(!std::path::Path::new(&format!("{}.3", shim.log().display())).exists());
    shim.delete();
}

#[test]
fn attaching_tells_where_the_log_is() {
    if !needs_root() {
        return;
    }
    let script = "echo before; read x; echo after";
    let mut options = Options { log: Some((1 << 20, 2)), ..Options::default() };
    options.stdio = with_stdin();
    let mut shim = Shim::run(&["sh", "-c", script], &options);
    eventually("the first entry", || std::fs::metadata(shim.log()).unwrap().len() > 0);
    let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let seq = shim.conn.send(Request::Attach(attach(true)), Some(theirs.into()));
    let Answer::Attached { log_offset } = shim.conn.answer(seq) else { panic!("not attached") };
    assert_eq!(log_offset, std::fs::metadata(shim.log()).unwrap().len());
    std::io::Write::write_all(&mut ours, b"\n").unwrap();
    assert_eq!(demultiplex(&mut ours).0, b"after\n");
    shim.conn.exit();
    shim.delete();
}

#[test]
fn a_full_disk_does_not_stop_the_container() {
    if !needs_root() {
        return;
    }
    let mut shim = Shim::spawn();
    let options = Options::default();
    shim.prepare(&options);
    let mut create = shim
        .create_request(&["sh", "-c", "i=0; while [ $i -lt 100 ]; do echo $i; i=$((i+1)); done"], &options);
    create.log =
        seacow_spec::shim::LogConfig::JsonFile { path: "/dev/full".into(), max_size: 0, max_files: 1 };
    assert!(matches!(shim.conn.ask(Request::Create(Box::new(create))), Answer::Created { .. }));
    let mut client = shim.conn.attach(attach(false));
    shim.start();
    assert!(demultiplex(&mut client).0.ends_with(b"98\n99\n"));
    assert_eq!(shim.conn.exit().code, 0);
    shim.delete();
}
