//! What is shown of a build: on a terminal the steps that run, redrawn in place; elsewhere a line for
//! everything that happens.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use seacow_spec::docker::build::{BuildEvent, JsonMessage};

use crate::failure::Failure;
use crate::term;

/// How often the times of running steps are shown anew.
const TICK: Duration = Duration::from_millis(100);
/// Lines of a running step's output on a terminal.
const TAIL: usize = 6;
/// Output of a step that is kept to be shown if it fails.
const KEPT: usize = 256;

/// One build's display.
pub(super) struct Display {
    state: Arc<Mutex<State>>,
    ticker: Option<(Sender<()>, JoinHandle<()>)>,
}

struct State {
    begun: Instant,
    style: Style,
    steps: BTreeMap<u64, Step>,
    /// Lines on the screen that are drawn over.
    drawn: usize,
    warnings: Vec<String>,
    failed: Option<(String, String)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Quiet,
    Plain,
    Terminal,
}

struct Step {
    name: String,
    begun: Instant,
    end: Option<End>,
    /// The end of its output, in lines.
    lines: Vec<String>,
    /// The last of them is not complete.
    open: bool,
}

#[derive(Clone, Copy)]
enum End {
    Done(Duration),
    Cached,
    Broken(Duration),
}

impl Display {
    pub(super) fn new(wanted: &str, quiet: bool) -> Self {
        let style = match wanted {
            _ if quiet => Style::Quiet,
            "plain" => Style::Plain,
            "tty" => Style::Terminal,
            _ if term::is_terminal(rustix::stdio::stderr()) => Style::Terminal,
            _ => Style::Plain,
        };
        let state = Arc::new(Mutex::new(State::new(style)));
        let ticker = (style == Style::Terminal).then(|| tick(Arc::clone(&state))).flatten();
        Self { state, ticker }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn event(&mut self, event: BuildEvent) -> Result<(), Failure> {
        let mut state = self.state();
        let lines = state.take(event);
        state.show(&lines, &mut io::stderr().lock())?;
        Ok(())
    }

    /// A message of Docker's kind: the progress of a pull.
    pub(super) fn message(&mut self, message: &JsonMessage) -> Result<(), Failure> {
        let (Some(status), None) = (&message.status, &message.progress_detail.and_then(|p| p.current)) else {
            return Ok(());
        };
        let id = message.id.as_deref().map(|id| format!("{id}: ")).unwrap_or_default();
        self.state().show(&[format!("{id}{status}")], &mut io::stderr().lock())?;
        Ok(())
    }

    /// The build failed. The error itself is the command's own, as of all commands.
    pub(super) fn failed(&mut self) -> Result<(), Failure> {
        let mut state = self.state();
        let lines = state.explain();
        if state.style == Style::Quiet {
            // Now it has something to say.
            state.style = Style::Plain;
        }
        state.show(&lines, &mut io::stderr().lock())?;
        Ok(())
    }

    /// Nothing more comes.
    pub(super) fn finish(&mut self) {
        if let Some((stop, ticker)) = self.ticker.take() {
            drop(stop);
            // One that panicked shows nothing more, either.
            let _ = ticker.join();
        }
        let mut state = self.state();
        let warnings = state.closing();
        // The outcome matters more than what is shown of it.
        let _ = state.show(&warnings, &mut io::stderr().lock());
    }
}

/// Redraws until the sender is dropped.
fn tick(state: Arc<Mutex<State>>) -> Option<(Sender<()>, JoinHandle<()>)> {
    let (stop, stopped) = channel::<()>();
    let ticker = std::thread::Builder::new().name("display".into()).spawn(move || {
        while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.show(&[], &mut io::stderr().lock()).is_err() {
                return;
            }
        }
    });
    ticker.ok().map(|ticker| (stop, ticker))
}

impl State {
    fn new(style: Style) -> Self {
        Self {
            begun: Instant::now(),
            style,
            steps: BTreeMap::new(),
            drawn: 0,
            warnings: Vec::new(),
            failed: None,
        }
    }

