//! Passing other firewalls by the door each of them documents, once per daemon start.
//!
//! | who | door | undone by |
//! |---|---|---|
//! | Docker (iptables) | accept rules at the top of DOCKER-USER | deleting the same rules |
//! | ufw | `ufw route allow in on BRIDGE` | `ufw route delete allow in on BRIDGE` |
//! | firewalld | bridge joins the zone `trusted` (running configuration only) | leaving it |
//!
//! What was opened is returned to be stored; what stood open already is not ours to close. The
//! programs run in the caller's network namespace, each at most [`PATIENCE`].

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use seacow_spec::error::{Classified, ErrorClass};
use serde::{Deserialize, Serialize};

use crate::diagnose::{Owner, legacy_tables};
use crate::nft::{self, Family};

/// How long a firewall's program may take; D-Bus alone waits 25 s for a dead firewalld.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How much of a program's output is read.
const MAX_OUTPUT: u64 = 4 << 20;

/// A door that was opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "door", rename_all = "kebab-case")]
pub enum Door {
    /// Rules in Docker's DOCKER-USER chain.
    DockerUser {
        /// The iptables that has the chain.
        program: PathBuf,
        /// Our bridge.
        bridge: String,
    },
    /// A route rule of ufw.
    Ufw {
        /// ufw.
        program: PathBuf,
        /// Our bridge.
        bridge: String,
    },
    /// Membership in firewalld's trusted zone.
    Firewalld {
        /// firewall-cmd.
        program: PathBuf,
        /// Our bridge.
        bridge: String,
    },
}

/// A firewall's program did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// It could not be run.
    #[error("run {command}")]
    Run {
        /// The whole command.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// It failed.
    #[error("{command}: {status}: {text}")]
    Failed {
        /// The whole command.
        command: String,
        /// Its exit status.
        status: ExitStatus,
        /// The first line it wrote.
        text: String,
    },
    /// It did not end.
    #[error("{command}: no answer within {PATIENCE:?}")]
    Hung {
        /// The whole command.
        command: String,
    },
}

impl Classified for DoorError {
    fn class(&self) -> ErrorClass {
        ErrorClass::Unavailable
    }
}

/// What [`pass_doors`] did.
#[derive(Debug, Default)]
pub struct Passed {
    /// Opened now: store these and undo them when the bridge goes.
    pub opened: Vec<Door>,
    /// Open before.
    pub standing: Vec<Door>,
    /// What did not work.
    pub failed: Vec<DoorError>,
}

/// Where firewalls' programs are looked for.
#[derive(Clone, Debug)]
pub struct Tools {
    dirs: Vec<PathBuf>,
}

impl Default for Tools {
    /// The system's directories, not the user's PATH: these run as root.
    fn default() -> Self {
        Self::in_dirs(["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"])
    }
}

/// A program with its full path.
#[derive(Clone, Debug)]
pub(crate) struct Program(PathBuf);

/// What a program that succeeded wrote.
pub(crate) struct Output {
    pub(crate) stdout: String,
}

impl Tools {
    /// Looks in these directories only.
    pub fn in_dirs<P: Into<PathBuf>>(dirs: impl IntoIterator<Item = P>) -> Self {
        Self { dirs: dirs.into_iter().map(Into::into).collect() }
    }

    fn find(&self, name: &str) -> Option<Program> {
        self.dirs.iter().map(|d| d.join(name)).find(|p| p.is_file()).map(Program)
    }

    /// `special`, or plain `iptables` when its version says that it is this variant.
    fn iptables(&self, special: &str, variant: &str) -> Option<Program> {
        self.find(special).or_else(|| {
            let plain = self.find("iptables")?;
            plain.run(&["-V"]).ok()?.stdout.contains(variant).then_some(plain)
        })
    }

    pub(crate) fn iptables_legacy(&self) -> Option<Program> {
        self.iptables("iptables-legacy", "(legacy)")
    }

