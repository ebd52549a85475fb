//! What the daemon is told: flags, the configuration file, and both as one.
//!
//! A setting is given in one place. As dockerd does, the daemon refuses to start when flags and file
//! both say something about the same one; unknown keys of the file are refused by name and position.

mod file;
mod flags;
mod runtimes;
mod settings;

pub(crate) use flags::{Action, Flags, Storage};
pub(crate) use settings::{Settings, SettingsError, store_file_size};