    /// Notes an event; the lines that it adds to what was said.
    fn take(&mut self, event: BuildEvent) -> Vec<String> {
        match event {
            BuildEvent::Begin { step, stage, position, of, text } => {
                let place =
                    if stage.is_empty() { String::new() } else { format!("[{stage} {position}/{of}] ") };
                let name = format!("{place}{text}");
                let line = format!("#{step} {name}");
                self.steps.insert(
                    step,
                    Step { name, begun: Instant::now(), end: None, lines: Vec::new(), open: false },
                );
                self.plain(line)
            }
            BuildEvent::Output { step, text, .. } => self.output(step, &text),
            BuildEvent::End { step, cached, micros } => {
                let took = Duration::from_micros(micros);
                self.end(step, if cached { End::Cached } else { End::Done(took) })
            }
            BuildEvent::Broken { step, micros } => self.end(step, End::Broken(Duration::from_micros(micros))),
            BuildEvent::Note { text } => vec![text],
            BuildEvent::Warning { rule, text, line, excerpt } => {
                self.warnings.push(format!("WARNING: {rule}: {text} (line {line})\n{excerpt}"));
                Vec::new()
            }
            BuildEvent::Failed { excerpt, output } => {
                self.failed = Some((excerpt, output));
                Vec::new()
            }
            BuildEvent::Built { .. } | BuildEvent::Agent { .. } => Vec::new(),
        }
    }

    fn plain(&self, line: String) -> Vec<String> {
        if self.style == Style::Plain { vec![line] } else { Vec::new() }
    }

    fn output(&mut self, number: u64, text: &str) -> Vec<String> {
        let plain = self.style == Style::Plain;
        let Some(step) = self.steps.get_mut(&number) else { return Vec::new() };
        let mut said = Vec::new();
        for piece in text.split_inclusive('\n') {
            let line = piece.trim_end_matches(['\n', '\r']);
            match step.lines.last_mut().filter(|_| step.open) {
                Some(last) => last.push_str(line),
                None => step.lines.push(line.to_owned()),
            }
            step.open = !piece.ends_with('\n');
            if plain && !step.open {
                let at = step.begun.elapsed().as_secs_f64();
                said.push(format!("#{number} {at:.3} {}", step.lines.last().map_or("", String::as_str)));
            }
        }
        let more = step.lines.len().saturating_sub(KEPT);
        step.lines.drain(..more);
        said
    }

    fn end(&mut self, number: u64, end: End) -> Vec<String> {
        let Some(step) = self.steps.get_mut(&number) else { return Vec::new() };
        step.end = Some(end);
        let mut lines = Vec::new();
        if self.style == Style::Plain {
            if step.open {
                lines.push(format!("#{number} {}", step.lines.last().map_or("", String::as_str)));
            }
            lines.push(format!("#{number} {}", end.text()));
        }
        lines
    }

    /// What failed: the step's output, the lines of the Dockerfile.
    fn explain(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some((excerpt, output)) = self.failed.take() {
            let broken = self.steps.values().find(|step| matches!(step.end, Some(End::Broken(_))));
            if let (Some(step), false) = (broken, output.is_empty()) {
                lines.push("------".into());
                lines.push(format!(" > {}:", step.name));
                lines.extend(output.lines().map(str::to_owned));
                lines.push("------".into());
            }
            lines.extend(excerpt.lines().map(str::to_owned));
        }
        lines
    }

    /// What is said at the very end.
    fn closing(&mut self) -> Vec<String> {
        let warnings = std::mem::take(&mut self.warnings);
        if warnings.is_empty() {
            return Vec::new();
        }
        let mut lines = vec![String::new()];
        lines.extend(warnings.iter().flat_map(|warning| warning.lines().map(str::to_owned)));
        lines
    }

    /// Writes lines above what is redrawn, and redraws that.
    fn show(&mut self, lines: &[String], out: &mut impl Write) -> io::Result<()> {
        match self.style {
            Style::Quiet => Ok(()),
            Style::Plain => {
                for line in lines {
                    writeln!(out, "{line}")?;
                }
                out.flush()
            }
            Style::Terminal => self.redraw(lines, out),
        }
    }

