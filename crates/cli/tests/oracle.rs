//! docker's client and this one against a real dockerd. `tests/oracle.sh` starts one and names it
//! in `SEACOW_ORACLE_HOST`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::Write;
use std::process::{Command, Stdio};

/// Ages move on between two runs.
fn without_ages(text: &str) -> String {
    let mut out = String::new();
    for word in text.split_inclusive(' ') {
        let digits = word.trim_end().chars().all(|c| c.is_ascii_digit()) && !word.trim().is_empty();
        out.push_str(if digits { "N " } else { word });
    }
    out
}

/// dockerd itself gives changes and processes in another order each time.
fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn the_same_output_as_docker() {
    let Some(host) = support::oracle("the_same_output_as_docker") else { return };
    if !support::docker_is_here("the_same_output_as_docker") {
        return;
    }
    let cases = support::cases("outputs.txt");
    let mut differences = Vec::new();
    for (line, args) in &cases {
        let (docker, seacow) =
            (support::run("docker", &host, args), support::run(support::seacow(), &host, args));
        let same = docker.code == seacow.code
            && sorted(&without_ages(&docker.out)) == sorted(&without_ages(&seacow.out))
            && without_ages(&docker.err) == without_ages(&seacow.err);
        if !same {
            differences.push(format!("{line}\n  docker: {docker:?}\n  seacow: {seacow:?}"));
        }
    }
    support::report(&differences, cases.len());
}

fn seacow(host: &str, args: &[&str], input: &[u8]) -> (Option<i32>, String, String) {
    let mut child = Command::new(support::seacow())
        .args(["-H", host])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // The program may end without reading all of it.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn streams_and_exit_codes() {
    let Some(host) = support::oracle("streams_and_exit_codes") else { return };
    let (code, out, err) =
        seacow(&host, &["run", "--rm", "bb", "sh", "-c", "echo out; echo err >&2; exit 7"], b"");
    assert_eq!((code, out.as_str(), err.as_str()), (Some(7), "out\n", "err\n"));
    let (code, _, err) = seacow(&host, &["run", "--rm", "bb", "nosuch"], b"");
    assert!(code == Some(127) && err.contains("executable file not found"), "{err}");
    assert_eq!(seacow(&host, &["run", "--rm", "bb", "/etc"], b"").0, Some(126));
}

/// Several megabytes in and out at once; the end of our stdin is the end of the container's.
#[test]
fn stdin_of_any_size() {
    let Some(host) = support::oracle("stdin_of_any_size") else { return };
    let input: Vec<u8> = (0..3_000_000_u32).map(|i| b'a' + (i % 23) as u8).collect();
    let (code, out, _) = seacow(&host, &["run", "--rm", "-i", "bb", "cat"], &input);
    assert_eq!((code, out.len()), (Some(0), input.len()));
    assert!(out.as_bytes() == input);
    let (_, out, _) = seacow(&host, &["exec", "-i", "web", "wc", "-c"], &input);
    assert_eq!(out.trim(), "3000000");
}

