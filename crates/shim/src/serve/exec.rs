//! From nothing to a running program: prepare, create, start, and exec.

use std::os::fd::OwnedFd;

use seacow_spec::lifecycle::{self, Exit, State};
use seacow_spec::shim::{Answer, Create, Exec, NetworkConfig, Prepare, Program, Target};
use seacow_spec::{ErrorReport, Timestamp};

use super::process::{Phase, Process};
use super::request::{Outcome, Refused, report, stream_socket};
use super::{INIT, Member, limit};
use crate::io::Io;
use crate::log::Log;
use crate::poll::PeerId;
use crate::runtime::Container;

/// Exit status of a start that failed before the program was even looked for, as Docker has it.
const START_FAILED: i32 = 128;

impl Member {
    /// Answers as soon as the namespaces exist, and goes on while the daemon works on the network.
    pub(super) fn prepare(&mut self, from: PeerId, seq: u64, prepare: &Prepare) -> Outcome {
        if self.container.is_some() {
            return Err(report(Refused::OutOfOrder("the container is prepared already")));
        }
        let (container, begun) = Container::prepare(prepare, &self.dir)?;
        if container.has_orphans() {
            self.adopt_orphans();
        }
        self.container = Some(container);
        let pid = begun.pid;
        if let Some(pidfd) = begun.init {
            self.processes.push(Process::new(INIT, Target::Init, pid, pidfd));
        }
        self.answer(from, seq, Answer::Prepared { pid });
        if let Some(container) = &mut self.container {
            // Whatever fails here fails again in `Create`, which can tell.
            let _ = container.settle(&self.dir);
        }
        // Before anybody waits for a start.
        self.watch_memory();
        Ok(None)
    }

    /// Has init raise its link.
    pub(super) fn connect_link(&mut self, link: &NetworkConfig) -> Outcome {
        let Self { container: Some(container), state: None, dir, .. } = self else {
            return Err(report(Refused::OutOfOrder("connect comes between prepare and create")));
        };
        match container.connect(link, dir) {
            Ok(()) => Ok(Some(Answer::Done)),
            Err(why) => {
                self.init_failed();
                Err(why)
            }
        }
    }

    pub(super) fn create(&mut self, create: &Create) -> Outcome {
        if self.state.is_some() {
            return Err(report(Refused::OutOfOrder("the container is created already")));
        }
        let Self { container: Some(container), dir, .. } = self else {
            return Err(report(Refused::OutOfOrder("create comes after prepare")));
        };
        let log = Log::open(&create.log).map_err(report)?;
        let (ends, made) = match container.create(create, dir) {
            Ok(created) => created,
            Err(why) => {
                self.init_failed();
                return Err(why);
            }
        };
        if let Some(init) = made {
            self.processes.push(Process::new(INIT, Target::Init, init.pid, init.pidfd));
        }
        let Some(init) = self.process_mut(INIT) else {
            return Err(report(Refused::NotRunning("the prepared container".to_owned())));
        };
        init.io = Some(Io::new(INIT, create.stdio, ends, log));
        let pid = init.pid;
        self.state = Some(State::Created { failure: None });
        Ok(Some(Answer::Created { pid }))
    }

    /// The container stays what it was made as; what it executes is another program.
    pub(super) fn recast(&mut self, program: &Program) -> Outcome {
        match (&self.container, &self.state) {
            (Some(container), Some(State::Created { failure: None })) => {
                container.recast(program).map(|()| Some(Answer::Done))
            }
            _ => Err(report(Refused::OutOfOrder("another program comes between create and start"))),
        }
    }

    /// One shim, one run: a container that ended is started again by a new shim.
    pub(super) fn start(&mut self) -> Outcome {
        self.state = Some(self.after(lifecycle::Event::Start).map_err(report)?);
        self.start_asked = true;
        let Some(container) = &mut self.container else {
            return Err(report(Refused::OutOfOrder("start comes after create")));
        };
        let outcome = container.start(&self.dir);
        let at = Timestamp::now();
        let entry = match outcome {
            Ok(entry) => entry,
            Err(why) => {
                self.start_failed(&why, at);
                return Err(why);
            }
        };
        let (entry, moved) = entry.unzip();
        if let Some(moved) = moved.flatten() {
            self.moved_at_start(moved);
        }
        let Some(init) = self.process_mut(INIT) else {
            return Err(report(Refused::NotRunning("the created container".to_owned())));
        };
        init.phase = Phase::Running;
        let pid = init.pid;
        self.state = Some(self.after(lifecycle::Event::Started { pid, at }).map_err(report)?);
        self.watch_memory();
        if let Some(entry) = entry {
            self.follow(entry);
        }
        Ok(Some(Answer::Started { pid, at }))
    }

    /// The program was not executed; init is gone. Clients see the end.
    fn start_failed(&mut self, why: &ErrorReport, at: Timestamp) {
        let code = why.exit_code.unwrap_or(START_FAILED);
        let exit = Exit { code, at, oom_killed: false, reason: Some(why.to_string()) };
        if let Ok(state) = self.after(lifecycle::Event::StartFailed(exit)) {
            self.state = Some(state);
        }
        self.init_failed();
    }

    /// The runtime has killed and reaped init, which did not become what it should.
    fn init_failed(&mut self) {
        let Self { processes, poll, .. } = self;
        if let Some(init) = processes.iter_mut().find(|process| process.id == INIT) {
            init.phase = Phase::Over;
            if let Some(io) = &mut init.io {
                io.finish(poll);
            }
        }
    }

    pub(super) fn exec(&mut self, exec: &Exec, descriptor: Option<OwnedFd>) -> Outcome {
        let target = Target::Exec(exec.exec_id.clone());
        match self.state {
            // It would be frozen half-way, and we wait for it.
            Some(State::Running { .. }) if self.freezing.is_some() => {
                return Err(report(Refused::OutOfOrder("the container is being paused")));
            }
            Some(State::Running { .. }) => {}
            Some(State::Paused { .. }) => return Err(report(Refused::OutOfOrder("the container is paused"))),
            _ => return Err(report(Refused::NotRunning("the container".to_owned()))),
        }
        let known = self.finished.iter().any(|known| known.exec_id == exec.exec_id);
        if known || self.target(&target).is_some() {
            return Err(report(Refused::ExecExists(exec.exec_id.to_string())));
        }
        let client = match &exec.attach {
            Some(attach) => Some((stream_socket(descriptor).map_err(report)?, attach)),
            None => None,
        };
        let id = self.new_process_id();
        let Some(container) = &mut self.container else {
            return Err(report(Refused::NotRunning("the container".to_owned())));
        };
        let limited = limit::as_ever(exec);
        let (made, ends) = container.exec(limited.as_ref().unwrap_or(exec))?;
        let at = Timestamp::now();
        let pid = made.pid;
        let mut process = Process::new(id, target, pid, made.pidfd);
        process.phase = Phase::Running;
        if let Some(ends) = ends {
            let mut io = Io::new(id, exec.stdio, ends, None);
            if let Some((socket, attach)) = client {
                io.attach(socket, attach, &mut self.buffer).map_err(report)?;
            }
            process.io = Some(io);
        }
        self.processes.push(process);
        Ok(Some(Answer::Started { pid, at }))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // The process ends with this value; what is left of the socket would only mislead. After a
        // deletion it is gone, and one of that name is our successor's.
        if self.deleted_at.is_none() {
            let _ = self.dir.remove_socket();
        }
    }
}