    fn redraw(&mut self, lines: &[String], out: &mut impl Write) -> io::Result<()> {
        let (rows, columns) =
            term::size().map_or((24, 80), |(rows, columns)| (usize::from(rows), usize::from(columns)));
        let (rows, columns) = (rows.max(4), columns.max(20));
        let mut text = String::new();
        if self.drawn > 0 {
            text.push_str(&format!("\x1b[{}A\x1b[J", self.drawn));
        }
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        let board = self.board(rows - 2, columns);
        self.drawn = board.len();
        for line in board {
            text.push_str(&line);
            text.push('\n');
        }
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// The lines that are redrawn: how far it is, and the steps, those that run with their output.
    fn board(&self, rows: usize, columns: usize) -> Vec<String> {
        let done = self.steps.values().filter(|step| step.end.is_some()).count();
        let total = self.begun.elapsed().as_secs_f64();
        let mut lines = vec![format!("[+] Building {total:.1}s ({done}/{})", self.steps.len())];
        let mut steps = Vec::new();
        for step in self.steps.values() {
            let time = match step.end {
                None => format!("{:.1}s", step.begun.elapsed().as_secs_f64()),
                Some(end) => end.time(),
            };
            let cached = if matches!(step.end, Some(End::Cached)) { "CACHED " } else { "" };
            let room = columns.saturating_sub(time.len() + 6);
            steps.push(format!(" => {:room$} {time}", cut(&format!("{cached}{}", step.name), room)));
            if step.end.is_none() {
                let from = step.lines.len().saturating_sub(TAIL);
                let tail = step.lines[from..].iter();
                steps.extend(tail.map(|line| format!(" => => {}", cut(line, columns.saturating_sub(8)))));
            }
        }
        // The newest matter; older ones have scrolled away.
        let from = steps.len().saturating_sub(rows.saturating_sub(1));
        lines.extend(steps.drain(from..));
        lines
    }
}

impl End {
    fn text(self) -> String {
        match self {
            Self::Cached => "CACHED".into(),
            Self::Done(_) => format!("DONE {}", self.time()),
            Self::Broken(_) => format!("ERROR {}", self.time()),
        }
    }

    fn time(self) -> String {
        match self {
            Self::Cached => "0.0s".into(),
            Self::Done(took) | Self::Broken(took) => format!("{:.1}s", took.as_secs_f64()),
        }
    }
}

/// A line that fits, without what would move the cursor.
fn cut(text: &str, columns: usize) -> String {
    let plain = text.chars().filter(|ch| !ch.is_control());
    let line: String = plain.take(columns + 1).collect();
    if line.chars().count() <= columns {
        return line;
    }
    line.chars().take(columns.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(step: u64, text: &str) -> BuildEvent {
        BuildEvent::Begin { step, stage: "base".into(), position: 1, of: 2, text: text.into() }
    }

    fn output(step: u64, text: &str) -> BuildEvent {
        BuildEvent::Output { step, stderr: false, text: text.into() }
    }

    #[test]
    fn plain_lines() {
        let mut state = State::new(Style::Plain);
        assert_eq!(state.take(begin(1, "FROM bb")), ["#1 [base 1/2] FROM bb"]);
        assert_eq!(state.take(BuildEvent::End { step: 1, cached: true, micros: 1 }), ["#1 CACHED"]);
        state.take(begin(2, "RUN x"));
        assert_eq!(state.take(output(2, "hal")), Vec::<String>::new());
        let said = state.take(output(2, "lo\nrest"));
        assert!(said.len() == 1 && said[0].starts_with("#2 0.") && said[0].ends_with(" hallo"), "{said:?}");
        assert_eq!(
            state.take(BuildEvent::Broken { step: 2, micros: 1_500_000 }),
            ["#2 rest", "#2 ERROR 1.5s"]
        );
        state.take(BuildEvent::Failed { excerpt: "Dockerfile:2\n".into(), output: "hallo\n".into() });
        assert_eq!(state.explain(), ["------", " > [base 1/2] RUN x:", "hallo", "------", "Dockerfile:2"]);
        let warning =
            BuildEvent::Warning { rule: "R".into(), text: "t".into(), excerpt: "e\n".into(), line: 3 };
        state.take(warning);
        assert_eq!(state.closing(), ["", "WARNING: R: t (line 3)", "e"]);
    }

    #[test]
    fn the_board() {
        let mut state = State::new(Style::Terminal);
        state.take(begin(1, "FROM bb"));
        state.take(BuildEvent::End { step: 1, cached: true, micros: 1 });
        state.take(begin(2, "RUN a very long command that does not fit"));
        for number in 0..10 {
            state.take(output(2, &format!("line\x1b[2J {number}\n")));
        }
        let board = state.board(20, 40);
        assert!(board[0].starts_with("[+] Building 0.") && board[0].ends_with("(1/2)"), "{board:?}");
        assert!(board[1].starts_with(" => CACHED [base 1/2] FROM bb ") && board[1].ends_with(" 0.0s"));
        assert!(board[2].contains('…'));
        assert_eq!(board.len(), 3 + TAIL);
        assert_eq!(board[8], " => => line[2J 9");
        assert!(board.iter().all(|line| line.chars().count() <= 40), "{board:?}");
        assert_eq!(state.board(3, 40).len(), 3);
        let mut out = Vec::new();
        state.redraw(&["note".into()], &mut out).unwrap();
        state.redraw(&[], &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("note\n[+] Building") && text.contains("A\x1b[J[+]"), "{text}");
    }
}
