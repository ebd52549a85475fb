//! The user's terminal: raw mode, its size, signals.

mod raw;
mod signals;

pub(crate) use raw::{NoEcho, RawMode, die_of_broken_pipe, is_terminal, restore, size};
pub(crate) use signals::{Caught, catch, signal_name};
