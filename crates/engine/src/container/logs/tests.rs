use std::fmt::Write as _;
use std::path::Path;

use super::*;

fn line(n: usize, stream: &str) -> String {
    let time = Timestamp::from_unix(n as i64, 5).fixed();
    format!("{{\"log\":\"line {n}\\n\",\"stream\":\"{stream}\",\"time\":\"{time}\"}}\n")
}

fn write(path: &Path, numbers: std::ops::Range<usize>) {
    let text = numbers.fold(String::new(), |mut text, n| {
        let _ = write!(text, "{}", line(n, if n % 2 == 0 { "stdout" } else { "stderr" }));
        text
    });
    std::fs::write(path, text).unwrap();
}

fn format() -> Format {
    Format {
        stdout: true,
        stderr: true,
        timestamps: false,
        details: false,
        framed: false,
        since: None,
        until: None,
    }
}

fn read_all(cursor: &mut Cursor, format: &Format) -> String {
    let mut all = Vec::new();
    loop {
        let chunk = cursor.read(format).unwrap();
        all.extend_from_slice(&chunk.bytes);
        if chunk.at_end {
            return String::from_utf8(all).unwrap();
        }
    }
}

fn lines(numbers: std::ops::Range<usize>) -> String {
    numbers.map(|n| format!("line {n}\n")).collect()
}

/// Three files: 0–9 in `.2`, 10–19 in `.1`, 20–29 in the newest.
fn rotated(dir: &Path) -> std::path::PathBuf {
    let path = dir.join("log");
    write(&dir.join("log.2"), 0..10);
    write(&dir.join("log.1"), 10..20);
    write(&path, 20..30);
    path
}

#[test]
fn all_files_in_order_and_any_tail() {
    let dir = tempfile::tempdir().unwrap();
    let path = rotated(dir.path());
    assert_eq!(read_all(&mut Cursor::new(path.clone(), None, None), &format()), lines(0..30));
    for tail in [0, 1, 9, 10, 11, 25, 30, 1000] {
        let first = 30usize.saturating_sub(tail);
        let text = read_all(&mut Cursor::new(path.clone(), Some(tail as u64), None), &format());
        assert_eq!(text, lines(first..30), "{tail}");
    }
}

#[test]
fn streams_times_and_frames() {
    let dir = tempfile::tempdir().unwrap();
    let path = rotated(dir.path());
    let read = |format: Format| read_all(&mut Cursor::new(path.clone(), Some(2), None), &format);
    assert_eq!(read(Format { stderr: false, ..format() }), "line 28\n");
    let stamped = read(Format { timestamps: true, ..format() });
    assert!(stamped.starts_with("1970-01-01T00:00:28.000000005Z line 28\n"), "{stamped}");
    let framed = read(Format { framed: true, ..format() });
    assert_eq!(framed.as_bytes()[..16], *b"\x01\0\0\0\0\0\0\x08line 28\n");
    assert_eq!(framed.as_bytes()[16], 2);
    let window = Format {
        since: Some(Timestamp::from_unix(5, 5)),
        until: Some(Timestamp::from_unix(7, 5)),
        ..format()
    };
    assert_eq!(read_all(&mut Cursor::new(path.clone(), None, None), &window), lines(5..8));
}

#[test]
fn growth_torn_lines_and_rotation_are_followed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut cursor = Cursor::new(path.clone(), None, None);
    assert_eq!(read_all(&mut cursor, &format()), "");
    let (first, second) = (line(0, "stdout"), line(1, "stdout"));
    let (head, rest) = second.split_at(20);
    std::fs::write(&path, format!("{first}{head}")).unwrap();
    assert_eq!(read_all(&mut cursor, &format()), lines(0..1));
    std::fs::write(&path, format!("{first}{head}{rest}")).unwrap();
    assert_eq!(read_all(&mut cursor, &format()), lines(1..2));
    // Twice rotated since the last look.
    std::fs::rename(&path, dir.path().join("log.2")).unwrap();
    write(&dir.path().join("log.1"), 2..4);
    write(&path, 4..6);
    assert_eq!(read_all(&mut cursor, &format()), lines(2..6));
}

#[test]
fn a_replay_ends_where_it_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = rotated(dir.path());
    let end = (line(20, "stdout").len() + line(21, "stderr").len()) as u64;
    assert_eq!(read_all(&mut Cursor::new(path, None, Some(end)), &format()), lines(0..22));
}

#[test]
fn what_is_no_entry_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    std::fs::write(&path, format!("garbage\n{}{{\"log\":\n", line(1, "stdout"))).unwrap();
    assert_eq!(read_all(&mut Cursor::new(path, None, None), &format()), lines(1..2));
}
