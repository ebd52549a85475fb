//! `doctor`: what is right and wrong with this machine, each as one sentence and its mend.
//!
//! Checks look and never change anything. One that cannot look says so.

mod firewall;
mod kernel;
mod neighbours;
mod rights;
mod storage;

use seacow_spec::docker::system::{Check, Diagnosis, Verdict};

use crate::{Engine, EngineError, blocking};

impl Engine {
    /// Examines the machine.
    ///
    /// # Errors
    /// The examination was interrupted.
    pub async fn doctor(&self) -> Result<Diagnosis, EngineError> {
        let config = self.config().clone();
        let checks = blocking::run("examine the machine", move || {
            let mut checks = vec![rights::root(), rights::resource_limits()];
            checks.extend(kernel::cgroups());
            checks.push(kernel::overlay());
            checks.push(kernel::user_namespaces());
            checks.push(kernel::mandatory_access(config.selinux.is_some()));
            checks.extend(kernel::sysctls());
            checks.push(storage::file_system(&config.data_root));
            checks.push(storage::space(&config.data_root));
            checks.push(storage::inodes(&config.data_root));
            checks.extend(firewall::forwarding(&config));
            checks.push(neighbours::resolver(&config));
            checks.extend(neighbours::docker(&config));
            checks
        })
        .await?;
        Ok(Diagnosis { checks })
    }
}

fn ok(name: &str, found: impl Into<String>) -> Check {
    Check { name: name.into(), verdict: Verdict::Ok, found: found.into(), mend: String::new() }
}

fn warning(name: &str, found: impl Into<String>, mend: impl Into<String>) -> Check {
    Check { name: name.into(), verdict: Verdict::Warning, found: found.into(), mend: mend.into() }
}

fn failed(name: &str, found: impl Into<String>, mend: impl Into<String>) -> Check {
    Check { name: name.into(), verdict: Verdict::Failed, found: found.into(), mend: mend.into() }
}
