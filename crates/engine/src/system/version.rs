//! Who we are.

use std::collections::BTreeMap;

use seacow_spec::docker::system::{Component, PlatformName, Version};
use seacow_spec::docker::{API_VERSION, MIN_API_VERSION};
use seacow_spec::shim::PROTOCOL_VERSION;

use super::host;
use crate::Engine;

/// Our version: that of the workspace.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

impl Engine {
    /// The engine's and its parts' versions.
    pub fn version(&self) -> Version {
        let kernel = host::kernel();
        let details = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let part = |name: &str, details| Component { name: name.into(), version: VERSION.into(), details };
        let protocol = PROTOCOL_VERSION.to_string();
        Version {
            platform: PlatformName { name: "seacow".into() },
            components: vec![
                part(
                    "Engine",
                    details(&[
                        ("ApiVersion", API_VERSION),
                        ("MinAPIVersion", MIN_API_VERSION),
                        ("Arch", host::go_arch()),
                        ("Os", "linux"),
                        ("KernelVersion", &kernel),
                        ("Experimental", "false"),
                    ]),
                ),
                part("seacow-shim", details(&[("Protocol", &protocol)])),
                part("seacow-runtime", details(&[])),
            ],
            version: VERSION.into(),
            api_version: API_VERSION.into(),
            min_api_version: MIN_API_VERSION.into(),
            git_commit: String::new(),
            // There is no Go in it; clients print whatever stands here.
            go_version: String::new(),
            os: "linux".into(),
            arch: host::go_arch().into(),
            kernel_version: kernel,
            experimental: false,
            build_time: String::new(),
        }
    }
}
