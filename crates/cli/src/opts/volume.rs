//! `-v [SOURCE:]TARGET[:OPTIONS]`.

/// A `-v` value taken apart, as far as the client needs to know.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Volume {
    /// An anonymous volume at this path.
    Anonymous(String),
    /// A bind mount or named volume, as it is sent.
    Bind(String),
}

/// Reads a `-v` value.
pub(crate) fn parse(spec: &str) -> Result<Volume, String> {
    if spec.is_empty() {
        return Err("invalid empty volume spec".to_owned());
    }
    let parts: Vec<&str> = spec.split(':').collect();
    if parts.len() == 1 {
        return Ok(Volume::Anonymous(spec.to_owned()));
    }
    if parts.iter().any(|p| p.is_empty()) {
        return Err(format!("invalid spec: {spec}: empty section between colons"));
    }
    let (source, rest) = spec.split_once(':').unwrap_or((spec, ""));
    let source = if source == "." || source.starts_with("./") || source.starts_with("..") {
        absolute(source)
    } else {
        source.to_owned()
    };
    Ok(Volume::Bind(format!("{source}:{rest}")))
}

/// Go's `filepath.Abs`: joined to the working directory and cleaned, links not followed.
pub(crate) fn absolute(path: &str) -> String {
    let joined = if path.starts_with('/') {
        path.to_owned()
    } else {
        let here = std::env::current_dir().map_or_else(|_| "/".to_owned(), |d| d.display().to_string());
        format!("{here}/{path}")
    };
    clean(&joined)
}

/// Go's `path.Clean`.
pub(crate) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|p| *p != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        assert_eq!(parse("/data"), Ok(Volume::Anonymous("/data".into())));
        assert_eq!(parse("vol:/data:ro"), Ok(Volume::Bind("vol:/data:ro".into())));
        assert_eq!(parse("/a:/b"), Ok(Volume::Bind("/a:/b".into())));
        let here = std::env::current_dir().unwrap().display().to_string();
        assert_eq!(parse("./x:/b"), Ok(Volume::Bind(format!("{here}/x:/b"))));
        assert_eq!(parse(".:/b:ro"), Ok(Volume::Bind(format!("{here}:/b:ro"))));
        assert_eq!(parse(":/x:y:z"), Err("invalid spec: :/x:y:z: empty section between colons".into()));
    }

    #[test]
    fn cleaning() {
        for (path, cleaned) in [
            ("/a/../b/./c//", "/b/c"),
            ("a/..", "."),
            ("../a", "../a"),
            ("/..", "/"),
            ("", "."),
            ("a/b/..", "a"),
        ] {
            assert_eq!(clean(path), cleaned);
        }
    }
}
