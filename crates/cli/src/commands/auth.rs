//! Credentials for registries: from our own configuration, else from docker's, with its helpers.

use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Map, Value, json};

use crate::config::{ConfigDir, docker_dir, read_object};
use crate::globals::Globals;

/// The key under which Docker Hub's credentials are stored.
pub(crate) const HUB: &str = "https://index.docker.io/v1/";

/// The `X-Registry-Auth` header for a registry: base64 of JSON, `{}` without credentials.
pub(crate) fn header(globals: &Globals, domain: &str) -> String {
    let auth = find(globals, domain).unwrap_or_else(|| json!({}));
    base64(auth.to_string().as_bytes(), true)
}

/// All stored credentials, for builds (`X-Registry-Config`).
pub(crate) fn all(globals: &Globals) -> String {
    let mut out = Map::new();
    for dir in [docker_dir(), globals.config.path.clone()] {
        if let Some(Value::Object(auths)) = read_object(&dir.join("config.json")).get("auths") {
            for server in auths.keys() {
                if let Some(auth) = in_dir(&dir, server) {
                    out.insert(server.clone(), auth);
                }
            }
        }
    }
    base64(Value::Object(out).to_string().as_bytes(), true)
}

/// The key that credentials of a registry's domain are stored under.
pub(crate) fn key(domain: &str) -> &str {
    if domain == seacow_spec::reference::DEFAULT_DOMAIN { HUB } else { domain }
}

fn find(globals: &Globals, domain: &str) -> Option<Value> {
    let key = key(domain);
    in_dir(&globals.config.path, key).or_else(|| in_dir(&docker_dir(), key))
}

fn in_dir(dir: &Path, key: &str) -> Option<Value> {
    let config = read_object(&dir.join("config.json"));
    let helper = config
        .get("credHelpers")
        .and_then(|h| h.get(key))
        .or_else(|| config.get("credsStore"))
        .and_then(Value::as_str);
    if let Some(auth) = helper.and_then(|helper| ask_helper(helper, key)) {
        return Some(auth);
    }
    let entry = config.get("auths")?.get(key)?;
    if let Some(token) = entry.get("identitytoken").and_then(Value::as_str).filter(|t| !t.is_empty()) {
        return Some(json!({"identitytoken": token, "serveraddress": key}));
    }
    let decoded = unbase64(entry.get("auth")?.as_str()?)?;
    let (user, password) = decoded.split_once(':')?;
    Some(json!({"username": user, "password": password, "serveraddress": key}))
}

/// `docker-credential-HELPER get`, server on stdin, JSON on stdout.
fn ask_helper(helper: &str, key: &str) -> Option<Value> {
    let mut child = Command::new(format!("docker-credential-{helper}"))
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    child.stdin.take()?.write_all(key.as_bytes()).ok()?;
    let output = child.wait_with_output().ok().filter(|o| o.status.success())?;
    let answer: Value = serde_json::from_slice(&output.stdout).ok()?;
    let (user, secret) = (answer.get("Username")?.as_str()?, answer.get("Secret")?.as_str()?);
    Some(if user == "<token>" {
        json!({"identitytoken": secret, "serveraddress": key})
    } else {
        json!({"username": user, "password": secret, "serveraddress": key})
    })
}

/// Stores credentials in our own configuration.
pub(crate) fn store(config: &ConfigDir, key: &str, user: &str, secret: &str, token: &str) -> io::Result<()> {
    let mut values = config.read();
    let auths = values.entry("auths").or_insert_with(|| json!({}));
    let entry = if token.is_empty() {
        json!({"auth": base64(format!("{user}:{secret}").as_bytes(), false)})
    } else {
        json!({"auth": base64(format!("{user}:").as_bytes(), false), "identitytoken": token})
    };
    if let Value::Object(auths) = auths {
        auths.insert(key.to_owned(), entry);
    }
    config.write(&values)
}

/// Forgets credentials; tells whether there were any.
pub(crate) fn erase(config: &ConfigDir, key: &str) -> io::Result<bool> {
    let mut values = config.read();
    let Some(Value::Object(auths)) = values.get_mut("auths") else { return Ok(false) };
    if auths.remove(key).is_none() {
        return Ok(false);
    }
    config.write(&values)?;
    Ok(true)
}

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base64 with padding; `url`: with `-` and `_`.
pub(crate) fn base64(bytes: &[u8], url: bool) -> String {
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0_u32, |g, b| g << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            if i > chunk.len() {
                out.push('=');
                continue;
            }
            match STANDARD[(group >> (18 - 6 * i)) as usize & 63] {
                b'+' if url => out.push('-'),
                b'/' if url => out.push('_'),
                c => out.push(char::from(c)),
            }
        }
    }
    out
}

/// Decodes either alphabet; `None` for anything that is not UTF-8 in base64.
pub(crate) fn unbase64(text: &str) -> Option<String> {
    let mut bits = 0_u32;
    let mut count = 0;
    let mut out = Vec::new();
    for c in text.trim().trim_end_matches('=').bytes() {
        let c = match c {
            b'-' => b'+',
            b'_' => b'/',
            c => c,
        };
        let value = STANDARD.iter().position(|s| *s == c)?;
        bits = bits << 6 | value as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_both_ways() {
        for (plain, coded) in [("", ""), ("{}", "e30="), ("abc", "YWJj"), ("a", "YQ=="), ("ü?>", "w7w_Pg==")]
        {
            assert_eq!(base64(plain.as_bytes(), true), coded);
            assert_eq!(unbase64(coded).unwrap(), plain);
        }
    }
}
