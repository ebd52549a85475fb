//! Any bytes are a `config.json` or an error that names a field; what is read is read again from its
//! own text, and judged the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use seacow_runtime::validate;

fuzz_target!(|data: &[u8]| {
    let Ok(spec) = validate::read(data) else { return };
    let judged = validate::check(&spec);
    let text = serde_json::to_vec(&spec).expect("a configuration is JSON");
    let again = validate::read(&text).expect("its own text");
    assert_eq!(again, spec);
    assert_eq!(validate::check(&again).is_ok(), judged.is_ok());
});
