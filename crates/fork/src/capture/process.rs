//! State that the whole process has.

use super::Action;
use super::timers::{self, Timer};
use crate::batch::{Answers, Batch, failure};
use crate::error::{Error, Result};
use crate::procfs::{self, Fields};
use crate::source::Source;

/// A process-wide setting that has one call to read it and one to write it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    get: i32,
    /// The value is written to an address; else it is the answer.
    by_address: bool,
    pub(crate) set: i32,
    /// What a new process has: needs not be set.
    pub(crate) usual: u64,
}

const fn setting(name: &'static str, get: i32, by_address: bool, set: i32, usual: u64) -> Setting {
    Setting { name, get, by_address, set, usual }
}

/// By prctl. One that this kernel does not have is none.
pub(crate) const SETTINGS: [Setting; 6] = [
    setting("signal at the parent's end", libc::PR_GET_PDEATHSIG, true, libc::PR_SET_PDEATHSIG, 0),
    setting("adopting orphans", libc::PR_GET_CHILD_SUBREAPER, true, libc::PR_SET_CHILD_SUBREAPER, 0),
    setting("transparent huge pages", libc::PR_GET_THP_DISABLE, false, libc::PR_SET_THP_DISABLE, 0),
    setting("secure bits", libc::PR_GET_SECUREBITS, false, libc::PR_SET_SECUREBITS, 0),
    setting("refusing new executable memory", 66, false, 65, 0),
    // Last: changed by changing credentials.
    setting("dumpable", libc::PR_GET_DUMPABLE, false, libc::PR_SET_DUMPABLE, u64::MAX),
];

/// Where the answers will be.
#[derive(Debug)]
pub(crate) struct Asked {
    brk: usize,
    caught: u64,
    ignored: u64,
    actions: u64,
    interval_timers: u64,
    timers: u64,
    settings: Vec<(usize, u64)>,
}

/// The answers.
#[derive(Debug)]
pub(crate) struct Inside {
    pub(crate) brk: u64,
    pub(crate) actions: Vec<Action>,
    pub(crate) interval_timers: [[u8; 32]; 3],
    pub(crate) settings: Vec<Option<u64>>,
}

const SIGNALS: i32 = 64;
/// `struct sigaction` of the kernel, with its set of signals.
const ACTION: u64 = 32;

/// Writes the calls that only the process itself can make.
pub(crate) fn ask(batch: &mut Batch, status: &Fields, timers: &[Timer]) -> Result<Asked> {
    let (caught, ignored) = (status.hex("SigCgt")?, status.hex("SigIgn")?);
    let brk = batch.call("end of the heap", libc::SYS_brk, &[0]);
    let actions = batch.room(SIGNALS as usize * ACTION as usize);
    for signal in (1..=SIGNALS).filter(|signal| caught >> (signal - 1) & 1 == 1) {
        let place = actions + ACTION * (signal - 1) as u64;
        batch.call("signal handler", libc::SYS_rt_sigaction, &[signal as u64, 0, place, 8]);
    }
    let interval_timers = batch.room(3 * 32);
    for which in 0..3 {
        batch.call("interval timer", libc::SYS_getitimer, &[which, interval_timers + 32 * which]);
    }
    let place = batch.room(timers.len() * 32);
    timers::ask(batch, timers, place);
    let settings = SETTINGS
        .iter()
        .map(|setting| {
            let value = batch.room(8);
            let argument = if setting.by_address { value } else { 0 };
            let call = batch.attempt(setting.name, libc::SYS_prctl, &[setting.get as u64, argument, 0, 0, 0]);
            (call, value)
        })
        .collect();
    Ok(Asked { brk, caught, ignored, actions, interval_timers, timers: place, settings })
}

