//! The slots that wait for a `create`.
//!
//! They are made when nobody waits: after [`PAUSE`] without a create or start, one at a time, and
//! never while one is under way (an immediate refill slowed starts from 3.7 to 4.4 ms in the lab).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use seacow_spec::shim::Program;
use seacow_spec::{Digest, ErrorReport};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::guess::{Guess, Likeness};
use super::{Slot, make};
use crate::blocking::lock;
use crate::config::PoolSizes;
use crate::container::spec_build::Template;
use crate::{Config, Engine};

/// Quiet time before a slot is made.
const PAUSE: Duration = Duration::from_millis(15);
/// Time before another attempt after one failed, doubled each time up to [`RETRY_MAX`].
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// How many slots are made into containers, and for how many likenesses at most: two for one, or one
/// each for two, so that whoever alternates does not have them made for nothing.
const GUESSES: usize = 2;
/// How many likenesses are remembered, to know which of them come again.
const MEMORY: usize = 8;

/// The slots that wait for a `create`.
pub(crate) struct Pool {
    kinds: Vec<Kind>,
    /// Creates and starts under way.
    busy: AtomicUsize,
    /// When the last of them ended.
    last: Mutex<Instant>,
    changed: Notify,
    closed: AtomicBool,
    /// Held while a slot is made and put, so that closing can wait for it.
    making: tokio::sync::Mutex<()>,
    /// What containers were like lately, the last one first, and whether that was not the first time.
    lately: Mutex<VecDeque<(Arc<Likeness>, bool)>>,
    /// Slots that are containers already.
    guesses: Mutex<Vec<Slot>>,
}

struct Kind {
    template: Template,
    size: usize,
    slots: Mutex<VecDeque<Slot>>,
}

/// While it lives, no slot is made.
pub(crate) struct Busy(Arc<Pool>);

impl Drop for Busy {
    fn drop(&mut self) {
        *lock(&self.0.last) = Instant::now();
        if self.0.busy.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.changed.notify_one();
        }
    }
}

impl Pool {
    pub(crate) fn new(config: &Config) -> Arc<Self> {
        let kind = |bridged, size| Kind {
            template: Template::common(config, bridged),
            size,
            slots: Mutex::new(VecDeque::with_capacity(size)),
        };
        // Another runtime's containers have nothing that could be prepared for them.
        let sizes = if config.runtimes.is_ours_default() { config.pool } else { PoolSizes::OFF };
        Arc::new(Self {
            kinds: vec![kind(true, sizes.bridge), kind(false, sizes.none)],
            busy: AtomicUsize::new(0),
            last: Mutex::new(Instant::now()),
            changed: Notify::new(),
            closed: AtomicBool::new(false),
            making: tokio::sync::Mutex::new(()),
            lately: Mutex::default(),
            guesses: Mutex::default(),
        })
    }

    /// Keeps the pool from making slots while what it gives lives.
    pub(crate) fn busy(self: &Arc<Self>) -> Busy {
        self.busy.fetch_add(1, Ordering::AcqRel);
        Busy(Arc::clone(self))
    }

    /// A slot for a container of that kind, if one is there and alive.
    pub(crate) fn take(&self, template: &Template, engine: &Engine) -> Option<Slot> {
        let kind = self.kind(template)?;
        loop {
            let slot = lock(&kind.slots).pop_front()?;
            if !slot.shim.is_lost() {
                return Some(slot);
            }
            take_back_lost(slot, engine);
        }
    }

    /// A slot that is the container already which `fits` knows, with what that executes.
    pub(crate) fn take_guessed(
        &self,
        engine: &Engine,
        mut fits: impl FnMut(&Slot, &Guess) -> Option<Program>,
    ) -> Option<(Slot, Program)> {
        let mut guesses = lock(&self.guesses);
        let mut at = 0;
        while let Some(slot) = guesses.get(at) {
            if slot.shim.is_lost() {
                take_back_lost(guesses.swap_remove(at), engine);
                continue;
            }
            if let Some(program) = slot.guess.as_ref().and_then(|guess| fits(slot, guess)) {
                return Some((guesses.swap_remove(at), program));
            }
            at += 1;
        }
        None
    }

