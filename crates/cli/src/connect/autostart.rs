//! Starting the daemon when nobody listens on seacow's own socket.

use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::access;

/// How long a daemon may take until it listens: it reconciles its containers first.
const PATIENCE: Duration = Duration::from_secs(15);

/// Pause between two looks at the socket.
const PAUSE: Duration = Duration::from_millis(2);

/// How much of the log's end is shown when the daemon does not come up.
const LOG_TAIL: u64 = 2048;

/// The daemon's program name.
const DAEMON: &str = "seacowd";

/// No daemon could be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(
        "Cannot connect to the seacow daemon at unix://{path}: none is running, and only root can start it. Run this command with sudo; to do without it later: {mend}.",
        path = socket.display()
    )]
    NotRoot { socket: PathBuf, mend: String },
    #[error(
        "Cannot connect to the seacow daemon: none is running, and there is no {DAEMON} beside {0} or on the PATH to start"
    )]
    NoProgram(String),
    #[error("starting the daemon: opening its log {path}: {source}", path = path.display())]
    Log { path: PathBuf, source: io::Error },
    #[error("starting {program}: {source}", program = program.display())]
    Spawn { program: PathBuf, source: io::Error },
    #[error("the seacow daemon ended at once ({status}); the last lines of {log}:\n{tail}", log = log.display())]
    Ended { status: ExitStatus, log: PathBuf, tail: String },
    #[error(
        "the seacow daemon was started but does not listen on {socket} after {}s; the last lines of {log}:\n{tail}",
        PATIENCE.as_secs(), socket = socket.display(), log = log.display()
    )]
    Silent { socket: PathBuf, log: PathBuf, tail: String },
}

/// Starts `seacowd` and waits until it listens on `socket`.
pub(crate) fn start(socket: &Path) -> Result<(), StartError> {
    if !rustix::process::geteuid().is_root() {
        return Err(StartError::NotRoot { socket: socket.to_owned(), mend: access::mend(socket) });
    }
    let program = find_daemon()?;
    let log = log_path(socket);
    let child = spawn(&program, &log)?;
    wait_until_listening(child, socket, &log)
}

/// Where the started daemon's own words go: beside its socket.
pub(crate) fn log_path(socket: &Path) -> PathBuf {
    socket.with_file_name("seacowd.log")
}

/// `SEACOW_DAEMON`, else the program beside ours, else the one on the PATH.
pub(crate) fn find_daemon() -> Result<PathBuf, StartError> {
    if let Some(path) = std::env::var_os("SEACOW_DAEMON") {
        return Ok(PathBuf::from(path));
    }
    let own = std::env::current_exe().unwrap_or_default();
    let beside = own.with_file_name(DAEMON);
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::iter::once(beside)
        .chain(std::env::split_paths(&path).map(|dir| dir.join(DAEMON)))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| StartError::NoProgram(own.display().to_string()))
}

/// Our own program leaves the session (`setsid` needs a process that leads no group, and there is
/// no safe way to run it between fork and exec) and then becomes the daemon.
fn spawn(program: &Path, log: &Path) -> Result<Child, StartError> {
    let logging = |source| StartError::Log { path: log.to_owned(), source };
    if let Some(dir) = log.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(dir).map_err(logging)?;
    }
    let file =
        std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(log).map_err(logging)?;
    let errors = file.try_clone().map_err(logging)?;
    let own = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe"));
    Command::new(own)
        .arg(DETACH)
        .arg(program)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(errors)
        .spawn()
        .map_err(|source| StartError::Spawn { program: program.to_owned(), source })
}

/// The hidden command by which [`spawn`] calls its own program.
pub(crate) const DETACH: &str = "__detach";

/// Leaves the session and becomes `argv`. Returns only if that failed.
pub(crate) fn detach(argv: &[String]) -> io::Error {
    let Some((program, args)) = argv.split_first() else { return io::ErrorKind::InvalidInput.into() };
    if let Err(e) = rustix::process::setsid() {
        return e.into();
    }
    Command::new(program).args(args).exec()
}

fn wait_until_listening(mut child: Child, socket: &Path, log: &Path) -> Result<(), StartError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if UnixStream::connect(socket).is_ok() {
            return Ok(());
        }
        if let Ok(Some(status)) = child.try_wait() {
            // Another client may have been faster; then its daemon holds the socket.
            if UnixStream::connect(socket).is_ok() {
                return Ok(());
            }
            return Err(StartError::Ended { status, log: log.to_owned(), tail: tail(log) });
        }
        if Instant::now() > deadline {
            let (socket, log) = (socket.to_owned(), log.to_owned());
            return Err(StartError::Silent { socket, tail: tail(&log), log });
        }
        std::thread::sleep(PAUSE);
    }
}

/// The last lines of the log.
fn tail(log: &Path) -> String {
    let read = || -> io::Result<String> {
        let mut file = std::fs::File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(10).collect();
    lines.into_iter().rev().map(|l| format!("  {l}\n")).collect::<String>().trim_end().to_owned()
}