/// Reads the answers.
pub(crate) fn answered(
    source: &Source,
    asked: &Asked,
    answers: &Answers,
    timers: &mut [Timer],
) -> Result<Inside> {
    let memory = &source.memory;
    let mut actions = Vec::new();
    for signal in 1..=SIGNALS {
        let bit = |set: u64| set >> (signal - 1) & 1 == 1;
        let mut action: Action = [0; 32];
        if bit(asked.caught) {
            let bytes = memory.read(asked.actions + ACTION * (signal - 1) as u64, action.len())?;
            action.copy_from_slice(&bytes);
        } else if bit(asked.ignored) {
            // SIG_IGN.
            action[0] = 1;
        }
        actions.push(action);
    }
    let mut interval_timers = [[0; 32]; 3];
    for (which, timer) in interval_timers.iter_mut().enumerate() {
        timer.copy_from_slice(&memory.read(asked.interval_timers + 32 * which as u64, 32)?);
    }
    timers::answered(memory, asked.timers, timers)?;
    let mut settings = Vec::new();
    for (setting, (call, place)) in SETTINGS.iter().zip(&asked.settings) {
        let answer = answers.get(*call);
        settings.push(match failure(answer) {
            Some(_) => None,
            // An int.
            None if setting.by_address => Some(memory.read_word(*place)? & 0xffff_ffff),
            None => Some(answer as u64),
        });
    }
    Ok(Inside { brk: answers.get(asked.brk) as u64, actions, interval_timers, settings })
}

/// User, groups, capabilities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// Real, effective, saved, file system.
    pub(crate) user: [u32; 4],
    pub(crate) group: [u32; 4],
    pub(crate) groups: Vec<u32>,
    pub(crate) inheritable: u64,
    pub(crate) permitted: u64,
    pub(crate) effective: u64,
    pub(crate) bounding: u64,
    pub(crate) ambient: u64,
    pub(crate) no_new_privileges: bool,
}

impl Credentials {
    pub(crate) fn read(status: &Fields) -> Result<Self> {
        let four = |key: &str| -> Result<[u32; 4]> {
            let list: Vec<u32> = status.list(key)?;
            list.try_into().map_err(|_| Error::Astray {
                tid: 0,
                what: key.to_owned(),
                step: "reading credentials",
            })
        };
        Ok(Self {
            user: four("Uid")?,
            group: four("Gid")?,
            groups: status.list("Groups")?,
            inheritable: status.hex("CapInh")?,
            permitted: status.hex("CapPrm")?,
            effective: status.hex("CapEff")?,
            bounding: status.hex("CapBnd")?,
            ambient: status.hex("CapAmb")?,
            no_new_privileges: status.get("NoNewPrivs")? == "1",
        })
    }
}

/// What the kernel keeps about the memory besides mappings (`struct prctl_mm_map`).
#[derive(Clone, Debug)]
pub(crate) struct MemoryLayout {
    /// start_code, end_code, start_data, end_data, start_brk, brk, start_stack, arg_start, arg_end,
    /// env_start, env_end.
    pub(crate) addresses: [u64; 11],
    pub(crate) auxiliary: Vec<u8>,
}

/// Reads it, but the end of the heap, which only the process can tell.
pub(crate) fn layout(pid: i32, brk: u64) -> Result<MemoryLayout> {
    let stat = procfs::read(pid, "stat")?;
    let after_name =
        stat.rfind(')').and_then(|at| stat.get(at + 2..)).ok_or_else(|| Error::proc(pid, "stat"))?;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    // Numbers as in proc(5), where the state is the third field.
    let field = |number: usize| -> Result<u64> {
        fields.get(number - 3).and_then(|word| word.parse().ok()).ok_or_else(|| Error::proc(pid, "stat"))
    };
    let mut addresses = [0; 11];
    for (place, number) in addresses.iter_mut().zip([26, 27, 45, 46, 47, 0, 28, 48, 49, 50, 51]) {
        *place = if number == 0 { brk } else { field(number)? };
    }
    Ok(MemoryLayout { addresses, auxiliary: procfs::read_bytes(pid, "auxv")? })
}
