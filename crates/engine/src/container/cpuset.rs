//! Lists of processors and memory nodes: `0-3,7`.

use std::ops::RangeInclusive;

use super::invalid::Invalid;

/// A kind of list, and where the kernel tells which of its numbers there are.
struct Kind {
    option: &'static str,
    what: &'static str,
    available: &'static str,
}

const CPUS: Kind = Kind { option: "cpuset cpus", what: "CPUs", available: "/sys/devices/system/cpu/online" };
const MEMS: Kind =
    Kind { option: "cpuset mems", what: "memory nodes", available: "/sys/devices/system/node/online" };

/// Checks both lists of a request.
pub(super) fn check(cpus: &str, mems: &str) -> Result<(), Invalid> {
    for (kind, wanted) in [(CPUS, cpus), (MEMS, mems)] {
        // A kernel without memory nodes does not tell: it will then answer for itself.
        let available = (!wanted.is_empty()).then(|| std::fs::read_to_string(kind.available));
        check_one(&kind, wanted, available.and_then(Result::ok).as_deref().map(str::trim))?;
    }
    Ok(())
}

fn check_one(kind: &Kind, wanted: &str, available: Option<&str>) -> Result<(), Invalid> {
    let Some(ranges) = parse(wanted) else {
        return Err(Invalid::Cpuset { option: kind.option, value: wanted.to_owned() });
    };
    let Some(there) = available.and_then(parse) else { return Ok(()) };
    // Ranges are as long as a client likes; those that exist are few.
    let is_there = |range: &RangeInclusive<u32>| {
        let overlap = |r: &RangeInclusive<u32>| {
            let (from, to) = (*r.start().max(range.start()), *r.end().min(range.end()));
            u64::from(to).checked_sub(u64::from(from)).map_or(0, |more| more + 1)
        };
        there.iter().map(overlap).sum::<u64>() == u64::from(*range.end()) - u64::from(*range.start()) + 1
    };
    if ranges.iter().all(is_there) {
        return Ok(());
    }
    let available = available.unwrap_or_default().to_owned();
    Err(Invalid::CpusetMissing { what: kind.what, wanted: wanted.to_owned(), available })
}

fn parse(list: &str) -> Option<Vec<RangeInclusive<u32>>> {
    if list.is_empty() {
        return Some(Vec::new());
    }
    let range = |text: &str| {
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        let (from, to) = (from.parse().ok()?, to.parse().ok()?);
        (from <= to).then_some(from..=to)
    };
    list.split(',').map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_may_be_asked_for() {
        let says = |wanted: &str| check_one(&CPUS, wanted, Some("0-3,8")).map_err(|e| e.to_string());
        for fine in ["", "0", "3,1", "0-3", "1-2,8"] {
            assert_eq!(says(fine), Ok(()), "{fine}");
        }
        assert_eq!(
            says("2-8").unwrap_err(),
            "Requested CPUs are not available - requested 2-8, available: 0-3,8"
        );
        assert!(says("4000000000-4294967295").unwrap_err().contains("not available"));
        for bad in ["a", "1-", "-1", "3-1", "0,", "99999999999"] {
            assert_eq!(says(bad).unwrap_err(), format!("Invalid value {bad} for cpuset cpus"));
        }
        assert_eq!(check_one(&MEMS, "5", None), Ok(()));
    }
}
