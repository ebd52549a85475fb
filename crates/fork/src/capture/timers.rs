//! POSIX timers (timer_create).

use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::memory::Memory;
use crate::procfs::{self, hex};
use crate::source::Source;

/// One timer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Timer {
    pub(crate) id: u64,
    /// As timer_create takes it, sign extended.
    pub(crate) clock: i64,
    pub(crate) signal: u32,
    /// What the signal carries.
    pub(crate) value: u64,
    /// SIGEV_* bits.
    pub(crate) notify: u32,
    /// Whom it is for with SIGEV_THREAD_ID, as the source's pid namespace sees it.
    pub(crate) thread: i32,
    /// Interval and time left, as timer_settime takes it.
    pub(crate) setting: [u64; 4],
}

/// Reads the list that the kernel gives.
pub(super) fn listed(pid: i32, source: &Source) -> Result<Vec<Timer>> {
    let text = procfs::read(pid, "timers")?;
    let inner =
        |tid: i32| source.threads.iter().find(|thread| thread.tid == tid).map(|thread| thread.inner_tid);
    parse(&text, inner).ok_or_else(|| Error::proc(pid, "timers"))
}

fn parse(text: &str, inner: impl Fn(i32) -> Option<i32>) -> Option<Vec<Timer>> {
    const SIGEV_NONE: u32 = 1;
    const SIGEV_THREAD: u32 = 2;
    const SIGEV_THREAD_ID: u32 = 4;
    let mut timers: Vec<Timer> = Vec::new();
    for line in text.lines() {
        let (key, value) = line.split_once(": ")?;
        if key == "ID" {
            timers.push(Timer { id: value.trim().parse().ok()?, ..Timer::default() });
            continue;
        }
        let timer = timers.last_mut()?;
        match key {
            "signal" => {
                let (signal, carried) = value.split_once('/')?;
                (timer.signal, timer.value) = (signal.trim().parse().ok()?, hex(carried.trim())?);
            }
            "notify" => {
                let (how, whom) = value.split_once('/')?;
                timer.notify = match how {
                    "signal" => 0,
                    "none" => SIGEV_NONE,
                    _ => SIGEV_THREAD,
                };
                if let Some(tid) = whom.strip_prefix("tid.") {
                    timer.notify |= SIGEV_THREAD_ID;
                    timer.thread = inner(tid.trim().parse().ok()?)?;
                }
            }
            "ClockID" => timer.clock = value.trim().parse().ok()?,
            _ => {}
        }
    }
    Some(timers)
}

/// Asks each for the time left; `place` has 32 bytes for each.
pub(super) fn ask(batch: &mut Batch, timers: &[Timer], place: u64) {
    for (index, timer) in timers.iter().enumerate() {
        batch.call("timer", libc::SYS_timer_gettime, &[timer.id, place + 32 * index as u64]);
    }
}

pub(super) fn answered(memory: &Memory, place: u64, timers: &mut [Timer]) -> Result<()> {
    for (index, timer) in timers.iter_mut().enumerate() {
        for (word, value) in timer.setting.iter_mut().enumerate() {
            *value = memory.read_word(place + (32 * index + 8 * word) as u64)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_list_is_read() {
        let text = "ID: 3\nsignal: 34/00007f00000010a0\nnotify: signal/tid.4711\nClockID: 1\n\
                    ID: 7\nsignal: 14/0000000000000007\nnotify: signal/pid.4700\nClockID: 0\n";
        let timers = parse(text, |tid| (tid == 4711).then_some(2)).unwrap();
        assert_eq!((timers[0].id, timers[0].signal, timers[0].value), (3, 34, 0x7f00_0000_10a0));
        assert_eq!((timers[0].notify, timers[0].thread, timers[0].clock), (4, 2, 1));
        assert_eq!((timers[1].id, timers[1].notify, timers[1].thread), (7, 0, 0));
        assert_eq!(parse("", |_| None), Some(Vec::new()));
        assert_eq!(parse("signal: 1/2\n", |_| None), None);
    }
}
