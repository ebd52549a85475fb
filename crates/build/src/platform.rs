//! `--platform`: ours or refused.

use seacow_spec::{Classified, ErrorClass};

/// A platform that cannot be built for.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PlatformError {
    /// Not `os/architecture[/variant]`.
    #[error("failed to parse platform {0}: expected os/architecture[/variant]")]
    Malformed(String),
    /// Another kind of machine.
    #[error("platform {wanted} is not implemented: this machine builds for {ours} only")]
    Foreign {
        /// As asked for.
        wanted: String,
        /// What this machine is.
        ours: String,
    },
}

impl Classified for PlatformError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Malformed(_) => ErrorClass::InvalidArgument,
            Self::Foreign { .. } => ErrorClass::NotImplemented,
        }
    }
}

/// Go's name of this machine's architecture.
pub(crate) fn architecture() -> &'static str {
    go_name(std::env::consts::ARCH)
}

fn go_name(arch: &str) -> &str {
    match arch {
        "x86_64" | "x86-64" => "amd64",
        "aarch64" => "arm64",
        "x86" | "i386" | "i686" => "386",
        other => other,
    }
}

/// Accepts the empty text (no wish), `linux`, our architecture, `linux/architecture[/variant]`.
pub(crate) fn check(wanted: &str) -> Result<(), PlatformError> {
    if wanted.is_empty() {
        return Ok(());
    }
    let lower = wanted.to_ascii_lowercase();
    let parts: Vec<&str> = lower.split('/').collect();
    if parts.len() > 3 || parts.iter().any(|part| part.is_empty()) {
        return Err(PlatformError::Malformed(wanted.to_owned()));
    }
    let ours = architecture();
    // amd64 has variants that not every machine runs; the first is all machines'.
    let variant_fits = |variant: &str| matches!((ours, variant), ("amd64", "v1") | ("arm64", "v8"));
    let fits = match parts.as_slice() {
        [one] => *one == "linux" || go_name(one) == ours,
        [os, arch] => *os == "linux" && go_name(arch) == ours,
        [os, arch, variant] => *os == "linux" && go_name(arch) == ours && variant_fits(variant),
        _ => false,
    };
    if fits {
        return Ok(());
    }
    Err(PlatformError::Foreign { wanted: wanted.to_owned(), ours: format!("linux/{ours}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_and_others() {
        let ours = architecture();
        for wanted in
            ["", "linux", ours, &format!("linux/{ours}"), &format!("Linux/{}", std::env::consts::ARCH)]
        {
            assert_eq!(check(wanted), Ok(()), "{wanted}");
        }
        for wanted in ["windows", "linux/s390x", "linux/mips/v9", "x"] {
            assert!(matches!(check(wanted), Err(PlatformError::Foreign { .. })), "{wanted}");
        }
        for wanted in ["/", "linux/", "a/b/c/d"] {
            assert!(matches!(check(wanted), Err(PlatformError::Malformed(_))), "{wanted}");
        }
    }
}
