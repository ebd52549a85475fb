//! What builds found out and need not find out again: hashes of files that cannot have changed.

use std::collections::HashMap;
use std::sync::Mutex;

use crate::blocking::lock;

/// Entries; each has some hundred bytes. When they are full all are forgotten: they cost only time.
const MOST: usize = 1 << 14;

/// Keys and values, for the daemon's life.
#[derive(Debug, Default)]
pub(crate) struct Memory(Mutex<HashMap<String, String>>);

impl Memory {
    pub(super) fn recall(&self, key: &str) -> Option<String> {
        lock(&self.0).get(key).cloned()
    }

    pub(super) fn remember(&self, key: String, value: String) {
        let mut known = lock(&self.0);
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(key, value);
    }
}
