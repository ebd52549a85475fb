//! Requests: what each one does, or why it cannot.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::SocketType;
use rustix::net::sockopt::socket_type;
use seacow_spec::lifecycle::{self, State};
use seacow_spec::shim::{Answer, Attach, PROTOCOL_VERSION, Request, Target};
use seacow_spec::{Classified, ErrorClass, ErrorReport};

use super::Member;
use super::calls::Then;
use super::freeze::PATIENCE as FREEZE_PATIENCE;
use crate::poll::PeerId;
use crate::runtime::Container;

const SIGKILL: i32 = 9;

/// A request that was refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    /// Another request came before its turn.
    #[error("{0}")]
    OutOfOrder(&'static str),
    /// The lifecycle forbids it.
    #[error(transparent)]
    Lifecycle(#[from] lifecycle::IllegalTransition),
    /// It would hold what is to die.
    #[error("the container is being killed")]
    Killed,
    /// Some process is stuck in the kernel.
    #[error("the container was not paused: its processes did not freeze within {}s", FREEZE_PATIENCE.as_secs())]
    NotFrozen,
    /// The process ended or was never there.
    #[error("{0} is not running")]
    NotRunning(String),
    /// No such exec is known.
    #[error("No such exec instance: {0}")]
    NoSuchExec(String),
    /// The same exec id twice.
    #[error("exec {0} exists already")]
    ExecExists(String),
    /// The frame should have brought a descriptor.
    #[error("no stream socket came with the request")]
    NoDescriptor,
    /// The client cannot be attached.
    #[error(transparent)]
    Attach(#[from] crate::io::AttachError),
    /// The log cannot be opened.
    #[error(transparent)]
    Log(#[from] crate::log::OpenError),
    /// A file of the exec directory cannot be written.
    #[error(transparent)]
    Dir(#[from] crate::dir::DirError),
    /// A kernel call failed.
    #[error("{step}: {errno}")]
    Kernel {
        /// What was tried.
        step: &'static str,
        /// Why it failed.
        errno: Errno,
    },
    /// The daemon is older than the shim.
    #[error("the shim speaks protocol {PROTOCOL_VERSION}, the daemon {0}: upgrade the daemon")]
    Version(u32),
}

impl Classified for Refused {
    fn class(&self) -> ErrorClass {
        match self {
            Self::OutOfOrder(_)
            | Self::Lifecycle(_)
            | Self::Killed
            | Self::NotRunning(_)
            | Self::ExecExists(_)
            | Self::Attach(_) => ErrorClass::Conflict,
            Self::NoSuchExec(_) => ErrorClass::NotFound,
            Self::NoDescriptor => ErrorClass::InvalidArgument,
            Self::Log(_) | Self::Dir(_) | Self::Kernel { .. } => ErrorClass::Internal,
            Self::NotFrozen | Self::Version(_) => ErrorClass::Unavailable,
        }
    }
}

/// A request's outcome: an answer now, one later, or a refusal.
pub(super) type Outcome = Result<Option<Answer>, ErrorReport>;

/// Whether a descriptor comes with it.
pub(super) fn takes_descriptor(request: &Request) -> bool {
    match request {
        Request::Attach(_) | Request::Fork { .. } | Request::Sibling { .. } => true,
        Request::Clone(order) => order.has_network(),
        Request::Exec(exec) => exec.attach.is_some(),
        Request::Hello { .. }
        | Request::Prepare(_)
        | Request::Connect(_)
        | Request::Create(_)
        | Request::Program(_)
        | Request::Start
        | Request::Signal { .. }
        | Request::Resize { .. }
        | Request::CloseStdin { .. }
        | Request::Pause
        | Request::Resume
        | Request::Update { .. }
        | Request::Status
        | Request::Pids
        | Request::Examine
        | Request::Retire
        | Request::Delete => false,
    }
}

/// The report of a refusal.
pub(super) fn report(error: impl Into<Refused>) -> ErrorReport {
    ErrorReport::of(&error.into())
}

impl Member {
    pub(super) fn hello(&mut self, id: PeerId, version: u32) -> Answer {
        let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) else {
            return Answer::Done;
        };
        if version < PROTOCOL_VERSION {
            connection.leaving = true;
            return Answer::Failed(report(Refused::Version(version)));
        }
        connection.greeted = true;
        Answer::Hello {
            version: PROTOCOL_VERSION,
            shim_pid: seacow_sys::process::own_pid(),
            status: Box::new(self.status()),
        }
    }

    /// Whoever does not greet first is not understood.
    pub(super) fn stranger(&mut self, id: PeerId) -> Answer {
        if let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) {
            connection.leaving = true;
        }
        Answer::Failed(report(Refused::OutOfOrder("the first request of a connection is hello")))
    }

    /// Does what is asked; `None` when the answer comes later.
    pub(super) fn handle(
        &mut self,
        from: PeerId,
        seq: u64,
        request: Request,
        descriptor: Option<OwnedFd>,
    ) -> Option<Answer> {
        let outcome = match request {
            Request::Hello { version } => Ok(Some(self.hello(from, version))),
            Request::Status => Ok(Some(Answer::Status(Box::new(self.status())))),
            Request::Delete => {
                self.begin_deletion(Some((from, seq)));
                Ok(None)
            }
            _ if self.deletion.is_some() || self.deleted_at.is_some() => {
                Err(report(Refused::OutOfOrder("the container is being removed")))
            }
            Request::Prepare(prepare) => self.prepare(from, seq, &prepare),
            Request::Connect(link) => self.connect_link(&link),
            Request::Create(create) => self.create(&create),
            Request::Program(program) => self.recast(&program),
            Request::Start => self.start(),
            Request::Attach(attach) => self.attach(descriptor, &attach),
            Request::Exec(exec) => self.exec(&exec, descriptor),
            Request::Signal { target, signal, all } => self.signal((from, seq), &target, signal, all),
            Request::Resize { target, rows, cols } => self.resize(&target, rows, cols),
            Request::CloseStdin { target } => self.close_stdin(&target),
            Request::Pause => self.pause(from, seq),
            Request::Resume => self.resume((from, seq)),
            Request::Update { resources } => self.update((from, seq), &resources),
            Request::Pids => self.pids(),
            Request::Examine => self.examine(),
            Request::Fork { pause_at_most } => self.fork(pause_at_most, descriptor),
            Request::Sibling { dir } => self.sibling(&dir, descriptor),
            Request::Clone(order) => self.clone_origin(&order, descriptor),
            Request::Retire => self.retire(),
        };
        outcome.unwrap_or_else(|report| Some(Answer::Failed(report)))
    }

    fn attach(&mut self, descriptor: Option<OwnedFd>, attach: &Attach) -> Outcome {
        let socket = stream_socket(descriptor).map_err(report)?;
        let Self { processes, buffer, finished, state, .. } = self;
        let Some(process) = processes.iter_mut().find(|process| process.target == attach.target) else {
            return Err(report(match &attach.target {
                Target::Init if state.is_none() => {
                    Refused::OutOfOrder("there is no container yet to attach to")
                }
                Target::Exec(id) if !finished.iter().any(|exec| exec.exec_id == *id) => {
                    Refused::NoSuchExec(id.to_string())
                }
                Target::Init | Target::Exec(_) => Refused::NotRunning(name(&attach.target)),
            }));
        };
        let Some(io) = &mut process.io else { return Err(report(crate::io::AttachError::NoStreams)) };
        let log_offset = io.attach(socket, attach, buffer).map_err(report)?;
        Ok(Some(Answer::Attached { log_offset }))
    }

    fn signal(&mut self, asker: (PeerId, u64), target: &Target, signal: i32, all: bool) -> Outcome {
        let by_runtime = |container: &Container| container.signal(signal);
        let process = self.living(target).map_err(report)?;
        let of_init = process.target == Target::Init;
        let kills = signal == SIGKILL && (of_init || all);
        if kills {
            // Another runtime may not have both verbs at work at a time.
            self.end_freezing(Refused::Killed);
        }
        if let Some(call) = self.container.as_ref().filter(|_| of_init).and_then(by_runtime) {
            let call = call?;
            // From now on: it may die before the command has ended.
            self.killed |= kills;
            return self.await_call(call, asker, Then::Signalled { signal, all, kills });
        }
        self.signal_process(target, signal)?;
        self.after_signal(signal, all, kills).map(|()| Some(Answer::Done))
    }

    /// What follows when the target has been sent its signal.
    pub(super) fn after_signal(&mut self, signal: i32, all: bool, kills: bool) -> Result<(), ErrorReport> {
        if let Some(container) = self.container.as_ref().filter(|_| all) {
            container.group().signal_all(signal)?;
        }
        if kills { self.let_die() } else { Ok(()) }
    }

    fn signal_process(&mut self, target: &Target, signal: i32) -> Result<(), ErrorReport> {
        match self.living(target).map_err(report)?.signal(signal) {
            Ok(()) => Ok(()),
            Err(Errno::SRCH) => Err(report(Refused::NotRunning(name(target)))),
            Err(errno) => Err(report(Refused::Kernel { step: "send a signal", errno })),
        }
    }

    fn resize(&mut self, target: &Target, rows: u16, cols: u16) -> Outcome {
        let process = self.living(target).map_err(report)?;
        if let Some(io) = &process.io {
            io.resize(rows, cols)
                .map_err(|errno| report(Refused::Kernel { step: "set the terminal's size", errno }))?;
        }
        Ok(Some(Answer::Done))
    }

    fn close_stdin(&mut self, target: &Target) -> Outcome {
        let process = self.living(target).map_err(report)?;
        if let Some(io) = &mut process.io {
            io.close_stdin();
        }
        Ok(Some(Answer::Done))
    }

    fn update(
        &mut self,
        asker: (PeerId, u64),
        resources: &seacow_spec::oci::runtime::LinuxResources,
    ) -> Outcome {
        if self.is_calling(Then::Nothing) {
            return Err(report(Refused::OutOfOrder("the container is being updated already")));
        }
        match &mut self.container {
            Some(container) => match container.update(resources)? {
                Some(call) => self.await_call(call, asker, Then::Nothing),
                None => Ok(Some(Answer::Done)),
            },
            None => Err(report(Refused::OutOfOrder("there is no container yet"))),
        }
    }

    fn pids(&self) -> Outcome {
        match &self.container {
            Some(container) => {
                let mut pids = container.group().pids()?;
                let ours = self.kept_pids();
                pids.retain(|pid| !ours.contains(pid));
                Ok(Some(Answer::Pids(pids)))
            }
            None => Ok(Some(Answer::Pids(Vec::new()))),
        }
    }

    /// The state that follows on `event`.
    pub(super) fn after(&self, event: lifecycle::Event) -> Result<State, Refused> {
        match &self.state {
            Some(state) => Ok(lifecycle::apply(state.clone(), event)?),
            None => Err(Refused::OutOfOrder("there is no container yet")),
        }
    }

    /// The target, if it runs.
    fn living(&mut self, target: &Target) -> Result<&mut super::process::Process, Refused> {
        let known = match target {
            Target::Init => true,
            Target::Exec(id) => self.finished.iter().any(|exec| exec.exec_id == *id),
        };
        match self.target(target) {
            Some(process) if process.is_alive() => Ok(process),
            None if !known => Err(Refused::NoSuchExec(name(target))),
            Some(_) | None => Err(Refused::NotRunning(name(target))),
        }
    }
}

fn name(target: &Target) -> String {
    match target {
        Target::Init => "the container".to_owned(),
        Target::Exec(id) => format!("exec {id}"),
    }
}

/// What came along to be attached. Only sockets can be told not to block call by call.
pub(super) fn stream_socket(descriptor: Option<OwnedFd>) -> Result<OwnedFd, Refused> {
    descriptor
        .filter(|fd| socket_type(fd).is_ok_and(|kind| kind == SocketType::STREAM))
        .ok_or(Refused::NoDescriptor)
}
