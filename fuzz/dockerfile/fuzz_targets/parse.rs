//! Any bytes are a Dockerfile or an error; what parses has sane lines, and parses again from its
//! own source texts.
#![no_main]

use libfuzzer_sys::fuzz_target;
use seacow_build::dockerfile;

fuzz_target!(|data: &[u8]| {
    let lines = data.split(|byte| *byte == b'\n').count();
    match dockerfile::parse(data) {
        Err(error) => assert!((1..=lines.max(1)).contains(&error.line), "{error}"),
        Ok(file) => {
            for step in file.stages.iter().flat_map(|stage| &stage.steps) {
                assert!((1..=lines).contains(&step.line));
                // Continuations may join to what is too long for a line, or ends like one.
                let is_line = step.code.len() < 1 << 15 && !step.code.ends_with('\\');
                if file.escape == '\\' && is_line {
                    let again = dockerfile::parse_trigger(&step.code).map(|step| step.instruction);
                    assert_eq!(again.as_ref(), Ok(&step.instruction), "{}", step.code);
                }
            }
        }
    }
    _ = dockerfile::parse_steps(data);
});
