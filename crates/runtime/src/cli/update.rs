//! `update`.

use std::io::Read;
use std::path::Path;

use seacow_runtime::cgroup::Cgroups;
use seacow_spec::oci::runtime::LinuxResources;

use super::args::{Globals, Parsed};
use super::error::CliError;
use super::state::{StateDir, read_json};

/// Changes limits, given as the OCI specification's resources in a file or on standard input.
pub(crate) fn update(globals: &Globals, parsed: &Parsed) -> Result<(), CliError> {
    let record = StateDir::of(globals, parsed.id()?)?.read()?;
    let resources: LinuxResources = match parsed.value("resources") {
        Some("-") => {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .map_err(|e| CliError::file("read", "standard input", e))?;
            serde_json::from_str(&text)
                .map_err(|source| CliError::Json { path: "standard input".into(), source })?
        }
        Some(file) => read_json(Path::new(file))?,
        None => return Err(CliError::Usage("update needs --resources FILE".into())),
    };
    Ok(Cgroups::new(&record.cgroups_path)?.update(&resources)?)
}
