//! Versions, refusals and kept-alive connections, against a scripted engine.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex};
use std::thread;

use super::*;
use crate::connect::{Endpoint, Source};

/// An engine that answers every request by `answer` and remembers the request lines. `None` closes
/// the connection.
fn engine(answer: fn(&str) -> Option<String>) -> (Client, Arc<Mutex<Vec<String>>>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&lines);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, seen) = (stream.unwrap(), Arc::clone(&seen));
            thread::spawn(move || {
                let mut reader = BufReader::new(&stream);
                loop {
                    let mut request = String::new();
                    if reader.read_line(&mut request).unwrap_or(0) == 0 {
                        return;
                    }
                    let mut length = 0;
                    loop {
                        let mut field = String::new();
                        reader.read_line(&mut field).unwrap();
                        if let Some(n) = field.strip_prefix("Content-Length: ") {
                            length = n.trim().parse().unwrap();
                        }
                        if field == "\r\n" {
                            break;
                        }
                    }
                    std::io::copy(&mut (&mut reader).take(length), &mut std::io::sink()).unwrap();
                    let line = request.trim_end_matches(" HTTP/1.1\r\n").to_owned();
                    seen.lock().unwrap().push(line.clone());
                    match answer(&line) {
                        Some(text) => (&stream).write_all(text.as_bytes()).unwrap(),
                        None => return stream.shutdown(std::net::Shutdown::Both).unwrap(),
                    }
                }
            });
        }
    });
    let client = Client::new(Endpoint::parse(&path.display().to_string(), Source::Flag).unwrap());
    (client, lines, dir)
}

fn respond(status: &str, fields: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// An engine of API 1.41.
fn old(line: &str) -> Option<String> {
    let version = "Api-Version: 1.41\r\n";
    if line.contains("/v1.41/") || line.contains(" /_ping") {
        return Some(respond("200 OK", version, "{\"Id\":\"x\"}"));
    }
    let body = if line.starts_with("HEAD") {
        ""
    } else {
        "{\"message\":\"client version 1.51 is too new. Maximum supported API version is 1.41\"}"
    };
    let length = if line.starts_with("HEAD") { 90 } else { body.len() };
    Some(format!("HTTP/1.1 400 Bad Request\r\n{version}Content-Length: {length}\r\n\r\n{body}"))
}

#[test]
fn steps_down_to_an_older_engine_once() {
    let (client, lines, _dir) = engine(old);
    client.get("/a").done().unwrap();
    client.get("/b").done().unwrap();
    assert_eq!(client.version(), ApiVersion(1, 41));
    let newest = seacow_spec::docker::API_VERSION;
    assert_eq!(
        *lines.lock().unwrap(),
        [format!("GET /v{newest}/a"), "GET /v1.41/a".to_owned(), "GET /v1.41/b".to_owned()]
    );
}

#[test]
fn what_cannot_be_repeated_asks_first_and_head_reads_the_header() {
    let (client, lines, _dir) = engine(old);
    client.post("/load").stream("x", Box::new(&b""[..])).send().unwrap();
    assert_eq!(lines.lock().unwrap()[0], "GET /_ping");
    let (client, lines, _dir) = engine(old);
    client.call("HEAD", "/stat").send().unwrap();
    assert_eq!(lines.lock().unwrap()[1], "HEAD /v1.41/stat");
}

#[test]
fn refusals_carry_the_engine_s_words() {
    let (client, _lines, _dir) = engine(|line| {
        Some(match line.rsplit('/').next().unwrap() {
            "json" => respond("404 Not Found", "", "{\"message\":\"No such container: x\"}\n"),
            "text" => respond("404 Not Found", "", "No such container: y\r\n"),
            _ => respond("503 Service Unavailable", "", ""),
        })
    });
    let text = |path: &str| client.get(path).done().unwrap_err().to_string();
    assert_eq!(text("/json"), "Error response from daemon: No such container: x");
    assert_eq!(text("/text"), "Error response from daemon: No such container: y");
    assert!(text("/none").contains("request returned 503 Service Unavailable for API version"));
    assert!(client.get("/json").done().unwrap_err().is_not_found());
}

#[test]
fn a_connection_the_engine_gave_up_is_replaced() {
    static CALLS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let (client, lines, _dir) = engine(|line| {
        // The second request on the kept connection meets its end.
        let call = CALLS.fetch_add(1, Ordering::Relaxed);
        if line.ends_with("/b") && call == 1 { None } else { Some(respond("200 OK", "", "{}")) }
    });
    client.get("/a").done().unwrap();
    client.get("/b").done().unwrap();
    assert_eq!(lines.lock().unwrap().len(), 3);
}
