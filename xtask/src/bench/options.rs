//! Command line of `bench start`.

use anyhow::{Context, Result, bail};

use super::sections::{ALL, Section};

const USAGE: &str = "Usage: cargo xtask bench start [options]

  --only SECTION     only this one; may be repeated
  --rounds N         isolated rounds of each measurement (default 20)
  --containers N     containers that section alive starts (default 1000)
  --fresh-disk       data roots on a new ext4, exec roots on a tmpfs, as most hosts have them
  --quick            5 rounds, 100 containers, one second of load
  --trace            print where the time of a warm and of a cold start goes, nothing else

SEACOW_DIST names a directory with programs that are built already (as `cargo xtask build` leaves them).

Sections:";

/// What to measure, and how often.
pub(crate) struct Options {
    /// In the order of [`ALL`].
    pub(crate) sections: Vec<&'static Section>,
    /// Isolated measurements of each row.
    pub(crate) rounds: usize,
    /// Containers alive at once.
    pub(crate) containers: usize,
    /// How long 8 clients run containers as fast as they can, in seconds.
    pub(crate) load: u64,
    /// On a disk like most hosts'.
    pub(crate) fresh_disk: bool,
    /// The engine's marks instead of measurements.
    pub(crate) trace: bool,
}

impl Options {
    /// Reads the words after `bench start`.
    pub(crate) fn parse(args: &[String]) -> Result<Self> {
        let mut options = Self {
            sections: ALL.iter().collect(),
            rounds: 20,
            containers: 1000,
            load: 5,
            fresh_disk: false,
            trace: false,
        };
        let mut only: Vec<&str> = Vec::new();
        let mut words = args.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} wants a value"));
            match word.as_str() {
                "--only" => only.push(value()?),
                "--rounds" => options.rounds = number(word, value()?)?,
                "--containers" => options.containers = number(word, value()?)?,
                "--quick" => (options.rounds, options.containers, options.load) = (5, 100, 1),
                "--fresh-disk" => options.fresh_disk = true,
                "--trace" => options.trace = true,
                _ => bail!("unknown option {word:?}\n\n{}", usage()),
            }
        }
        if let Some(unknown) = only.iter().find(|name| ALL.iter().all(|section| section.name != **name)) {
            bail!("unknown section {unknown:?}\n\n{}", usage());
        }
        if !only.is_empty() {
            options.sections.retain(|section| only.contains(&section.name));
        }
        Ok(options)
    }
}

fn number(option: &str, text: &str) -> Result<usize> {
    match text.parse() {
        Ok(number @ 1..) => Ok(number),
        _ => bail!("{option} wants a number above 0, not {text:?}"),
    }
}

fn usage() -> String {
    let lines = ALL.iter().map(|section| format!("\n  {:<10} {}", section.name, section.what));
    format!("{USAGE}{}", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Options> {
        Options::parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn sections_are_chosen_by_name() {
        assert_eq!(parse(&[]).unwrap().sections.len(), ALL.len());
        let options = parse(&["--only", "exec", "--only", "run", "--quick", "--rounds", "3"]).unwrap();
        assert_eq!(options.sections.iter().map(|s| s.name).collect::<Vec<_>>(), ["run", "exec"]);
        assert_eq!((options.rounds, options.containers), (3, 100));
    }

    #[test]
    fn nonsense_is_refused() {
        for words in [&["--only"][..], &["--only", "x"], &["--rounds", "0"], &["--rounds", "x"], &["20"]] {
            assert!(parse(words).is_err(), "{words:?}");
        }
    }
}
