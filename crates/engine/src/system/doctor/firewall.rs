//! What would keep containers from reaching the outside.

use seacow_net::diagnose::{Severity, diagnose};
use seacow_net::doors::Tools;
use seacow_spec::docker::system::{Check, Verdict};

use super::ok;
use crate::Config;

pub(super) fn forwarding(config: &Config) -> Vec<Check> {
    let name = "firewall";
    let findings = diagnose(&config.bridge, &[&config.nft_table], &[], &Tools::default());
    if findings.is_empty() {
        return vec![ok(name, "Nothing keeps containers from reaching the outside.")];
    }
    let check = |finding: &seacow_net::diagnose::Finding| Check {
        name: name.into(),
        verdict: match finding.severity() {
            Severity::Note => Verdict::Ok,
            Severity::Suspect => Verdict::Warning,
            Severity::Blocks => Verdict::Failed,
        },
        found: finding.sentence(),
        mend: finding.mend(&config.bridge).unwrap_or_default(),
    };
    findings.iter().map(check).collect()
}
