//! An engine in a process of its own, which can be killed: this test binary once more, running its ignored
//! test `host_an_engine`, which answers lines with lines that begin with `@@ `.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::Place;

pub const DIR: &str = "SEACOW_TEST_DIR";
pub const NAME: &str = "SEACOW_TEST_NAME";

/// A process with an engine in it, driven by lines.
pub struct Helper {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Helper {
    pub fn start(place: &Place) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture", "host_an_engine"])
            .env(DIR, place.dir.path())
            .env(NAME, &place.name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut helper = Self { child, input, output };
        assert_eq!(helper.answer(), "up");
        helper
    }

    /// Says something and gives the answer.
    pub fn ask(&mut self, line: &str) -> String {
        self.say(line);
        self.answer()
    }

    pub fn say(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }

    fn answer(&mut self) -> String {
        self.answer_if_alive().expect("the helper died")
    }

    /// Says something and gives the answer, or nothing if the process died of it.
    pub fn ask_to_death(&mut self, line: &str) -> Option<String> {
        self.say(line);
        self.answer_if_alive()
    }

    fn answer_if_alive(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            if let Some((_, answer)) = line.split_once("@@ ") {
                return Some(answer.trim().to_owned());
            }
        }
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// An outcome as an answer.
pub fn said<E: std::fmt::Display>(outcome: Result<(), E>) -> String {
    outcome.map_or_else(|error| error.to_string(), |()| "done".into())
}