    /// The iptables programs whose rule sets have a DOCKER-USER chain. The kernel is asked first:
    /// merely running iptables-legacy would create its tables.
    fn docker_user(&self) -> Vec<Program> {
        let in_nft = nft::chains().is_ok_and(|chains| {
            chains.iter().any(|c| c.family == Family::Ip && c.table == "filter" && c.name == "DOCKER-USER")
        });
        let nft = in_nft.then(|| self.iptables("iptables-nft", "(nf_tables)")).flatten();
        let legacy = legacy_filter_in_use().then(|| self.iptables_legacy()).flatten();
        let has_chain = |p: &Program| p.run(&["-w", "5", "-S", "DOCKER-USER"]).is_ok();
        nft.into_iter().chain(legacy.filter(has_chain)).collect()
    }

    fn ufw_active(&self) -> Option<Program> {
        let ufw = self.find("ufw")?;
        ufw.run(&["status"]).ok()?.stdout.lines().any(|l| l.trim() == "Status: active").then_some(ufw)
    }

    fn firewalld_running(&self) -> Option<Program> {
        let program = self.find("firewall-cmd")?;
        program.run(&["--state"]).is_ok().then_some(program)
    }

    /// The doors that this host has.
    fn doors(&self, bridge: &str) -> Vec<Door> {
        [Owner::Docker, Owner::Ufw, Owner::Firewalld].iter().flat_map(|o| self.doors_of(*o, bridge)).collect()
    }

    /// Those of one owner. Each question runs programs, which take their time.
    fn doors_of(&self, owner: Owner, bridge: &str) -> Vec<Door> {
        let bridge = || bridge.to_owned();
        match owner {
            Owner::Docker => {
                let door = |p: Program| Door::DockerUser { program: p.0, bridge: bridge() };
                self.docker_user().into_iter().map(door).collect()
            }
            Owner::Ufw => {
                let door = |p: Program| Door::Ufw { program: p.0, bridge: bridge() };
                self.ufw_active().map(door).into_iter().collect()
            }
            Owner::Firewalld => {
                let door = |p: Program| Door::Firewalld { program: p.0, bridge: bridge() };
                self.firewalld_running().map(door).into_iter().collect()
            }
            Owner::DockerNft | Owner::Iptables | Owner::Nftables => Vec::new(),
        }
    }

    /// Whether this owner's door is open for the bridge.
    pub(crate) fn door_is_open(&self, owner: Owner, bridge: &str) -> bool {
        self.doors_of(owner, bridge).iter().any(|door| door.is_open().unwrap_or(false))
    }
}

/// Opens every door that this host has. Never part of a container's start: each program takes
/// milliseconds to seconds.
///
/// `note` is told which doors will be opened before any of them is: whoever is killed in between
/// has them stored as doors to be closed, which an unopened one is without an error.
///
/// # Errors
/// That of `note`; nothing was opened.
pub fn pass_doors<E>(
    bridge: &str,
    tools: &Tools,
    note: impl FnOnce(&[Door]) -> Result<(), E>,
) -> Result<Passed, E> {
    let mut passed = Passed::default();
    let mut shut = Vec::new();
    for door in tools.doors(bridge) {
        match door.is_open() {
            Ok(true) => passed.standing.push(door),
            Ok(false) => shut.push(door),
            Err(error) => passed.failed.push(error),
        }
    }
    note(&shut)?;
    for door in shut {
        match door.open() {
            Ok(()) => passed.opened.push(door),
            Err(error) => passed.failed.push(error),
        }
    }
    Ok(passed)
}

/// Closes doors; goes on after a failure.
pub fn close_doors(doors: &[Door]) -> Vec<DoorError> {
    doors.iter().filter_map(|d| d.close().err()).collect()
}

