//! The OOM killer: noticed when it strikes, asked about at the end.

use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use seacow_runtime::cgroup::OomWatch;
use seacow_spec::shim::Event;

use super::Shim;
use crate::poll::{Poll, Token, Watched};

/// When to look at the counter again after a notice without a count: version 1 gives notice before
/// it kills, and choosing a victim takes a moment.
const LATER: [Duration; 3] =
    [Duration::from_millis(5), Duration::from_millis(50), Duration::from_millis(500)];

/// The container's memory cgroup.
pub(super) struct Memory {
    watch: Watched<OomWatch>,
    struck: bool,
    again: Option<(Instant, usize)>,
}

impl Memory {
    fn new(watch: OomWatch, poll: &Poll) -> Option<Self> {
        let mut watch = Watched::new(watch, Token::OutOfMemory);
        watch.arm(poll, Some(EventFlags::IN)).ok()?;
        Some(Self { watch, struck: false, again: None })
    }

    /// Whether it struck again; `attempt` counts the looks since a notice.
    fn look(&mut self, now: Instant, attempt: usize) -> bool {
        let news = self.watch.get_mut().check().unwrap_or(false);
        self.struck |= news;
        let next = if news { None } else { LATER.get(attempt) };
        self.again = next.map(|delay| (now + *delay, attempt + 1));
        news
    }

    /// Whether it ever struck.
    pub(super) fn struck(&self) -> bool {
        self.struck
    }

    /// When to look again.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.again.map(|(when, _)| when)
    }
}

impl Shim {
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
        if self.memory.as_mut().is_some_and(|memory| memory.look(now, 0)) {
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

    /// Whether it struck in the container's whole life.
    pub(super) fn memory_ran_out(&mut self) -> bool {
        match &mut self.memory {
            Some(memory) => {
                if memory.look(Instant::now(), LATER.len()) {
                    self.broadcast(&Event::OutOfMemory);
                }
                self.memory.as_ref().is_some_and(Memory::struck)
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