/// Copies in every direction that docker's table of cases has.
#[test]
fn copies() {
    let Some(host) = support::oracle("copies") else { return };
    let dir = tempfile::tempdir().unwrap();
    let at = |p: &str| dir.path().join(p).display().to_string();
    std::fs::create_dir_all(at("src/sub")).unwrap();
    std::fs::write(at("src/sub/f"), "inner").unwrap();
    std::fs::write(at("file"), "outer").unwrap();
    let run = |args: &[&str]| seacow(&host, args, b"");
    let cp = |from: &str, to: &str| {
        let (code, _, err) = run(&["cp", from, to]);
        assert_eq!(code, Some(0), "cp {from} {to}: {err}");
    };
    let show = |path: &str| run(&["exec", "web", "cat", path]).1;
    run(&["exec", "web", "sh", "-c", "rm -rf /cp && mkdir -p /cp/dir && ln -s dir /cp/link"]);
    cp(&at("file"), "web:/cp/new");
    assert_eq!(show("/cp/new"), "outer");
    cp(&at("file"), "web:/cp/dir");
    assert_eq!(show("/cp/dir/file"), "outer");
    cp(&at("src"), "web:/cp/made");
    assert_eq!(show("/cp/made/sub/f"), "inner");
    cp(&at("src"), "web:/cp/dir");
    assert_eq!(show("/cp/dir/src/sub/f"), "inner");
    cp(&format!("{}/.", at("src")), "web:/cp/dir");
    assert_eq!(show("/cp/dir/sub/f"), "inner");
    cp(&at("file"), "web:/cp/link");
    assert_eq!(show("/cp/dir/file"), "outer");
    cp("web:/cp/dir", &at("back"));
    assert_eq!(std::fs::read_to_string(at("back/src/sub/f")).unwrap(), "inner");
    cp("web:/cp/dir/.", &at("back"));
    assert_eq!(std::fs::read_to_string(at("back/sub/f")).unwrap(), "inner");
    cp("web:/cp/new", &at("renamed"));
    assert_eq!(std::fs::read_to_string(at("renamed")).unwrap(), "outer");
    assert_eq!(run(&["cp", "-L", "web:/cp/link", &at("followed")]).0, Some(0));
    assert_eq!(std::fs::read_to_string(at("followed/file")).unwrap(), "outer");
    let (_, tar, _) = run(&["cp", "web:/cp/new", "-"]);
    assert!(tar.starts_with("new") && tar.len() % 512 == 0);
    assert_eq!(run(&["cp", &at("src"), "web:/cp/new"]).2.trim(), "cannot copy directory");
    assert_eq!(run(&["cp", &at("file"), "web:/cp/none/"]).2.trim(), "no such directory");
}

/// An image goes out and comes back; a build sees its context and tells its steps.
#[test]
fn images_travel_and_are_built() {
    let Some(host) = support::oracle("images_travel_and_are_built") else { return };
    let dir = tempfile::tempdir().unwrap();
    let tar = dir.path().join("i.tar").display().to_string();
    let run = |args: &[&str]| seacow(&host, args, b"");
    assert_eq!(run(&["tag", "bb", "seacow-test/bb:1"]).0, Some(0));
    assert_eq!(run(&["save", "-o", &tar, "seacow-test/bb:1"]).0, Some(0));
    assert_eq!(run(&["rmi", "seacow-test/bb:1"]).1, "Untagged: seacow-test/bb:1\n");
    assert_eq!(run(&["load", "-i", &tar]).1, "Loaded image: seacow-test/bb:1\n");
    std::fs::write(dir.path().join("Dockerfile"), "FROM bb\nARG A=0\nCOPY f /f\nRUN cat /f; echo $A\n")
        .unwrap();
    std::fs::write(dir.path().join("f"), "from the context\n").unwrap();
    std::fs::write(dir.path().join(".dockerignore"), "*.tar\n").unwrap();
    let context = dir.path().display().to_string();
    let (code, out, err) =
        run(&["build", "-t", "seacow-test/built", "--no-cache", "--build-arg", "A=7", &context]);
    assert_eq!(code, Some(0), "{err}");
    for text in
        ["Step 1/4 : FROM bb", "from the context\n", "7\n", "Successfully tagged seacow-test/built:latest"]
    {
        assert!(out.contains(text), "{text:?} is not in {out}");
    }
    let (_, id, _) = run(&["build", "-q", &context]);
    assert!(id.starts_with("sha256:") && id.trim().len() == 71, "{id}");
    let (code, out, _) = seacow(&host, &["build", "-q", "-"], b"FROM bb\nRUN true\n");
    assert!(code == Some(0) && out.starts_with("sha256:"));
    let (code, _, err) = seacow(&host, &["build", "-"], b"FROM bb\nRUN exit 3\n");
    assert!(code == Some(3) && err.contains("returned a non-zero code: 3"), "{err}");
    run(&["container", "prune", "-f"]);
    run(&["rmi", "-f", "seacow-test/bb:1", "seacow-test/built", id.trim(), out.trim()]);
}
