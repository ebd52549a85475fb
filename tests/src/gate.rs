//! A way to a server that can be closed in the middle.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

/// Bytes that may still pass, to the client and to the server; `None`: any number.
#[derive(Default)]
struct Room {
    down: Option<usize>,
    up: Option<usize>,
    /// All that clients have sent.
    sent: Vec<u8>,
}

type Shared = Arc<(Mutex<Room>, Condvar)>;

/// Passes on what comes, until its room is used up; then it holds connections without a word.
pub struct Gate {
    host: String,
    room: Shared,
}

impl Gate {
    /// An open one.
    pub fn start(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let (room, server) = (Shared::default(), server.to_owned());
        let shared = Arc::clone(&room);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(&server) else { return };
                for up in [true, false] {
                    let (client, server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                    let room = Arc::clone(&shared);
                    std::thread::spawn(move || match up {
                        true => pass(&client, &server, &room, true),
                        false => pass(&server, &client, &room, false),
                    });
                }
            }
        });
        Self { host, room }
    }

    /// Where it listens.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Lets so many bytes pass to the client and to the server, and no more; `None`: all.
    pub fn allow(&self, down: Option<usize>, up: Option<usize>) {
        let mut room = self.room.0.lock().unwrap();
        (room.down, room.up) = (down, up);
        room.sent.clear();
        self.room.1.notify_all();
    }

    /// Whether clients have sent these words since [`Self::allow`].
    pub fn was_asked(&self, words: &str) -> bool {
        let room = self.room.0.lock().unwrap();
        room.sent.windows(words.len()).any(|window| window.eq_ignore_ascii_case(words.as_bytes()))
    }
}

fn pass(mut from: &TcpStream, mut to: &TcpStream, room: &Shared, up: bool) {
    let mut buffer = [0; 16 << 10];
    while let Ok(len @ 1..) = from.read(&mut buffer) {
        let mut waiting = room.0.lock().unwrap();
        if up {
            waiting.sent.extend_from_slice(&buffer[..len]);
        }
        loop {
            let left = if up { &mut waiting.up } else { &mut waiting.down };
            match left {
                Some(left) if *left < len => waiting = room.1.wait(waiting).unwrap(),
                Some(left) => {
                    *left -= len;
                    break;
                }
                None => break,
            }
        }
        drop(waiting);
        if to.write_all(&buffer[..len]).is_err() {
            break;
        }
    }
    // Nothing more comes, one way or the other.
    let _ = to.shutdown(Shutdown::Write);
}
