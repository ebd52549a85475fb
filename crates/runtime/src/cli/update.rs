//! `update`.

use std::io::Read;
use std::path::Path;

use seacow_spec::oci::runtime::{BlockIo, Cpu, LinuxResources, Memory, Pids};

use super::args::{Globals, Parsed};
use super::error::CliError;
use super::state::{StateDir, Status, read_json};

/// Changes limits of a container, given as the OCI specification's resources or by single flags.
pub(crate) fn update(globals: &Globals, parsed: &Parsed) -> Result<(), CliError> {
    let dir = StateDir::of(globals, parsed.id()?)?;
    let record = dir.read()?;
    for flag in ["l3-cache-schema", "mem-bw-schema"] {
        if parsed.value(flag).is_some_and(|v| !v.is_empty()) {
            return Err(CliError::NotImplemented(format!("update --{flag} (Intel RDT)")));
        }
    }
    let resources = match parsed.value("resources") {
        Some("-") => from_stdin()?,
        Some(file) => read_json(Path::new(file))?,
        None => from_flags(parsed)?,
    };
    match dir.status(&record) {
        Status::Created | Status::Running | Status::Paused => Ok(record.cgroups()?.update(&resources)?),
        Status::Creating | Status::Stopped => Err(CliError::State("container not running".into())),
    }
}

fn from_stdin() -> Result<LinuxResources, CliError> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(|e| CliError::file("read", "standard input", e))?;
    serde_json::from_str(&text).map_err(|source| CliError::Json { path: "standard input".into(), source })
}

fn from_flags(parsed: &Parsed) -> Result<LinuxResources, CliError> {
    let text = |flag: &str| parsed.value(flag).unwrap_or_default().to_owned();
    let memory = Memory {
        limit: size(parsed, "memory")?,
        reservation: size(parsed, "memory-reservation")?,
        swap: size(parsed, "memory-swap")?,
        ..Memory::default()
    };
    let cpu = Cpu {
        shares: parsed.number("cpu-share")?,
        quota: parsed.number("cpu-quota")?,
        period: parsed.number("cpu-period")?,
        burst: parsed.number("cpu-burst")?,
        realtime_runtime: parsed.number("cpu-rt-runtime")?,
        realtime_period: parsed.number("cpu-rt-period")?,
        cpus: text("cpuset-cpus"),
        mems: text("cpuset-mems"),
        idle: parsed.number("cpu-idle")?,
    };
    let weight = parsed.number("blkio-weight")?;
    Ok(LinuxResources {
        memory: Some(memory),
        cpu: Some(cpu),
        pids: parsed.number("pids-limit")?.map(|limit| Pids { limit }),
        block_io: weight.map(|weight| BlockIo { weight: Some(weight), ..BlockIo::default() }),
        ..LinuxResources::default()
    })
}

/// A flag with a size in bytes.
fn size(parsed: &Parsed, flag: &str) -> Result<Option<i64>, CliError> {
    let Some(text) = parsed.value(flag).filter(|v| !v.is_empty()) else { return Ok(None) };
    let invalid = || CliError::Usage(format!("invalid value for --{flag}: {text:?}"));
    bytes(text).ok_or_else(invalid).map(Some)
}

/// `67108864`, `50M`, `1.5g`, `30MiB`; `-1` for no limit. Units are powers of 1024.
fn bytes(text: &str) -> Option<i64> {
    if text == "-1" {
        return Some(-1);
    }
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim().to_ascii_lowercase();
    let unit = unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit);
    let power = match unit {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let value: f64 = number.parse().ok()?;
    let bytes = value * 1024_f64.powi(power);
    // Exactly representable up to 8 PiB, which is more than any machine has.
    (bytes < 9_007_199_254_740_992.0).then_some(bytes as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("67108864", Some(67_108_864)),
            ("50M", Some(50 << 20)),
            ("1.5g", Some(3 << 29)),
            ("30MiB", Some(30 << 20)),
            ("7b", Some(7)),
            ("-1", Some(-1)),
            ("-5", None),
            ("x", None),
            ("5 apples", None),
            ("", None),
        ] {
            assert_eq!(bytes(text), expected, "{text:?}");
        }
    }
}