    /// Expects more containers like this one.
    pub(crate) fn expect(&self, like: Arc<Likeness>) {
        let mut lately = lock(&self.lately);
        let is_known = |(known, _): &(Arc<Likeness>, bool)| Arc::ptr_eq(known, &like) || known.is_like(&like);
        let known = lately.iter().position(is_known).and_then(|at| lately.remove(at));
        lately.push_front(known.map_or((like, false), |(known, _)| (known, true)));
        lately.truncate(MEMORY);
        // Who made the container is still busy; the end of that wakes the maker.
    }

    /// Expects no more containers of an image, or of any, and lets go of those that were made.
    /// When this returns, no slot uses a layer of it.
    pub(crate) async fn forget(&self, image: Option<&Digest>, engine: &Engine) {
        let affected = |like: &Likeness| image.is_none_or(|image| like.is_of(image));
        lock(&self.lately).retain(|(like, _)| !affected(like));
        let _making = self.making.lock().await;
        let affected = |slot: &mut Slot| slot.guess.as_ref().is_some_and(|guess| affected(guess.likeness()));
        let slots: Vec<Slot> = lock(&self.guesses).extract_if(.., affected).collect();
        destroy_all(slots, engine).await;
    }

    fn kind(&self, template: &Template) -> Option<&Kind> {
        self.kinds.iter().find(|kind| kind.template == *template)
    }

    /// How many slots wait.
    pub(crate) fn len(&self) -> usize {
        self.kinds.iter().map(|kind| lock(&kind.slots).len()).sum()
    }

    /// How many there would be at most.
    pub(crate) fn capacity(&self) -> usize {
        self.kinds.iter().map(|kind| kind.size).sum()
    }

