//! Client programs: run to the end, or held on to while they run.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::patience;

/// A client that ended.
#[derive(Debug, Clone)]
pub struct Done {
    /// The command line, for messages.
    pub command: String,
    /// Exit status; 128+n after signal n.
    pub code: i32,
    /// What it printed.
    pub out: String,
    /// What it complained.
    pub err: String,
}

impl Done {
    /// Runs a program to the end.
    #[track_caller]
    pub fn run(command: &mut Command) -> Self {
        let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self::of(command, output)
    }

    pub(crate) fn of(command: &Command, output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let words: Vec<_> = command.get_args().map(|arg| arg.to_string_lossy()).collect();
        Self {
            command: format!("{} {}", command.get_program().to_string_lossy(), words.join(" ")),
            code: output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0)),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Asserts success and returns standard output without the last newline.
    #[track_caller]
    pub fn ok(&self) -> String {
        assert_eq!(self.code, 0, "{}\nstdout: {}\nstderr: {}", self.command, self.out, self.err);
        self.out.trim_end_matches('\n').to_owned()
    }

    /// Asserts the exit status.
    #[track_caller]
    pub fn code(&self, code: i32) -> &Self {
        assert_eq!(self.code, code, "{}\nstdout: {}\nstderr: {}", self.command, self.out, self.err);
        self
    }

    /// Asserts that it failed with that status and complained with these words.
    #[track_caller]
    pub fn fails(&self, code: i32, words: &str) -> &Self {
        self.code(code);
        assert!(self.err.contains(words), "{}\nexpected {words:?} in stderr: {}", self.command, self.err);
        self
    }
}

/// A client that still runs. Killed when dropped.
pub struct Running {
    child: Child,
}

impl Running {
    /// Starts it, with pipes.
    pub fn spawn(command: &mut Command) -> Self {
        let child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Self { child }
    }

    /// Its standard input.
    pub fn stdin(&mut self) -> &mut ChildStdin {
        self.child.stdin.as_mut().unwrap()
    }

    /// Writes to its standard input.
    pub fn send(&mut self, text: &str) {
        self.stdin().write_all(text.as_bytes()).unwrap();
    }

    /// Reads from its standard output until `text` was seen.
    #[track_caller]
    pub fn read_until(&mut self, text: &str) -> String {
        let mut seen = Vec::new();
        let mut byte = [0];
        while !String::from_utf8_lossy(&seen).contains(text) {
            let n = self.child.stdout.as_mut().unwrap().read(&mut byte).unwrap();
            assert!(n == 1, "output ended before {text:?}: {:?}", String::from_utf8_lossy(&seen));
            seen.push(byte[0]);
        }
        String::from_utf8_lossy(&seen).into_owned()
    }

    /// Sends it a signal by name.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Closes its standard input and waits for its end.
    ///
    /// # Panics
    /// It does not end within 30 seconds (see [`patience`]).
    #[track_caller]
    pub fn finish(mut self) -> Done {
        drop(self.child.stdin.take());
        // Both pipes are read by threads, or a chatty client would block on the one not read.
        let out = drain(self.child.stdout.take());
        let err = drain(self.child.stderr.take());
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if start.elapsed() > patience(30) {
                self.child.kill().unwrap();
                panic!("client did not end; stdout: {:?}", String::from_utf8_lossy(&out.join().unwrap()));
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let output = Output { status, stdout: out.join().unwrap(), stderr: err.join().unwrap() };
        Done::of(&Command::new("client"), output)
    }
}

fn drain(from: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut from) = from {
            from.read_to_end(&mut bytes).unwrap();
        }
        bytes
    })
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already ended is what we want.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
