//! One verb on several objects: what succeeds is named, what fails does not stop the others.

use crate::failure::{Failure, Outcome};

/// Runs `verb` on each name in turn; prints the names it succeeded on.
pub(super) fn in_turn(names: &[String], mut verb: impl FnMut(&str) -> Result<(), Failure>) -> Outcome {
    let mut failures = Vec::new();
    for name in names {
        match verb(name) {
            Ok(()) => crate::outln(name)?,
            Err(failure) => failures.push(failure),
        }
    }
    Failure::all(failures)
}

/// Threads at a time: docker's own number.
const AT_ONCE: usize = 50;

/// Runs `verb` on all names at once (stopping ten containers takes as long as the slowest);
/// prints the names it succeeded on, in their order.
pub(super) fn at_once(names: &[String], verb: impl Fn(&str) -> Result<(), Failure> + Sync) -> Outcome {
    at_once_named(names, |name| verb(name).map(|()| true))
}

/// The same for a verb that says itself whether its success is worth naming.
pub(super) fn at_once_named(
    names: &[String],
    verb: impl Fn(&str) -> Result<bool, Failure> + Sync,
) -> Outcome {
    let mut failures = Vec::new();
    for names in names.chunks(AT_ONCE) {
        let results: Vec<Result<bool, Failure>> = match names {
            [name] => vec![verb(name)],
            names => std::thread::scope(|scope| {
                let threads: Vec<_> = names.iter().map(|name| scope.spawn(|| verb(name))).collect();
                let gone = || Err(Failure::refused("a thread of this client failed"));
                threads.into_iter().map(|t| t.join().unwrap_or_else(|_| gone())).collect()
            }),
        };
        for (name, result) in names.iter().zip(results) {
            match result {
                Ok(true) => crate::outln(name)?,
                Ok(false) => {}
                Err(failure) => failures.push(failure),
            }
        }
    }
    Failure::all(failures)
}
