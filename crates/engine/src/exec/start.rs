//! `POST /exec/{id}/start`: attached through the client's own socket, or detached.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use seacow_spec::docker::exec::ExecStart;
use seacow_spec::oci::runtime::ConsoleSize;
use seacow_spec::shim::{Attach, Exec as ShimExec, Request, Stdio, Target};

use tokio::sync::watch;

use super::{Exec, ExecError, NOT_STARTED, Phase};
use crate::Engine;
use crate::container::attach::ClientSocket;
use crate::container::spec_build::{capability_sets, environment, override_env, process_base};
use crate::container::{Container, ContainerError, Life, capabilities};
use crate::error::EngineError;
use crate::shim::ShimError;

/// How long after a failed exec the container's own end may still be on its way.
const END_GRACE: Duration = Duration::from_millis(250);

/// An exec that was claimed by a client and waits for its socket. Dropping it gives it back.
pub struct PendingExec {
    engine: Engine,
    container: Arc<Container>,
    exec: Arc<Exec>,
    start: ExecStart,
    finished: bool,
}

impl Drop for PendingExec {
    fn drop(&mut self) {
        if !self.finished {
            self.exec.phase.send_replace(Phase::Created);
        }
    }
}

impl Engine {
    /// Claims an exec for a client whose socket comes next.
    ///
    /// # Errors
    /// There is no such exec, it was started already, or its container does not run.
    pub fn exec_start(&self, id: &str, start: ExecStart) -> Result<PendingExec, EngineError> {
        let exec = self.0.execs.find(id)?;
        let container = self.0.containers.find(exec.container.as_str())?;
        container.live_shim()?;
        if container.cell().is_paused_for_good() {
            return Err(ContainerError::Paused(container.id.to_string(), "exec").into());
        }
        claim(&exec)?;
        Ok(PendingExec { engine: self.clone(), container, exec, start, finished: false })
    }
}

fn claim(exec: &Exec) -> Result<(), ExecError> {
    let mut found = Phase::Created;
    exec.phase.send_if_modified(|phase| {
        found = *phase;
        let free = *phase == Phase::Created;
        if free {
            *phase = Phase::Starting;
        }
        free
    });
    match found {
        Phase::Created => Ok(()),
        Phase::Starting | Phase::Running { .. } => Err(ExecError::Running(exec.id.to_string())),
        Phase::Ended { .. } => Err(ExecError::Ended(exec.id.to_string())),
    }
}

impl PendingExec {
    /// Whether the stream will be a terminal's raw bytes instead of frames.
    pub fn tty(&self) -> bool {
        self.exec.config.tty
    }

    /// Whether the exec is to run without a client. Then [`PendingExec::detached`] is what follows.
    pub fn is_detached(&self) -> bool {
        self.start.detach
    }

    /// Runs the program with the client as its streams. Returns once it runs; what keeps it from
    /// running is written to the client, as dockerd does after its 101.
    ///
    /// # Errors
    /// The shim is gone.
    pub async fn finish(self, socket: ClientSocket) -> Result<(), EngineError> {
        let ClientSocket { fd, initial } = socket;
        let engine = self.engine.clone();
        // Client or no client, a process that was started is noted.
        engine.finish("start an exec", self.attached(fd, initial)).await
    }

