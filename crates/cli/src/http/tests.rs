//! The client against servers that a few lines of script play.

use std::io::{Cursor, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use super::*;

/// Plays one connection per script: sends each piece, and reports all it received.
fn server(scripts: Vec<Vec<&'static [u8]>>) -> (Dial, Receiver<Vec<u8>>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for script in scripts {
            let (mut stream, _) = listener.accept().unwrap();
            for piece in script {
                wait_for_request(&mut stream, &sender);
                let _ = stream.write_all(piece);
            }
        }
    });
    (Dial::Unix(path), receiver, dir)
}

/// Reads until a request's head (and its chunked body) has arrived.
fn wait_for_request(stream: &mut UnixStream, sender: &std::sync::mpsc::Sender<Vec<u8>>) {
    let mut seen = Vec::new();
    let mut buf = [0; 4096];
    loop {
        let n = stream.read(&mut buf).unwrap();
        seen.extend_from_slice(&buf[..n]);
        let text = String::from_utf8_lossy(&seen).into_owned();
        let chunked = text.contains("chunked");
        let complete = text.contains("\r\n\r\n") && (!chunked || text.ends_with("0\r\n\r\n"));
        if n == 0 || complete {
            let _ = sender.send(seen);
            return;
        }
    }
}

fn get(target: &str) -> Request<'_, 'static> {
    Request { method: "GET", target, fields: &[], hijack: false, payload: Payload::None }
}

#[test]
fn bodies_by_length_in_chunks_and_until_the_end() {
    let (dial, _received, _dir) = server(vec![vec![
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: x\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\nto the end",
    ]]);
    let mut conn = Conn::new(dial.connect().unwrap());
    for expected in ["hello", "abcde"] {
        let mut response = get("/x").exchange(conn).unwrap();
        assert_eq!(response.body.collect().unwrap(), expected.as_bytes());
        conn = response.body.recycle().unwrap();
        assert!(conn.reused);
    }
    let mut response = get("/x").exchange(conn).unwrap();
    assert_eq!(response.body.collect().unwrap(), b"to the end");
    assert!(response.body.recycle().is_none());
}

#[test]
fn an_upgrade_keeps_what_came_with_it() {
    let (dial, received, _dir) =
        server(vec![vec![b"HTTP/1.1 101 UPGRADED\r\nUpgrade: tcp\r\n\r\nfirst bytes"]]);
    let mut attach =
        Request { method: "POST", target: "/attach", fields: &[], hijack: true, payload: Payload::None };
    let response = attach.exchange(Conn::new(dial.connect().unwrap())).unwrap();
    assert_eq!(response.head.status, 101);
    let mut conn = response.body.into_conn();
    let mut all = Vec::new();
    let mut buf = [0; 4];
    loop {
        match conn.read(&mut buf).unwrap() {
            0 => break,
            n => all.extend_from_slice(&buf[..n]),
        }
    }
    assert_eq!(all, b"first bytes");
    let request = String::from_utf8(received.recv().unwrap()).unwrap();
    assert!(request.contains("\r\nUpgrade: tcp\r\n") && request.contains("\r\nConnection: Upgrade\r\n"));
}

#[test]
fn streamed_uploads_arrive_whole() {
    let (dial, received, _dir) = server(vec![vec![b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]]);
    let body = vec![b'x'; 200_000];
    let mut put = Request {
        method: "PUT",
        target: "/archive",
        fields: &[("A", "b")],
        hijack: false,
        payload: Payload::Stream {
            content_type: "application/x-tar",
            reader: Some(Box::new(Cursor::new(body))),
        },
    };
    let response = put.exchange(Conn::new(dial.connect().unwrap())).unwrap();
    assert_eq!(response.head.status, 200);
    // The upload's thread may still hold it.
    assert!(response.body.recycle().is_none());
    let request = received.recv().unwrap();
    assert!(request.starts_with(b"PUT /archive HTTP/1.1\r\n"));
    assert_eq!(request.iter().filter(|b| **b == b'x').count() - "x-tar".matches('x').count(), 200_000);
}

/// A body whose source fails must not look complete to the engine.
#[test]
fn a_broken_source_is_the_error_and_not_the_end() {
    struct Broken(usize);
    impl Read for Broken {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            self.0 += 1;
            if self.0 == 1 { Ok(buf.len()) } else { Err(std::io::Error::other("the disk is gone")) }
        }
    }
    let (dial, received, _dir) = server(vec![vec![b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]]);
    let mut put = Request {
        method: "PUT",
        target: "/",
        fields: &[],
        hijack: false,
        payload: Payload::Stream { content_type: "x", reader: Some(Box::new(Broken(0))) },
    };
    let outcome = put.exchange(Conn::new(dial.connect().unwrap()));
    assert!(matches!(outcome, Err(HttpError::Upload(_))), "{outcome:?}");
    assert!(!received.recv().unwrap().ends_with(b"0\r\n\r\n"));
}

#[test]
fn closed_silent_and_endless_servers() {
    let (dial, _received, _dir) = server(vec![vec![b""]]);
    assert!(matches!(get("/").exchange(Conn::new(dial.connect().unwrap())), Err(HttpError::Closed)));
    let endless: &'static [u8] =
        Vec::leak([b"HTTP/1.1 200 OK\r\n".to_vec(), vec![b'a'; MAX_HEAD * 2]].concat());
    let (dial, _received, _dir) = server(vec![vec![endless]]);
    assert!(matches!(get("/").exchange(Conn::new(dial.connect().unwrap())), Err(HttpError::HeadTooLong)));
    let (dial, _received, _dir) = server(vec![vec![b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort"]]);
    let mut response = get("/").exchange(Conn::new(dial.connect().unwrap())).unwrap();
    assert!(response.body.collect().is_err());
}

#[test]
fn half_close_leaves_the_other_direction_open() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let echo = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        stream.write_all(&all).unwrap();
    });
    let mut socket = Dial::Unix(path).connect().unwrap();
    socket.write_all(b"ping").unwrap();
    socket.shut_write().unwrap();
    let mut back = Vec::new();
    socket.read_to_end(&mut back).unwrap();
    assert_eq!(back, b"ping");
    echo.join().unwrap();
}

#[test]
fn a_helper_process_is_a_connection() {
    let dial = Dial::Process(vec!["cat".to_owned()]);
    let mut socket = dial.connect().unwrap();
    socket.write_all(b"through a pipe").unwrap();
    socket.shut_write().unwrap();
    let mut back = Vec::new();
    socket.read_to_end(&mut back).unwrap();
    assert_eq!(back, b"through a pipe");
}
