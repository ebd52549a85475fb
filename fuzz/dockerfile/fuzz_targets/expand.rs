//! Any word expands or is refused; a word without anything special stays as it is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use seacow_build::expand::{Variables, word, words};

fuzz_target!(|text: &str| {
    let variables: Variables =
        [("A", "a b"), ("E", ""), ("P", "x.y.z")].map(|(n, v)| (n.into(), v.into())).into();
    for escape in ['\\', '`'] {
        let whole = word(text, escape, &variables);
        assert_eq!(whole.is_ok(), words(text, escape, &variables).is_ok());
        if !text.contains(['$', '\'', '"', escape]) {
            assert_eq!(whole.as_deref(), Ok(text));
        }
    }
});