    async fn attached(mut self, fd: OwnedFd, initial: Vec<u8>) -> Result<(), EngineError> {
        let config = &self.exec.config;
        let attach = Attach {
            target: Target::Exec(self.exec.id.clone()),
            stdin: config.attach_stdin,
            stdout: config.attach_stdout,
            stderr: config.attach_stderr,
            detach_keys: self.exec.keys.clone(),
            initial_stdin: initial,
        };
        // For the message of a program that does not start.
        let reply = fd.try_clone().ok();
        match self.run(Some((attach, fd))).await {
            Ok(()) => Ok(()),
            Err(EngineError::Exec(error)) => {
                if let Some(reply) = reply {
                    tell(reply, &format!("{error}\r\n"), self.tty());
                }
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Runs the program without a client. Returns once it runs.
    ///
    /// # Errors
    /// The program cannot be executed, or the shim is gone.
    pub async fn detached(mut self) -> Result<(), EngineError> {
        let engine = self.engine.clone();
        engine.finish("start an exec", async move { self.run(None).await }).await
    }

    async fn run(&mut self, client: Option<(Attach, OwnedFd)>) -> Result<(), EngineError> {
        // A shim that starts a process in a frozen container waits for it, and hears nothing else.
        let _moving = self.container.still.clone().read_owned().await;
        let (attach, descriptor) = client.unzip();
        let request = self.request(attach)?;
        let life = self.container.watch();
        let before = life.borrow().ended;
        let shim = self.container.live_shim()?;
        let action = format!("exec_start: {}", self.exec.command());
        self.engine.emit(self.container.event(&action, &[("execID", self.exec.id.to_string())]));
        let started = match shim.send(Request::Exec(Box::new(request)), descriptor) {
            Ok(pending) => pending.started().await,
            Err(error) => Err(error),
        };
        self.finished = true;
        match started {
            Ok((pid, _)) => {
                self.exec.phase.send_modify(|phase| {
                    *phase = match *phase {
                        // Its end was reported before its start.
                        Phase::Ended { code, at, .. } => Phase::Ended { pid, code, at },
                        Phase::Created | Phase::Starting | Phase::Running { .. } => Phase::Running { pid },
                    };
                });
                Ok(())
            }
            Err(error) => {
                self.exec.phase.send_replace(Phase::Ended { pid: 0, code: NOT_STARTED, at: Instant::now() });
                match error {
                    // The program itself is at fault.
                    ShimError::Refused(report) if matches!(report.exit_code, Some(126 | 127)) => {
                        Err(ExecError::Failed(report).into())
                    }
                    _ if ends_now(life, before).await => {
                        Err(ContainerError::NotRunning(self.container.id.to_string()).into())
                    }
                    ShimError::Refused(report) => Err(ExecError::Failed(report).into()),
                    other => Err(other.into()),
                }
            }
        }
    }

    fn request(&self, attach: Option<Attach>) -> Result<ShimExec, EngineError> {
        let config = &self.exec.config;
        let record = self.container.record();
        let (mut process, security) = process_base(&record, self.engine.config())?;
        process.args = config.cmd.clone().unwrap_or_default();
        process.env = environment(&record, config.tty);
        override_env(&mut process.env, config.env.as_deref().unwrap_or_default());
        if !config.working_dir.is_empty() {
            process.cwd.clone_from(&config.working_dir);
        }
        if config.privileged {
            process.capabilities = Some(capability_sets(capabilities::all()));
        }
        let [rows, cols] = self.start.console_size.or(config.console_size).unwrap_or_default();
        process.terminal = config.tty;
        process.console_size = (config.tty && rows != 0).then_some(ConsoleSize { height: rows, width: cols });
        let own_user = !config.user.is_empty();
        Ok(ShimExec {
            exec_id: self.exec.id.clone(),
            process,
            user: if own_user { config.user.clone() } else { record.config.user.clone() },
            extra_groups: record.host_config.group_add.clone().unwrap_or_default(),
            seccomp: security.seccomp,
            stdio: Stdio {
                terminal: config.tty,
                rows,
                cols,
                open_stdin: config.attach_stdin,
                stdin_once: true,
            },
            attach,
        })
    }
}

/// Whether the container has ended, or is about to: then it is no wonder that nothing can be run in
/// it, and its end will be reported in a moment.
/// `life` was watched since before.
async fn ends_now(mut life: watch::Receiver<Life>, before: u64) -> bool {
    let ended = life.wait_for(|life| life.ended > before || !life.is_running());
    tokio::time::timeout(END_GRACE, ended).await.is_ok()
}

/// Writes a message to a client in its framing. A client that does not take it has gone.
fn tell(socket: OwnedFd, message: &str, tty: bool) {
    let mut bytes = Vec::with_capacity(message.len() + 8);
    if !tty {
        let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&[1, 0, 0, 0]);
        bytes.extend_from_slice(&length.to_be_bytes());
    }
    bytes.extend_from_slice(message.as_bytes());
    // The socket has just been made; its buffer is empty.
    let mut stream = std::os::unix::net::UnixStream::from(socket);
    let _ = stream.write_all(&bytes);
    let _ = stream.shutdown(std::net::Shutdown::Both);
}