/// One rule of iptables: what comes behind the chain's name.
fn docker_rules(bridge: &str) -> [Vec<&str>; 2] {
    let comment = ["-m", "comment", "--comment", "seacow", "-j", "ACCEPT"];
    let out = ["-o", bridge, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED,DNAT"];
    [[&["-i", bridge][..], &comment].concat(), [&out[..], &comment].concat()]
}

fn iptables(program: &Path, action: &str, rule: &[&str]) -> Result<Output, DoorError> {
    Program(program.to_path_buf()).run(&[&["-w", "5", action, "DOCKER-USER"], rule].concat())
}

impl Door {
    /// Whether it stands open.
    pub fn is_open(&self) -> Result<bool, DoorError> {
        match self {
            Self::DockerUser { program, bridge } => {
                for rule in docker_rules(bridge) {
                    match iptables(program, "-C", &rule) {
                        Ok(_) => {}
                        Err(DoorError::Failed { .. }) => return Ok(false),
                        Err(error) => return Err(error),
                    }
                }
                Ok(true)
            }
            Self::Ufw { program, bridge } => {
                // `show added` prints the rules as they would be typed.
                let added = Program(program.clone()).run(&["show", "added"])?.stdout;
                let rule = format!("ufw route allow in on {bridge}");
                Ok(added.lines().any(|l| l.trim() == rule))
            }
            Self::Firewalld { program, bridge } => {
                let query = format!("--query-interface={bridge}");
                match Program(program.clone()).run(&["--zone=trusted", &query]) {
                    Ok(_) => Ok(true),
                    Err(DoorError::Failed { status, .. }) if status.code() == Some(1) => Ok(false),
                    Err(error) => Err(error),
                }
            }
        }
    }

    fn open(&self) -> Result<(), DoorError> {
        match self {
            Self::DockerUser { program, bridge } => {
                for rule in docker_rules(bridge) {
                    if iptables(program, "-C", &rule).is_err() {
                        iptables(program, "-I", &rule)?;
                    }
                }
                Ok(())
            }
            Self::Ufw { program, bridge } => {
                Program(program.clone()).run(&["route", "allow", "in", "on", bridge]).map(drop)
            }
            Self::Firewalld { program, bridge } => {
                let add = format!("--add-interface={bridge}");
                Program(program.clone()).run(&["--zone=trusted", &add]).map(drop)
            }
        }
    }

    /// Closes it again. One that is closed already is no error.
    pub fn close(&self) -> Result<(), DoorError> {
        match self {
            Self::DockerUser { program, bridge } => {
                for rule in docker_rules(bridge) {
                    if iptables(program, "-C", &rule).is_ok() {
                        iptables(program, "-D", &rule)?;
                    }
                }
                Ok(())
            }
            Self::Ufw { .. } | Self::Firewalld { .. } if !self.is_open()? => Ok(()),
            Self::Ufw { program, bridge } => {
                Program(program.clone()).run(&["route", "delete", "allow", "in", "on", bridge]).map(drop)
            }
            Self::Firewalld { program, bridge } => {
                let remove = format!("--remove-interface={bridge}");
                Program(program.clone()).run(&["--zone=trusted", &remove]).map(drop)
            }
        }
    }
}

/// Whether the old iptables has a filter table in this namespace.
pub(crate) fn legacy_filter_in_use() -> bool {
    legacy_tables().lines().any(|l| l == "filter")
}

impl Program {
    /// Runs it to the end and fails unless it succeeds.
    pub(crate) fn run(&self, arguments: &[&str]) -> Result<Output, DoorError> {
        let command = || format!("{} {}", self.0.display(), arguments.join(" "));
        let failed = |source| DoorError::Run { command: command(), source };
        let mut child = Command::new(&self.0)
            .args(arguments)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let stdout = collect(child.stdout.take().map(|s| File::from(std::os::fd::OwnedFd::from(s))));
        let stderr = collect(child.stderr.take().map(|s| File::from(std::os::fd::OwnedFd::from(s))));
        let Some(status) = wait(&mut child).map_err(failed)? else {
            return Err(DoorError::Hung { command: command() });
        };
        let (stdout, stderr) = (stdout.join().unwrap_or_default(), stderr.join().unwrap_or_default());
        if status.success() {
            return Ok(Output { stdout });
        }
        let text = stderr.lines().chain(stdout.lines()).find(|l| !l.trim().is_empty()).unwrap_or_default();
        Err(DoorError::Failed { command: command(), status, text: text.to_owned() })
    }
}

/// Reads in a thread of its own, so that a program with much to say never waits for us.
fn collect(pipe: Option<File>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is all there is.
        let _ = pipe.map(|p| p.take(MAX_OUTPUT).read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// The exit status, or `None` when it had to be killed.
fn wait(child: &mut Child) -> io::Result<Option<ExitStatus>> {
    const STEP: Duration = Duration::from_millis(2);
    let begin = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if begin.elapsed() >= PATIENCE {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(STEP);
    }
}
