//! `--security-opt`.

use crate::failure::{Failure, go_io_text};

/// What the options say, as it is sent.
#[derive(Debug, Default)]
pub(crate) struct Security {
    pub(crate) options: Option<Vec<String>>,
    /// Both empty for `systempaths=unconfined`: nothing is masked.
    pub(crate) masked_paths: Option<Vec<String>>,
    pub(crate) readonly_paths: Option<Vec<String>>,
}

/// Reads the options; a seccomp profile's file is read here, because the engine may be elsewhere.
pub(crate) fn options(values: &[String]) -> Result<Security, Failure> {
    let mut security = Security::default();
    let mut options = Vec::new();
    for value in values {
        if value == "systempaths=unconfined" {
            security.masked_paths = Some(Vec::new());
            security.readonly_paths = Some(Vec::new());
            continue;
        }
        let pair = value.split_once('=').or_else(|| value.split_once(':'));
        let Some((name, setting)) = pair else {
            if value != "no-new-privileges" {
                return Err(Failure::Refused(format!("Invalid --security-opt: {value:?}")));
            }
            options.push(value.clone());
            continue;
        };
        if name == "seccomp" && setting != "unconfined" && setting != "builtin" {
            options.push(format!("seccomp={}", profile(setting)?));
        } else {
            options.push(value.clone());
        }
    }
    if !values.is_empty() {
        security.options = Some(options);
    }
    Ok(security)
}

fn profile(path: &str) -> Result<String, Failure> {
    let bytes = std::fs::read(path).map_err(|e| {
        Failure::Refused(format!("opening seccomp profile ({path}) failed: open {path}: {}", go_io_text(&e)))
    })?;
    let json: serde_json::Value = serde_json::from_slice(&bytes)
        .map_err(|e| Failure::Refused(format!("compacting json for seccomp profile ({path}) failed: {e}")))?;
    Ok(json.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(values: &[&str]) -> Result<Security, String> {
        let values: Vec<String> = values.iter().map(|v| (*v).to_owned()).collect();
        options(&values).map_err(|e| e.to_string())
    }

    #[test]
    fn profiles_are_inlined() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.json");
        std::fs::write(&path, "{ \"defaultAction\" : \"SCMP_ACT_ALLOW\" }\n").unwrap();
        let security = sent(&[&format!("seccomp={}", path.display()), "no-new-privileges"]).unwrap();
        assert_eq!(
            security.options.unwrap(),
            [r#"seccomp={"defaultAction":"SCMP_ACT_ALLOW"}"#, "no-new-privileges"]
        );
    }

    #[test]
    fn refusals_and_system_paths() {
        assert_eq!(sent(&["foo"]).unwrap_err(), "Invalid --security-opt: \"foo\"");
        assert_eq!(
            sent(&["seccomp=/nope"]).unwrap_err(),
            "opening seccomp profile (/nope) failed: open /nope: no such file or directory"
        );
        let security = sent(&["systempaths=unconfined"]).unwrap();
        assert_eq!((security.options, security.masked_paths), (Some(vec![]), Some(vec![])));
    }
}
