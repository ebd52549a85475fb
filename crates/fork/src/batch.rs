//! A list of system calls to be made by another process in one stop.

use seacow_sys::Errno;
use seacow_sys::stub::Entry;

use crate::error::{Error, Result};
use crate::memory::Memory;

/// Where in a process's memory code, entries and operands lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Area {
    /// The code of [`seacow_sys::stub::list`].
    pub(crate) base: u64,
    /// Bytes from there to the operands; entries begin at [`ENTRIES`].
    operands: u64,
    /// Bytes from there to the end.
    pub(crate) size: u64,
}

const ENTRIES: u64 = 0x1000;

impl Area {
    /// Of a source: small, for a few dozen calls.
    pub(crate) const fn small(base: u64) -> Self {
        Self { base, operands: 0x8000, size: 0x1_0000 }
    }

    /// Of a process that is built up by calls.
    pub(crate) const fn large(base: u64) -> Self {
        Self { base, operands: 0x4_0000, size: 0x10_0000 }
    }

    pub(crate) fn entries(self) -> u64 {
        self.base + ENTRIES
    }

    fn max_entries(self) -> usize {
        // One is kept for the end that a source needs.
        (self.operands - ENTRIES) as usize / Entry::SIZE - 1
    }

    pub(crate) fn range(self) -> std::ops::Range<u64> {
        self.base..self.base + self.size
    }
}

#[derive(Clone, Copy, Debug)]
struct Call {
    step: &'static str,
    entry: Entry,
    required: bool,
}

/// The list, as it is being written.
#[derive(Debug)]
pub(crate) struct Batch {
    area: Area,
    calls: Vec<Call>,
    operands: Vec<u8>,
}

/// Answers of a list that was worked off.
#[derive(Debug)]
pub(crate) struct Answers {
    values: Vec<i64>,
    /// Tasks that were made on the way, in order.
    pub(crate) children: Vec<i32>,
}

impl Answers {
    /// The answer of the n-th call, a negated errno on failure.
    pub(crate) fn get(&self, index: usize) -> i64 {
        self.values.get(index).copied().unwrap_or(-i64::from(libc::ENOSYS))
    }
}

impl Batch {
    pub(crate) fn new(area: Area) -> Self {
        Self { area, calls: Vec::new(), operands: Vec::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Whether so many more calls, with so many bytes of operands, would not fit any more.
    pub(crate) fn is_full(&self, calls: usize, bytes: usize) -> bool {
        self.calls.len() + calls > self.area.max_entries()
            || self.operands.len() + bytes > (self.area.size - self.area.operands) as usize
    }

    /// Puts an operand into the other's memory; gives its address there.
    pub(crate) fn data(&mut self, bytes: &[u8]) -> u64 {
        let at = self.operands.len().next_multiple_of(16);
        self.operands.resize(at, 0);
        self.operands.extend_from_slice(bytes);
        self.area.base + self.area.operands + at as u64
    }

    /// A C string; what follows a NUL is lost.
    pub(crate) fn text(&mut self, text: impl AsRef<[u8]>) -> u64 {
        let mut bytes = text.as_ref().to_vec();
        bytes.push(0);
        self.data(&bytes)
    }

    pub(crate) fn words(&mut self, words: &[u64]) -> u64 {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.data(&bytes)
    }

    /// Room for an answer.
    pub(crate) fn room(&mut self, size: usize) -> u64 {
        self.data(&vec![0; size])
    }

    /// A call that must succeed. Gives its place in the answers.
    pub(crate) fn call(&mut self, step: &'static str, number: i64, arguments: &[u64]) -> usize {
        self.push(step, number, arguments, true)
    }

    /// A call that may fail.
    pub(crate) fn attempt(&mut self, step: &'static str, number: i64, arguments: &[u64]) -> usize {
        self.push(step, number, arguments, false)
    }

    /// A call that makes a process, which ends at once unless it is traced.
    pub(crate) fn fork(&mut self, step: &'static str, number: i64, arguments: &[u64]) -> usize {
        let index = self.push(step, number, arguments, true);
        if let Some(call) = self.calls.last_mut() {
            call.entry.fork = 0;
        }
        index
    }

    fn push(&mut self, step: &'static str, number: i64, arguments: &[u64], required: bool) -> usize {
        let mut all = [0; 6];
        for (place, argument) in all.iter_mut().zip(arguments) {
            *place = *argument;
        }
        let entry = Entry { number: number as u64, arguments: all, result: 0, fork: Entry::NO_FORK };
        self.calls.push(Call { step, entry, required });
        self.calls.len() - 1
    }

    pub(crate) fn len(&self) -> usize {
        self.calls.len()
    }

    /// Writes the list into the process.
    pub(crate) fn install(&self, memory: &Memory) -> Result<()> {
        let first = self.calls.first().map_or("an empty list", |call| call.step);
        if self.calls.len() > self.area.max_entries() + 1 || self.is_full(0, 0) && !self.calls.is_empty() {
            return Err(Error::TooMany { what: first });
        }
        let entries: Vec<u8> = self.calls.iter().flat_map(|call| call.entry.to_bytes()).collect();
        memory.write(self.area.entries(), &entries)?;
        if self.operands.is_empty() {
            return Ok(());
        }
        memory.write(self.area.base + self.area.operands, &self.operands)
    }

    /// Reads the answers; the first failure of a call that must succeed is the error.
    pub(crate) fn answers(&self, memory: &Memory, tid: i32, children: Vec<i32>) -> Result<Answers> {
        let bytes = memory.read(self.area.entries(), self.calls.len() * Entry::SIZE)?;
        let results = bytes.chunks_exact(Entry::SIZE).filter_map(Entry::result_in);
        let values: Vec<i64> = results.collect();
        for (call, value) in self.calls.iter().zip(&values) {
            if let (true, Some(source)) = (call.required, failure(*value)) {
                return Err(Error::Call { step: call.step, tid, source });
            }
        }
        Ok(Answers { values, children })
    }

    /// What the list is for, in messages.
    pub(crate) fn step(&self) -> &'static str {
        self.calls.first().map_or("nothing", |call| call.step)
    }
}

/// The errno in a raw answer.
pub(crate) fn failure(value: i64) -> Option<Errno> {
    (-4095..0).contains(&value).then(|| Errno::from_raw_os_error(-value as i32))
}
