//! Containers by the engine's API, timed.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::http::Connection;

/// A version that Debian's dockerd and ours both speak.
const VERSION: &str = "/v1.41";

/// One engine's API over one connection.
pub(crate) struct Api(Connection);

impl Api {
    /// Connects to the engine behind `socket`.
    pub(crate) fn open(socket: &Path) -> Result<Self> {
        Connection::open(socket).map(Self)
    }

    /// One request; what was answered, and how long that took.
    pub(crate) fn call(&mut self, method: &str, path: &str, body: &str) -> Result<(Vec<u8>, Duration)> {
        let path = format!("{VERSION}{path}");
        let start = Instant::now();
        let answer = self.0.call(method, &path, body)?;
        let elapsed = start.elapsed();
        if !(200..300).contains(&answer.status) {
            bail!("{method} {path}: {}: {}", answer.status, String::from_utf8_lossy(&answer.body).trim());
        }
        Ok((answer.body, elapsed))
    }

    /// Creates a container that sleeps; its id.
    pub(crate) fn create(&mut self, image: &str, network: &str) -> Result<(String, Duration)> {
        let request = json!({
            "Image": image,
            "Cmd": ["sleep", "1000000"],
            "HostConfig": { "NetworkMode": network },
        });
        let (body, elapsed) = self.call("POST", "/containers/create", &request.to_string())?;
        let answer: Value = serde_json::from_slice(&body)?;
        let id = answer.get("Id").and_then(Value::as_str).context("no Id")?;
        Ok((id.to_owned(), elapsed))
    }

    /// Starts it.
    pub(crate) fn start(&mut self, id: &str) -> Result<Duration> {
        self.call("POST", &format!("/containers/{id}/start"), "").map(|answer| answer.1)
    }

    /// Removes it, running or not.
    pub(crate) fn remove(&mut self, id: &str) -> Result<Duration> {
        self.call("DELETE", &format!("/containers/{id}?force=1&v=1"), "").map(|answer| answer.1)
    }

    /// All that the engine says about it.
    pub(crate) fn inspect(&mut self, id: &str) -> Result<Value> {
        Ok(serde_json::from_slice(&self.call("GET", &format!("/containers/{id}/json"), "")?.0)?)
    }

    /// The process id of its first process.
    pub(crate) fn pid(&mut self, id: &str) -> Result<u32> {
        let inspect = self.inspect(id)?;
        let pid = inspect.pointer("/State/Pid").and_then(Value::as_u64).filter(|pid| *pid > 0);
        Ok(u32::try_from(pid.with_context(|| format!("{id} does not run"))?)?)
    }

    /// The ids of all containers, and how long the list took.
    pub(crate) fn list(&mut self) -> Result<(Vec<String>, Duration)> {
        let (body, elapsed) = self.call("GET", "/containers/json?all=1", "")?;
        let list: Vec<Value> = serde_json::from_slice(&body)?;
        let ids = list.iter().filter_map(|row| row.get("Id")?.as_str().map(str::to_owned));
        Ok((ids.collect(), elapsed))
    }

    /// Removes everything; how many containers there were.
    pub(crate) fn remove_all(&mut self) -> Result<usize> {
        let ids = self.list()?.0;
        for id in &ids {
            self.remove(id)?;
        }
        Ok(ids.len())
    }
}
