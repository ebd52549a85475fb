//! Terminals, against a real engine (see `oracle.sh`): sizes, keys, signals, and that the user's
//! terminal is as it was afterwards.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};

/// The client in a terminal of its own.
struct Terminal {
    main: File,
    user: OwnedFd,
    shown: Arc<Mutex<String>>,
    child: Child,
    before: String,
}

/// How long anything may take to appear.
const PATIENCE: Duration = Duration::from_secs(15);

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

impl Terminal {
    fn run(host: &str, args: &[&str]) -> Self {
        let main = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&main).unwrap();
        unlockpt(&main).unwrap();
        let name = ptsname(&main, Vec::new()).unwrap();
        let user: OwnedFd =
            File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap().into();
        tcsetwinsize(&user, size(24, 80)).unwrap();
        let before = format!("{:?}", tcgetattr(&user).unwrap());
        let end = || Stdio::from(user.try_clone().unwrap());
        // A session of its own with this as its controlling terminal.
        let child = Command::new("setsid")
            .args(["-c", "-w", support::seacow(), "-H", host])
            .args(args)
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        let main = File::from(main);
        let shown: Arc<Mutex<String>> = Arc::default();
        let (mut reader, text) = (main.try_clone().unwrap(), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut buf = [0; 4096];
            while let Ok(n) = reader.read(&mut buf) {
                text.lock().unwrap().push_str(&String::from_utf8_lossy(&buf[..n]));
            }
        });
        Self { main, user, shown, child, before }
    }

    /// Waits until `text` is on the screen, and takes everything up to it away.
    fn expect(&mut self, text: &str) {
        let end = Instant::now() + PATIENCE;
        loop {
            let mut shown = self.shown.lock().unwrap();
            if let Some(i) = shown.find(text) {
                let rest = shown[i + text.len()..].to_owned();
                *shown = rest;
                return;
            }
            assert!(Instant::now() < end, "{text:?} did not appear: {shown:?}");
            drop(shown);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn type_keys(&mut self, keys: &[u8]) {
        self.main.write_all(keys).unwrap();
    }

    fn resize(&mut self, rows: u16, columns: u16) {
        tcsetwinsize(&self.user, size(rows, columns)).unwrap();
    }

    /// Waits for the end; the terminal must be as it was.
    fn finish(mut self) -> Option<i32> {
        let code = self.child.wait().unwrap().code();
        assert_eq!(format!("{:?}", tcgetattr(&self.user).unwrap()), self.before);
        code
    }
}

#[test]
fn a_shell_knows_its_size_and_its_exit_status_comes_back() {
    let Some(host) = support::oracle("a_shell_knows_its_size") else { return };
    let mut t = Terminal::run(&host, &["run", "--rm", "-it", "bb", "sh"]);
    t.expect("/ #");
    t.type_keys(b"stty size\r");
    t.expect("24 80");
    t.resize(40, 120);
    // The new size takes a moment to get there; asking again is what a person would do.
    let end = Instant::now() + PATIENCE;
    loop {
        t.type_keys(b"stty size\r");
        std::thread::sleep(Duration::from_millis(100));
        if t.shown.lock().unwrap().contains("40 120") {
            break;
        }
        assert!(Instant::now() < end, "the size did not change");
    }
    t.type_keys(b"exit 9\r");
    assert_eq!(t.finish(), Some(9));
}

#[test]
fn detached_and_attached_again() {
    let Some(host) = support::oracle("detached_and_attached_again") else { return };
    let name = format!("seacow-test-{}", std::process::id());
    let mut t = Terminal::run(&host, &["run", "--rm", "-it", "--name", &name, "bb", "sh"]);
    t.expect("/ #");
    t.type_keys(b"\x10\x11");
    assert_eq!(t.finish(), Some(0));
    let mut t = Terminal::run(&host, &["attach", "--detach-keys", "ctrl-x", &name]);
    t.expect("/ #");
    t.type_keys(b"echo ba''ck\r");
    t.expect("back");
    t.type_keys(b"\x18");
    t.expect("read escape sequence");
    assert_eq!(t.finish(), Some(1));
    let mut t = Terminal::run(&host, &["attach", &name]);
    t.expect("/ #");
    t.type_keys(b"exit 5\r");
    assert_eq!(t.finish(), Some(5));
}

#[test]
fn ctrl_c_is_the_container_s() {
    let Some(host) = support::oracle("ctrl_c_is_the_container_s") else { return };
    let trap = "trap 'echo got; exit 42' INT; echo ready; sleep 100 & wait";
    let mut t = Terminal::run(&host, &["run", "--rm", "bb", "sh", "-c", trap]);
    t.expect("ready");
    t.type_keys(b"\x03");
    t.expect("got");
    assert_eq!(t.finish(), Some(42));
}

#[test]
fn exec_in_a_terminal() {
    let Some(host) = support::oracle("exec_in_a_terminal") else { return };
    let mut t = Terminal::run(&host, &["exec", "-it", "web", "sh"]);
    t.expect("/ #");
    t.type_keys(b"stty size; exit 3\r");
    t.expect("24 80");
    assert_eq!(t.finish(), Some(3));
}
