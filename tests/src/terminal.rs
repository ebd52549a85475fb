//! A real terminal: a tmux server of its own that types and looks.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// One terminal window of 80 columns and 24 rows.
pub struct Terminal {
    server: String,
}

impl Terminal {
    /// Runs a client in a new terminal.
    pub fn run(name: &str, command: &Command) -> Self {
        // A server that was just killed may still hold its socket.
        static OPENED: AtomicU32 = AtomicU32::new(0);
        let terminal = Self { server: format!("{name}-tty{}", OPENED.fetch_add(1, Ordering::Relaxed)) };
        let mut tmux = terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24"]);
        for (key, value) in command.get_envs() {
            if let Some(value) = value {
                tmux.arg("-e").arg(format!("{}={}", key.to_string_lossy(), value.to_string_lossy()));
            }
        }
        // What the client left on the screen, and its exit status, stay to be looked at.
        let mut line = shell_word(&command.get_program().to_string_lossy());
        for arg in command.get_args() {
            line.push(' ');
            line.push_str(&shell_word(&arg.to_string_lossy()));
        }
        tmux.arg(format!("{line}; echo \"[exit $?]\"; exec sleep 1000"));
        assert!(tmux.status().unwrap().success());
        terminal
    }

    /// Types text, literally.
    pub fn type_text(&self, text: &str) {
        assert!(self.tmux(&["send-keys", "-l", text]).status().unwrap().success());
    }

    /// Presses a key by tmux's name: Enter, C-c, C-p.
    pub fn press(&self, key: &str) {
        assert!(self.tmux(&["send-keys", key]).status().unwrap().success());
    }

    /// Makes the window another size.
    pub fn resize(&self, columns: u16, rows: u16) {
        let (x, y) = (columns.to_string(), rows.to_string());
        assert!(self.tmux(&["resize-window", "-x", &x, "-y", &y]).status().unwrap().success());
    }

    /// The screen's text.
    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&self.tmux(&["capture-pane", "-p"]).output().unwrap().stdout).into_owned()
    }

    /// Waits until the screen shows `text`.
    #[track_caller]
    pub fn shows(&self, text: &str) {
        let start = std::time::Instant::now();
        while !self.screen().contains(text) {
            assert!(start.elapsed() < crate::patience(10), "no {text:?} on the screen:\n{}", self.screen());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    fn tmux(&self, args: &[&str]) -> Command {
        let mut command = Command::new("tmux");
        command.arg("-L").arg(&self.server).args(args).env_remove("TMUX").env("TERM", "xterm");
        command
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Fails only when the server is gone already.
        drop(self.tmux(&["kill-server"]).status());
    }
}

fn shell_word(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}
