//! Environment variables and labels, from flags and from files.

use std::collections::BTreeMap;

use crate::failure::{Failure, open_failed};

/// Variables of the files, then those of the flags; `NAME` alone is taken from our environment. One
/// that is not set there is left out if a file names it.
pub(crate) fn variables(files: &[String], flags: &[String]) -> Result<Vec<String>, Failure> {
    let mut all = Vec::new();
    for file in files {
        for line in lines(file)? {
            all.extend(from_environment(&line).or_else(|| line.contains('=').then(|| line.clone())));
        }
    }
    // A variable that is not set here is sent by its name: the engine takes it out of the image's.
    all.extend(flags.iter().map(|v| from_environment(v).unwrap_or_else(|| v.clone())));
    Ok(all)
}

/// Labels of the files, then those of the flags; later ones win.
pub(crate) fn labels(files: &[String], flags: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let mut all = BTreeMap::new();
    for file in files {
        for line in lines(file)? {
            insert(&mut all, &line);
        }
    }
    for flag in flags {
        insert(&mut all, flag);
    }
    Ok(all)
}

/// `key=value` texts as a map; a key alone has an empty value.
pub(crate) fn map(values: &[String]) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for value in values {
        insert(&mut all, value);
    }
    all
}

fn insert(map: &mut BTreeMap<String, String>, text: &str) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    map.insert(key.to_owned(), value.to_owned());
}

/// `NAME` with our value of it.
fn from_environment(variable: &str) -> Option<String> {
    if variable.contains('=') {
        return None;
    }
    std::env::var(variable).ok().map(|value| format!("{variable}={value}"))
}

/// The lines of a file that say something; comments and empty lines are left out.
fn lines(path: &str) -> Result<Vec<String>, Failure> {
    let bytes = std::fs::read(path).map_err(|e| open_failed(path, &e))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::Refused(format!("invalid env file ({path}): invalid utf8 bytes at line 1")))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut out = Vec::new();
    for line in text.lines() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split('=').next().unwrap_or("");
        if name.is_empty() {
            return Err(Failure::Refused(format!(
                "invalid env file ({path}): no variable name on line '{line}'"
            )));
        }
        if name.contains(char::is_whitespace) {
            return Err(Failure::Refused(format!(
                "invalid env file ({path}): variable '{name}' contains whitespaces"
            )));
        }
        out.push(line.to_owned());
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_flags() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("env").display().to_string();
        std::fs::write(&path, "\u{feff}# comment\n\n  A=1 2 \nPATH\nNOT_SET_ANYWHERE_9\n").unwrap();
        let all = variables(std::slice::from_ref(&path), &["B=".into(), "NOT_SET_9".into()]).unwrap();
        assert_eq!(all[0], "A=1 2 ");
        assert!(all[1].starts_with("PATH=/"));
        assert_eq!(all[2..], ["B=", "NOT_SET_9"]);
        std::fs::write(&path, "A B=1\n").unwrap();
        let error = variables(std::slice::from_ref(&path), &[]).unwrap_err().to_string();
        assert!(error.ends_with("variable 'A B' contains whitespaces"), "{error}");
        let error = variables(&["/nope".into()], &[]).unwrap_err().to_string();
        assert_eq!(error, "open /nope: no such file or directory");
    }
}
