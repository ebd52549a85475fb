//! Programs of the caller's that run at stages of a container's life, with its state on standard
//! input.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use seacow_spec::oci::runtime::Hook;

use super::error::CliError;

/// Runs them in order; the first failure ends it.
pub(crate) fn run(stage: &str, hooks: &[Hook], state: &serde_json::Value) -> Result<(), CliError> {
    for hook in hooks {
        one(hook, state).map_err(|why| CliError::Hook(format!("{stage} hook {}: {why}", hook.path)))?;
    }
    Ok(())
}

fn one(hook: &Hook, state: &serde_json::Value) -> Result<(), String> {
    let mut command = Command::new(&hook.path);
    command.args(hook.args.iter().skip(1)).env_clear();
    if let Some(name) = hook.args.first() {
        use std::os::unix::process::CommandExt;
        command.arg0(name);
    }
    for (key, value) in hook.env.iter().filter_map(|e| e.split_once('=')) {
        command.env(key, value);
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|e| e.to_string())?;
    if let Some(mut stdin) = child.stdin.take() {
        // A hook need not read its state.
        let _ = stdin.write_all(state.to_string().as_bytes());
    }
    let timeout =
        hook.timeout.and_then(|t| u64::try_from(t).ok()).filter(|t| *t > 0).map(Duration::from_secs);
    let begin = Instant::now();
    loop {
        match child.try_wait().map_err(|e| e.to_string())? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(status.to_string()),
            None => {}
        }
        if timeout.is_some_and(|t| begin.elapsed() > t) {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("no end after {:?}", timeout.unwrap_or_default()));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
