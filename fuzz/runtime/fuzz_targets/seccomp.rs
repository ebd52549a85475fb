//! Any profile is an error that names its field, or a program that the kernel would take: within its
//! length, every jump inside, ended by a return.
#![no_main]

use libfuzzer_sys::fuzz_target;
use seacow_runtime::seccomp;
use seacow_spec::oci::runtime::Seccomp;

const RETURN: u16 = 0x06;

fuzz_target!(|data: &[u8]| {
    let Ok(profile) = serde_json::from_slice::<Seccomp>(data) else { return };
    let filter = match seccomp::compile(&profile) {
        Ok(filter) => filter,
        Err(error) => return assert!(error.to_string().starts_with("linux.seccomp"), "{error}"),
    };
    assert!(seccomp::check(&profile).is_ok());
    let program = &filter.program;
    assert!((1..=4096).contains(&program.len()));
    for (at, step) in program.iter().enumerate() {
        let furthest = match step.code {
            RETURN => continue,
            // A jump without condition.
            0x05 => step.k as usize,
            // A conditional one.
            0x15 | 0x25 | 0x35 => usize::from(step.jt.max(step.jf)),
            _ => 0,
        };
        assert!(at + 1 + furthest < program.len(), "{at} leaves the program");
    }
});
