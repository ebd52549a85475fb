//! The frozen process that clones are forked from.

pub(crate) mod inherit;
mod refresh;
mod space;
pub(crate) mod spawn;

use std::ops::Range;
use std::time::Instant;

use crate::batch::Batch;
use crate::capture::State;
use crate::error::{Error, Result};
use crate::procfs::Mapping;
use crate::puppet::Puppet;
use crate::shadow::Copied;
use crate::snapshot::Snapshot;

pub(crate) use refresh::{Changes, Frames};
pub(crate) use space::{Flags, dense_blocks, is_own};

/// Descriptors that a template has while it is worked on; its clones get them too, and close them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Channel {
    /// A pidfd of ours: by it they fetch what we have opened.
    pub(crate) us: i32,
    /// `/proc`.
    pub(crate) proc: i32,
    /// Two numbers for passing use.
    pub(crate) spare: [i32; 2],
}

impl Channel {
    /// Above all descriptors of the source, so that none is in the way; right above, because the
    /// kernel's table is as long as its highest number.
    fn above(state: &State) -> Self {
        let highest = state.files.files.iter().map(|file| file.number).max().unwrap_or(2);
        let first = highest.max(2) + 1;
        Self { us: first, proc: first + 1, spare: [first + 2, first + 3] }
    }

    fn highest(self) -> u64 {
        self.spare[1] as u64
    }
}

/// A copy of the source's memory in a process of our own, with all that a fork inherits.
#[derive(Debug)]
pub(crate) struct Template {
    pub(crate) puppet: Puppet,
    pub(crate) channel: Channel,
    /// Where a `syscall` instruction is.
    pub(crate) instruction: u64,
    pub(crate) not_forked: Vec<Range<u64>>,
    pub(crate) flags: Vec<(Mapping, Flags)>,
    /// All capabilities that it has, and clones until they get their own.
    pub(crate) capabilities: u64,
    /// Bytes that were copied for it.
    pub(crate) copied: u64,
}

/// Builds it anew from a snapshot.
pub(crate) fn build(state: &State, snapshot: &Snapshot, deadline: Instant) -> Result<Template> {
    let channel = Channel::above(state);
    let (mut puppet, capabilities) = spawn::spawn(state, channel, deadline)?;
    let flags = space::flags(snapshot.puppet.pid, &state.mappings)?;
    let instruction = spawn::empty(&mut puppet, state, deadline)?;
    let copied = space::fill(&puppet, state, &flags, snapshot.puppet.pid, channel, deadline)?;
    inherit::memory_layout(&puppet, state, channel, deadline)?;
    inherit::once(&puppet, state, 0, deadline)?;
    inherit::always(&puppet, state, deadline)?;
    let not_forked = snapshot.not_forked.clone();
    Ok(Template { puppet, channel, instruction, not_forked, flags, capabilities, copied })
}

/// Makes one of a fork of the shadow: the memory is there already.
pub(crate) fn of_copy(mut copied: Copied, state: &State, deadline: Instant) -> Result<Template> {
    let channel = Channel::above(state);
    let capabilities = spawn::take_over(&mut copied, channel, deadline)?;
    let Copied { puppet, not_forked, filters, .. } = copied;
    let instruction = spawn::instruction(&puppet)?;
    inherit::once(&puppet, state, filters, deadline)?;
    inherit::always(&puppet, state, deadline)?;
    Ok(Template { puppet, channel, instruction, not_forked, flags: Vec::new(), capabilities, copied: 0 })
}

/// Builds it from an earlier one of the same source, by copying only what is different: `before` and
/// `now` are the snapshots that both stand on. `None` when the earlier one is of no use.
pub(crate) fn rebuild(
    earlier: &Template,
    (before, old): (&Snapshot, &State),
    (now, state): (&Snapshot, &State),
    deadline: Instant,
) -> Result<Option<Template>> {
    if !inherit::is_compatible(old, state) || Channel::above(state).us != earlier.channel.us {
        return Ok(None);
    }
    let flags = space::flags(now.puppet.pid, &state.mappings)?;
    let Some(different) = refresh::compare(earlier, before, now, &flags)? else { return Ok(None) };
    let puppet = refresh::duplicate(earlier, deadline)?;
    let copied = refresh::copy(&puppet, &flags, now.puppet.pid, earlier.channel, &different, deadline)?;
    inherit::always(&puppet, state, deadline)?;
    Ok(Some(Template {
        puppet,
        channel: earlier.channel,
        instruction: earlier.instruction,
        not_forked: now.not_forked.clone(),
        flags,
        capabilities: earlier.capabilities,
        copied,
    }))
}

/// Whether one for this state can be made of an earlier one for another by putting in what has changed.
pub(crate) fn can_renew(earlier: &Template, old: &State, state: &State) -> bool {
    inherit::is_compatible(old, state)
        && Channel::above(state).us == earlier.channel.us
        && state.mappings == old.mappings
}

/// Does it.
pub(crate) fn renew(
    earlier: &Template,
    state: &State,
    changes: &Changes,
    deadline: Instant,
) -> Result<Template> {
    let puppet = refresh::duplicate(earlier, deadline)?;
    let copied = changes.put_into(&puppet)?;
    let flags = match space::flags(state.pid, &state.mappings) {
        // The source runs by now, and may have ended.
        Err(Error::Proc { .. }) => earlier.flags.clone(),
        flags => flags?,
    };
    let not_forked = space::advise_anew(&puppet, &earlier.flags, &flags, deadline)?;
    inherit::always(&puppet, state, deadline)?;
    Ok(Template {
        puppet,
        channel: earlier.channel,
        instruction: earlier.instruction,
        not_forked,
        flags,
        capabilities: earlier.capabilities,
        copied,
    })
}

/// Runs what has gathered and begins a new list, when so much more would not fit.
pub(crate) fn spill(
    puppet: &Puppet,
    batch: &mut Batch,
    calls: usize,
    bytes: usize,
    deadline: Instant,
) -> Result<()> {
    if batch.is_full(calls, bytes) {
        puppet.run(batch, deadline)?;
        *batch = Batch::new(puppet.area);
    }
    Ok(())
}
