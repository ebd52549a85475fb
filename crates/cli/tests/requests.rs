//! docker's client and this one, side by side against an engine that only writes down what it is
//! asked: the requests must be the same, and so must the refusals made before any request.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;

/// One request as it is compared: method, path without its version, sorted query, body.
#[derive(Debug, Clone, PartialEq)]
struct Asked {
    line: String,
    query: Vec<String>,
    body: Value,
}

type Log = Arc<Mutex<Vec<Asked>>>;

/// Answers pings, refuses everything else, and remembers it.
fn recorder(path: PathBuf) -> Log {
    let log: Log = Arc::default();
    let seen = Arc::clone(&log);
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, seen) = (stream.unwrap(), Arc::clone(&seen));
            thread::spawn(move || serve(&stream, &seen));
        }
    });
    log
}

fn serve(stream: &UnixStream, log: &Log) {
    let mut reader = BufReader::new(stream);
    while let Some((line, body)) = request(&mut reader) {
        let answer = if line.contains("/_ping") {
            "HTTP/1.1 200 OK\r\nApi-Version: 1.50\r\nOstype: linux\r\nContent-Length: 0\r\n\r\n".to_owned()
        } else {
            log.lock().unwrap().push(asked(&line, &body));
            let text = "{\"message\":\"stop here\"}";
            // Objects are never there; commands that look first go on to the next kind.
            let status = if line.starts_with("GET") && line.contains("/containers/") { 404 } else { 500 };
            format!(
                "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{text}",
                text.len()
            )
        };
        let mut stream = stream;
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn request(reader: &mut impl BufRead) -> Option<(String, Vec<u8>)> {
    let mut line = String::new();
    if reader.read_line(&mut line).ok()? == 0 {
        return None;
    }
    let (mut length, mut chunked) = (0_u64, false);
    loop {
        let mut field = String::new();
        reader.read_line(&mut field).ok()?;
        let field = field.to_ascii_lowercase();
        if let Some(n) = field.strip_prefix("content-length: ") {
            length = n.trim().parse().ok()?;
        }
        chunked |= field.starts_with("transfer-encoding: chunked");
        if field == "\r\n" {
            break;
        }
    }
    let mut body = Vec::new();
    reader.take(length).read_to_end(&mut body).ok()?;
    while chunked {
        let mut size = String::new();
        reader.read_line(&mut size).ok()?;
        let size = u64::from_str_radix(size.trim(), 16).ok()?;
        let mut chunk = Vec::new();
        reader.take(size + 2).read_to_end(&mut chunk).ok()?;
        chunked = size > 0;
    }
    Some((line, body))
}

fn asked(line: &str, body: &[u8]) -> Asked {
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = path.strip_prefix("/v1.").and_then(|p| p.split_once('/')).map_or(path, |(_, p)| p);
    // Go writes spaces as `+`.
    let mut query: Vec<String> =
        query.split('&').filter(|q| !q.is_empty()).map(|q| q.replace('+', "%20")).collect();
    query.sort();
    let mut body: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    if let Some(runtime) = body.pointer_mut("/HostConfig")
        && runtime.get("Runtime") == Some(&Value::from(""))
        && let Some(config) = runtime.as_object_mut()
    {
        // Absent and empty are the same to every engine.
        config.remove("Runtime");
    }
    Asked { line: format!("{method} {path}"), query, body }
}

/// docker's client collects variables and bind mounts in maps, and sends them in another order now and
/// then.
fn sort_what_docker_shuffles(body: &mut Value) {
    for list in ["/Env", "/HostConfig/Binds"] {
        if let Some(entries) = body.pointer_mut(list).and_then(Value::as_array_mut) {
            entries.sort_by_key(ToString::to_string);
        }
    }
}

#[test]
fn the_same_requests_as_docker() {
    if !support::docker_is_here("the_same_requests_as_docker") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let log = recorder(dir.path().join("s.sock"));
    let host = format!("unix://{}", dir.path().join("s.sock").display());
    let cases = support::cases("requests.txt");
    let mut differences = Vec::new();
    for (line, args) in &cases {
        let mut both = ["docker", support::seacow()].map(|program| {
            log.lock().unwrap().clear();
            let ran = support::run(program, &host, args);
            let mut asked = log.lock().unwrap().clone();
            asked.iter_mut().for_each(|asked| sort_what_docker_shuffles(&mut asked.body));
            (ran.code, ran.err, asked)
        });
        let [docker, seacow] = &mut both;
        if docker != seacow {
            differences.push(format!("{line}\n  docker: {docker:?}\n  seacow: {seacow:?}"));
        }
    }
    support::report(&differences, cases.len());
}

#[test]
fn the_same_help_as_docker() {
    if !support::docker_is_here("the_same_help_as_docker") {
        return;
    }
    // docker hides flags that the engine does not know; with none there it shows all.
    let host = "unix:///nonexistent/seacow-test.sock";
    let cases = support::cases("help.txt");
    let mut differences = Vec::new();
    for (line, args) in &cases {
        let (docker, mut seacow) =
            (support::run("docker", host, args), support::run(support::seacow(), host, args));
        seacow.out = without_ours(&seacow.out);
        if docker != seacow {
            differences.push(format!("{line}\n  docker: {}\n  seacow: {}", docker.out, seacow.out));
        }
    }
    support::report(&differences, cases.len());
}

/// A help page without what docker does not have, which says so: flags, paragraphs, lines of usage.
fn without_ours(help: &str) -> String {
    let mut out = String::new();
    let mut entry = String::new();
    for line in help.split_inclusive('\n') {
        // The empty line behind usage stays, the one behind a paragraph goes with it.
        let ends_usage = line == "\n" && entry.starts_with('\t');
        if line.trim_start().starts_with('-') || line.starts_with('\t') || ends_usage {
            keep(&mut out, &mut entry);
        }
        entry.push_str(line);
        if line == "\n" {
            keep(&mut out, &mut entry);
        }
    }
    keep(&mut out, &mut entry);
    out
}

fn keep(out: &mut String, entry: &mut String) {
    let entry = std::mem::take(entry);
    if !entry.contains("(seacow only)") {
        out.push_str(&entry);
    }
}
