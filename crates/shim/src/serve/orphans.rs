//! Children that nobody told us of: what another runtime makes becomes ours when the command that
//! made it ends, and so do processes of a container in the host's pid namespace.

use rustix::event::epoll::EventFlags;
use seacow_sys::process::try_wait_any;
use seacow_sys::signal::SignalFd;

use super::Member;
use crate::poll::{Token, Watched};

const SIGCHLD: i32 = 17;

impl Member {
    /// From now on children are reaped whoever they are. Without it (no descriptors left) they are
    /// reaped when the shim ends.
    pub(super) fn adopt_orphans(&mut self) {
        let Ok(signals) = SignalFd::new(&[SIGCHLD]) else { return };
        let mut watch = Watched::new(signals, Token::Children);
        if watch.arm(&self.poll, Some(EventFlags::IN)).is_ok() {
            self.children = Some(watch);
        }
    }

    /// Some children have ended.
    pub(super) fn on_children(&mut self) {
        if let Some(children) = &self.children {
            while let Ok(Some(_)) = children.get().next_signal() {}
        }
        while let Ok(Some((pid, ended))) = try_wait_any() {
            // An ended process keeps its place until its clients are gone, and its pid may be
            // somebody else's by then.
            let known = self.processes.iter().find(|process| process.pid == pid && process.is_alive());
            match known.map(|process| process.id) {
                Some(id) => self.on_end(id, ended.code()),
                None => self.on_command_end(pid, ended),
            }
        }
    }
}
