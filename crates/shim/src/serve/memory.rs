//! The OOM killer: noticed when it strikes, asked about at the end.

use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use seacow_runtime::cgroup::{OomNews, OomWatch};
use seacow_spec::shim::Event;

use super::Member;
use crate::poll::{Poll, Token, Watched};

/// When to look at the counter again after a notice without a count: version 1 gives notice before
/// it kills, and choosing a victim takes a moment. Version 2 withholds notices for 10 ms after one.
const LATER: [Duration; 3] =
    [Duration::from_millis(5), Duration::from_millis(50), Duration::from_millis(500)];
/// How long after a notice what is lost with the cgroup may have been a kill: from the limit to the
/// victim's end, on a busy machine.
const RECENT: Duration = Duration::from_secs(1);

/// The container's memory cgroup.
pub(super) struct Memory {
    watch: Watched<OomWatch>,
    struck: bool,
    /// When the limit was last known to be hit.
    pressed: Option<Instant>,
    /// The cgroup is no more, and nothing new will be known.
    gone: bool,
    again: Option<(Instant, usize)>,
}

impl Memory {
    fn new(watch: OomWatch, poll: &Poll) -> Option<Self> {
        let interest = EventFlags::from_bits_truncate(u32::from(watch.interest().bits()));
        let mut watch = Watched::new(watch, Token::OutOfMemory);
        // By edge: readiness is the kernel's notice then, and never the state of a removed file.
        watch.arm(poll, Some(interest | EventFlags::ET)).ok()?;
        Some(Self { watch, struck: false, pressed: None, gone: false, again: None })
    }

    /// Whether it struck again; `attempt` counts the looks since a notice.
    fn look(&mut self, now: Instant, attempt: usize) -> bool {
        self.again = None;
        if self.gone {
            return false;
        }
        let news = self.watch.get_mut().check().unwrap_or(OomNews::Nothing);
        let struck = match news {
            OomNews::Killed => true,
            OomNews::Gone { killed_nearby } => {
                self.gone = true;
                killed_nearby && !self.struck && self.pressed.is_some_and(|at| now < at + RECENT)
            }
            OomNews::Pressure => {
                self.pressed = Some(now);
                false
            }
            OomNews::Nothing => false,
        };
        self.struck |= struck;
        if !struck && !self.gone {
            self.again = LATER.get(attempt).map(|delay| (now + *delay, attempt + 1));
        }
        struck
    }

    /// When to look again.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.again.map(|(when, _)| when)
    }
}

impl Member {
    /// As soon as there is a cgroup: with our own runtime long before the start, with another one
    /// after it.
    pub(super) fn watch_memory(&mut self) {
        if self.memory.is_some() {
            return;
        }
        // Without a watch (no memory controller, no descriptors) the counter is read at the end.
        let watch = self.container.as_ref().and_then(|container| container.group().watch_memory());
        self.memory = watch.and_then(|watch| Memory::new(watch, &self.poll));
    }

    /// The kernel gave notice.
    pub(super) fn on_out_of_memory(&mut self, now: Instant) {
        let Some(memory) = &mut self.memory else { return };
        // Should the look find nothing any more, the notice itself is what is known.
        memory.pressed = Some(now);
        if memory.look(now, 0) {
            self.broadcast(&Event::OutOfMemory);
        }
    }

    /// Looks again when it is time to.
    pub(super) fn look_at_memory(&mut self, now: Instant) {
        let Some(memory) = &mut self.memory else { return };
        if let Some((when, attempt)) = memory.again
            && when <= now
            && memory.look(now, attempt)
        {
            self.broadcast(&Event::OutOfMemory);
        }
    }

    /// Whether it struck in the container's whole life, asked when init has ended and before
    /// anything else is done: systemd removes an empty scope at once.
    pub(super) fn memory_ran_out(&mut self, now: Instant) -> bool {
        match &mut self.memory {
            Some(memory) => {
                let news = memory.look(now, LATER.len());
                let struck = memory.struck;
                if news {
                    self.broadcast(&Event::OutOfMemory);
                }
                struck
            }
            None => self.container.as_ref().is_some_and(|container| container.group().oom_kills() > 0),
        }
    }

    pub(super) fn forget_memory(&mut self) {
        if let Some(memory) = self.memory.take() {
            drop(memory.watch.release(&self.poll));
        }
    }
}
