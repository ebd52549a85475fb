//! First line: a path; the rest: a `.dockerignore`. A file below an excluded directory is excluded
//! where nothing is taken back in.
#![no_main]

use libfuzzer_sys::fuzz_target;
use seacow_build::{gopath, ignore::Matcher};

fuzz_target!(|data: &str| {
    let (path, patterns) = data.split_once('\n').unwrap_or((data, ""));
    let path = gopath::clean(path);
    assert_eq!(gopath::clean(&path), path);
    let Ok(matcher) = Matcher::parse(patterns.as_bytes()) else { return };
    let excluded = matcher.excludes(&path);
    if excluded && !matcher.has_exceptions() && !path.ends_with('/') {
        assert!(matcher.excludes(&format!("{path}/below")), "{path}");
    }
});
