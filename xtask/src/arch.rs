//! The architecture as a check: who links whom, where async and unsafe may be.
//!
//! design: a crate may link only what is listed here. What is not listed is an error, so that a new
//! edge is a decision and not an accident.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::shell;

/// Allowed edges between our crates.
const EDGES: [(&str, &[&str]); 14] = [
    ("seacow-spec", &[]),
    ("seacow-sys", &[]),
    ("seacow-store", &["seacow-sys", "seacow-spec"]),
    ("seacow-net", &["seacow-sys", "seacow-spec"]),
    ("seacow-fork", &["seacow-sys", "seacow-spec"]),
    ("seacow-runtime", &["seacow-sys", "seacow-spec"]),
    ("seacow-shim", &["seacow-runtime", "seacow-fork", "seacow-sys", "seacow-spec"]),
    ("seacow-build", &["seacow-store", "seacow-spec"]),
    ("seacow-registry", &["seacow-store", "seacow-spec"]),
    ("seacow-engine", &["seacow-build", "seacow-registry", "seacow-store", "seacow-net", "seacow-spec"]),
    ("seacow-daemon", &["seacow-engine", "seacow-spec"]),
    ("seacow-cli", &["seacow-spec"]),
    ("seacow-tests", &[]),
    ("xtask", &[]),
];

/// Crates in which async code may be.
const ASYNC: [&str; 3] = ["seacow-registry", "seacow-engine", "seacow-daemon"];
/// What brings async with it.
const ASYNC_CRATES: [&str; 3] = ["tokio", "hyper", "async-std"];
/// The only crate with unsafe code.
const UNSAFE: &str = "seacow-sys";

/// Checks everything and lists all that is wrong.
pub(crate) fn check() -> Result<()> {
    let metadata = shell::output(shell::cargo().args(["metadata", "--format-version", "1", "--locked"]))?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata")?;
    let packages = workspace_packages(&metadata)?;
    let edges: BTreeMap<&str, &[&str]> = EDGES.into_iter().collect();
    let mut wrong = Vec::new();
    for (name, package) in &packages {
        match edges.get(name.as_str()) {
            None => wrong.push(format!("{name}: not in the list of crates; a new crate needs an ADR")),
            Some(allowed) => check_edges(name, package, allowed, &packages, &mut wrong),
        }
        check_unsafe(name, package, &mut wrong)?;
    }
    check_async(&metadata, &packages, &mut wrong);
    if !wrong.is_empty() {
        bail!("architecture:\n  {}", wrong.join("\n  "));
    }
    println!("architecture: {} crates, edges, async and unsafe as designed", packages.len());
    Ok(())
}

type Packages<'a> = BTreeMap<String, &'a Value>;

fn workspace_packages(metadata: &Value) -> Result<Packages<'_>> {
    let members = metadata["workspace_members"].as_array().context("workspace_members")?;
    let packages = metadata["packages"].as_array().context("packages")?;
    Ok(packages
        .iter()
        .filter(|package| members.contains(&package["id"]))
        .map(|package| (text(&package["name"]), package))
        .collect())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn check_edges(name: &str, package: &Value, allowed: &[&str], ours: &Packages<'_>, wrong: &mut Vec<String>) {
    for dependency in package["dependencies"].as_array().into_iter().flatten() {
        let to = text(&dependency["name"]);
        let for_tests = dependency["kind"].as_str() == Some("dev");
        if for_tests || !ours.contains_key(&to) || allowed.contains(&to.as_str()) {
            continue;
        }
        wrong.push(format!("{name} links {to}; it may link only {allowed:?}"));
    }
}

/// Follows the resolved graph, so that async cannot come in through somebody else's dependency.
fn check_async(metadata: &Value, ours: &Packages<'_>, wrong: &mut Vec<String>) {
    let nodes: BTreeMap<String, &Value> = metadata["resolve"]["nodes"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|node| (text(&node["id"]), node))
        .collect();
    let names: BTreeMap<String, String> = metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|package| (text(&package["id"]), text(&package["name"])))
        .collect();
    for (name, package) in ours {
        if ASYNC.contains(&name.as_str()) {
            continue;
        }
        let mut seen = std::collections::BTreeSet::new();
        let mut queue = vec![text(&package["id"])];
        while let Some(id) = queue.pop() {
            if !seen.insert(id.clone()) {
                continue;
            }
            let Some(node) = nodes.get(&id) else { continue };
            for dependency in node["deps"].as_array().into_iter().flatten() {
                let normal = dependency["dep_kinds"]
                    .as_array()
                    .is_none_or(|kinds| kinds.iter().any(|k| k["kind"].is_null()));
                if normal {
                    queue.push(text(&dependency["pkg"]));
                }
            }
        }
        for id in &seen {
            let dependency = names.get(id).map_or("", String::as_str);
            if ASYNC_CRATES.contains(&dependency) {
                wrong.push(format!("{name} brings in {dependency}; only {ASYNC:?} may be async"));
            }
        }
    }
}

fn check_unsafe(name: &str, package: &Value, wrong: &mut Vec<String>) -> Result<()> {
    if name == UNSAFE {
        return Ok(());
    }
    for target in package["targets"].as_array().into_iter().flatten() {
        let kind = target["kind"][0].as_str().unwrap_or_default();
        if !matches!(kind, "lib" | "bin") {
            continue;
        }
        let path = text(&target["src_path"]);
        let source = std::fs::read_to_string(Path::new(&path)).with_context(|| format!("read {path}"))?;
        if !source.contains("#![forbid(unsafe_code)]") {
            wrong.push(format!("{path}: lacks #![forbid(unsafe_code)]; unsafe code belongs into {UNSAFE}"));
        }
    }
    Ok(())
}
