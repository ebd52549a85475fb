//! `docker logs`.

use std::path::PathBuf;

use seacow_tests::{Engine, eventually};

#[test]
fn both_streams_kept_apart() {
    let engine = Engine::start();
    engine.docker(&["run", "--name", "box", "bb", "sh", "-c", "echo one; echo two >&2; printf three"]).ok();
    let done = engine.docker(&["logs", "box"]);
    assert_eq!((done.out.as_str(), done.err.as_str()), ("one\nthree", "two\n"));
    engine.docker(&["logs", "nosuch"]).fails(1, "No such container: nosuch");
}

#[test]
fn tail_since_and_timestamps() {
    let engine = Engine::start();
    engine.docker(&["run", "--name", "box", "bb", "sh", "-c", "seq 1 100; sleep 1.2; echo end"]).ok();
    assert_eq!(engine.docker(&["logs", "--tail", "2", "box"]).ok(), "100\nend");
    assert_eq!(engine.docker(&["logs", "--tail", "0", "box"]).ok(), "");
    let stamped = engine.docker(&["logs", "-t", "--tail", "1", "box"]).ok();
    let (time, text) = stamped.split_once(' ').unwrap();
    assert!(time.ends_with('Z') && time.starts_with("20") && text == "end", "{stamped}");
    assert_eq!(engine.docker(&["logs", "--since", time, "box"]).ok(), "end");
    assert_eq!(engine.docker(&["logs", "--until", time, "--tail", "1", "box"]).ok().lines().count(), 1);
}

#[test]
fn following_ends_with_the_container() {
    let engine = Engine::start();
    engine
        .docker(&[
            "run",
            "-d",
            "--name",
            "box",
            "bb",
            "sh",
            "-c",
            "i=0; while [ $i -lt 20 ]; do echo line $i; i=$((i+1)); sleep 0.05; done",
        ])
        .ok();
    let followed = engine.docker(&["logs", "-f", "box"]).ok();
    let lines: Vec<_> = followed.lines().collect();
    assert_eq!(lines.len(), 20, "{followed}");
    assert_eq!((lines[0], lines[19]), ("line 0", "line 19"));
}

#[test]
fn long_lines_and_odd_bytes() {
    let engine = Engine::start();
    engine
        .docker(&["run", "--name", "long", "bb", "sh", "-c", "head -c 100000 /dev/zero | tr '\\0' x; echo"])
        .ok();
    assert_eq!(engine.docker(&["logs", "long"]).out.len(), 100_001);
    engine.docker(&["run", "--name", "odd", "bb", "printf", "a\\tb\"c\\\\<&>\\n"]).ok();
    assert_eq!(engine.docker(&["logs", "odd"]).out, "a\tb\"c\\<&>\n");
}

#[test]
fn files_are_bounded_and_rotated() {
    let engine = Engine::start();
    let args = [
        "run",
        "--name",
        "box",
        "--log-opt",
        "max-size=10k",
        "--log-opt",
        "max-file=2",
        "bb",
        "sh",
        "-c",
        "seq 1 5000",
    ];
    engine.docker(&args).ok();
    eventually("all is logged", || engine.docker(&["logs", "--tail", "1", "box"]).out == "5000\n");
    let path = engine.inspect("box", "{{.LogPath}}");
    let size = |path: &str| std::fs::metadata(path).map(|meta| meta.len()).unwrap_or(0);
    assert!(size(&path) <= 10 << 10 && size(&format!("{path}.1")) <= 10 << 10);
    assert_eq!(size(&format!("{path}.2")), 0);
    let kept = engine.docker(&["logs", "box"]).ok();
    let first: u32 = kept.lines().next().unwrap().parse().unwrap();
    assert!(first > 1 && kept.ends_with("\n5000"));
    assert_eq!(kept.lines().count() as u32, 5000 - first + 1, "no line is lost within what is kept");
}

#[test]
fn files_are_bounded_without_a_wish() {
    let engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    // 40 MB: more than the three files of 10 MiB that are kept when nobody says anything.
    let line = "x".repeat(10_000);
    let program = format!("i=0; while [ $i -lt 4000 ]; do echo \"$i {line}\"; i=$((i+1)); done; echo end");
    engine.docker(&["run", "-d", "--name", "box", "bb", "sh", "-c", &program]).ok();
    assert_eq!(engine.docker(&["wait", "box"]).ok(), "0");
    eventually("all is logged", || engine.docker(&["logs", "--tail", "1", "box"]).out == "end\n");
    let path = PathBuf::from(engine.inspect("box", "{{.LogPath}}"));
    let files = std::fs::read_dir(path.parent().unwrap()).unwrap();
    let logs =
        files.map(Result::unwrap).filter(|file| file.file_name().to_string_lossy().contains("json.log"));
    let sizes: Vec<u64> = logs.map(|file| file.metadata().unwrap().len()).collect();
    assert!(sizes.iter().all(|size| *size <= 10 << 20), "{sizes:?}");
    assert!(sizes.iter().sum::<u64>() > 20 << 20 && sizes.len() == 3, "{sizes:?}");
}