    /// How many slots are containers already that are expected.
    pub(crate) fn guesses(&self) -> usize {
        let expected = self.expected();
        let each = GUESSES / expected.len().max(1);
        let guesses = lock(&self.guesses);
        let like = |like| guesses.iter().filter(|slot| slot.is_like(like)).count().min(each);
        expected.iter().map(like).sum()
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// The kind that lacks a slot.
    fn wanting(&self) -> Option<&Kind> {
        self.kinds.iter().find(|kind| lock(&kind.slots).len() < kind.size)
    }

    /// What is expected: the last again, and the last other one that came more than once.
    fn expected(&self) -> Vec<Arc<Likeness>> {
        let lately = lock(&self.lately);
        let other = lately.iter().skip(1).find(|(_, again)| *again);
        lately.front().into_iter().chain(other).map(|(like, _)| Arc::clone(like)).collect()
    }

    /// What is expected and not made, if there is a slot to make it of.
    fn lacking(&self) -> Option<(Arc<Likeness>, &Kind)> {
        let likely = self.expected();
        let guesses = lock(&self.guesses);
        let each = GUESSES / likely.len().max(1);
        likely.iter().find_map(|like| {
            let kind = self.kind(&like.template).filter(|kind| !lock(&kind.slots).is_empty())?;
            let made = guesses.iter().filter(|slot| slot.is_like(like)).count();
            (made < each).then(|| (Arc::clone(like), kind))
        })
    }

    /// A guess that is not expected any more.
    fn take_stale(&self) -> Option<Slot> {
        let likely = self.expected();
        let mut guesses = lock(&self.guesses);
        let each = GUESSES / likely.len().max(1);
        let stale = (0..guesses.len()).find(|at| {
            let (before, rest) = guesses.split_at(*at);
            let Some(like) = likely.iter().find(|like| rest.first().is_some_and(|slot| slot.is_like(like)))
            else {
                return true;
            };
            before.iter().filter(|slot| slot.is_like(like)).count() >= each
        });
        stale.map(|at| guesses.swap_remove(at))
    }

    /// Whether nobody has created or started anything for [`PAUSE`]; otherwise how long to wait.
    fn rest(&self) -> Option<Duration> {
        if self.busy.load(Ordering::Acquire) > 0 {
            return Some(PAUSE);
        }
        let quiet = lock(&self.last).elapsed();
        (quiet < PAUSE).then(|| PAUSE - quiet)
    }

    /// Makes slots for as long as the engine lives.
    pub(crate) async fn fill(self: Arc<Self>, engine: Weak<crate::Inner>) {
        let mut retry = RETRY;
        while !self.is_closed() {
            if let Some(rest) = self.rest() {
                tokio::time::sleep(rest).await;
                continue;
            }
            let Some(upgraded) = engine.upgrade().map(Engine) else { return };
            match self.make_one(&upgraded).await {
                Some(true) => retry = RETRY,
                Some(false) => {
                    drop(upgraded);
                    tokio::time::sleep(retry).await;
                    retry = (retry * 2).min(RETRY_MAX);
                }
                None => {
                    drop(upgraded);
                    self.changed.notified().await;
                }
            }
        }
    }

    /// Does one piece of work: whether it went well, `None` if there is none.
    async fn make_one(&self, engine: &Engine) -> Option<bool> {
        let making = self.making.lock().await;
        if let Some(kind) = self.wanting() {
            return Some(match make(engine, kind.template.clone()).await {
                Ok(slot) => {
                    self.put(kind, slot, engine).await;
                    true
                }
                Err(error) => {
                    drop(making);
                    tracing::warn!(error = %ErrorReport::of(&error), "prepare a container");
                    false
                }
            });
        }
        if let Some(slot) = self.take_stale() {
            slot.destroy(engine).await;
            return Some(true);
        }
        let (like, kind) = self.lacking()?;
        let slot = self.take(&kind.template, engine)?;
        self.guess(slot, &like, engine).await;
        Some(true)
    }

    /// Makes a slot into a container.
    async fn guess(&self, mut slot: Slot, like: &Arc<Likeness>, engine: &Engine) {
        let made = slot.guess(like, engine).await;
        if let Err(error) = &made {
            // Whoever asks for such a container hears why; nobody did yet.
            tracing::debug!(error = %ErrorReport::of(error), "make a container ahead");
            lock(&self.lately).retain(|(known, _)| !Arc::ptr_eq(known, like));
        }
        let unwanted = {
            let expected = self.expected().iter().any(|known| Arc::ptr_eq(known, like));
            let mut guesses = lock(&self.guesses);
            if made.is_ok() && expected && !self.is_closed() {
                guesses.push(slot);
                None
            } else {
                Some(slot)
            }
        };
        if let Some(slot) = unwanted {
            slot.destroy(engine).await;
        }
    }

    async fn put(&self, kind: &Kind, slot: Slot, engine: &Engine) {
        let unwanted = {
            let mut slots = lock(&kind.slots);
            if self.is_closed() {
                Some(slot)
            } else {
                slots.push_back(slot);
                None
            }
        };
        if let Some(slot) = unwanted {
            slot.destroy(engine).await;
        }
    }

    /// Makes no more slots and removes those that wait.
    pub(crate) async fn close(&self, engine: &Engine) {
        self.closed.store(true, Ordering::Release);
        self.changed.notify_one();
        drop(self.making.lock().await);
        let mut slots: Vec<Slot> =
            self.kinds.iter().flat_map(|kind| std::mem::take(&mut *lock(&kind.slots))).collect();
        slots.append(&mut lock(&self.guesses));
        destroy_all(slots, engine).await;
    }
}

impl Slot {
    fn is_like(&self, like: &Arc<Likeness>) -> bool {
        self.guess.as_ref().is_some_and(|guess| Arc::ptr_eq(guess.likeness(), like))
    }
}

/// Clears away what a slot left whose shim has ended.
fn take_back_lost(slot: Slot, engine: &Engine) {
    let engine = engine.clone();
    tokio::spawn(async move {
        engine.clean_up_lost(&slot.id).await;
        slot.take_back(&engine).await;
    });
}

async fn destroy_all(slots: Vec<Slot>, engine: &Engine) {
    futures_util::future::join_all(slots.into_iter().map(|slot| slot.destroy(engine))).await;
}
