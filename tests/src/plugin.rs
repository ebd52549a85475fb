//! A volume plug-in of a test's own: keeps volumes in directories, and shows them by bind mounts.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// One that listens; gone, with its mounts, when dropped.
pub struct VolumePlugin {
    state: Arc<State>,
    socket: PathBuf,
}

struct State {
    dir: PathBuf,
    gone: AtomicBool,
    /// Method and volume of every call, in order.
    calls: Mutex<Vec<String>>,
    /// Whole HTTP answers in place of its own, by method.
    answers: Mutex<BTreeMap<String, Vec<u8>>>,
    /// For whom volumes are mounted.
    users: Mutex<BTreeMap<String, BTreeSet<String>>>,
}

impl VolumePlugin {
    /// Listens on `socket`, and keeps everything in `dir`.
    pub fn start(socket: &Path, dir: &Path) -> Self {
        for place in ["data", "mnt"] {
            std::fs::create_dir_all(dir.join(place)).unwrap();
        }
        std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
        let state = Arc::new(State {
            dir: dir.to_owned(),
            gone: AtomicBool::default(),
            calls: Mutex::default(),
            answers: Mutex::default(),
            users: Mutex::default(),
        });
        let plugin = Self { state, socket: socket.to_owned() };
        plugin.listen();
        plugin
    }

    /// Listens again after [`Self::stop`], on the same socket.
    pub fn listen(&self) {
        drop(std::fs::remove_file(&self.socket));
        let listener = UnixListener::bind(&self.socket).unwrap();
        self.state.gone.store(false, Ordering::SeqCst);
        let state = Arc::clone(&self.state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if state.gone.load(Ordering::SeqCst) {
                    return;
                }
                let (state, stream) = (Arc::clone(&state), stream.unwrap());
                std::thread::spawn(move || state.serve(stream));
            }
        });
    }

    /// Listens no more; the socket's file stays, as after a kill.
    pub fn stop(&self) {
        self.state.gone.store(true, Ordering::SeqCst);
        // Wakes the thread that listens.
        drop(UnixStream::connect(&self.socket));
        crate::eventually("the plug-in is gone", || UnixStream::connect(&self.socket).is_err());
    }

    /// What was called so far: `VolumeDriver.Mount name`.
    pub fn calls(&self) -> Vec<String> {
        self.state.calls.lock().unwrap().clone()
    }

    /// How often a volume was mounted and unmounted.
    pub fn mounts_of(&self, volume: &str) -> (usize, usize) {
        let calls = self.calls();
        let count = |method| calls.iter().filter(|call| **call == format!("{method} {volume}")).count();
        (count("VolumeDriver.Mount"), count("VolumeDriver.Unmount"))
    }

    /// For how many a volume is mounted now.
    pub fn users_of(&self, volume: &str) -> usize {
        self.state.users.lock().unwrap().get(volume).map_or(0, BTreeSet::len)
    }

    /// From now on answers a method with this body and status, whatever it is asked.
    pub fn answer(&self, method: &str, status: u16, body: &str) {
        let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", body.len());
        self.state.answers.lock().unwrap().insert(method.to_owned(), (head + body).into_bytes());
    }

    /// Answers a method by itself again.
    pub fn answer_truly(&self, method: &str) {
        self.state.answers.lock().unwrap().remove(method);
    }

    /// What a volume holds.
    pub fn data(&self, volume: &str) -> PathBuf {
        self.state.dir.join("data").join(volume)
    }
}

impl Drop for VolumePlugin {
    fn drop(&mut self) {
        self.state.gone.store(true, Ordering::SeqCst);
        drop(UnixStream::connect(&self.socket));
        drop(std::fs::remove_file(&self.socket));
        for volume in self.state.users.lock().unwrap().keys() {
            drop(Command::new("umount").arg("-l").arg(self.state.dir.join("mnt").join(volume)).output());
        }
        drop(std::fs::remove_dir_all(&self.state.dir));
    }
}

impl State {
    fn serve(&self, mut stream: UnixStream) {
        let Some((method, body)) = request(&mut stream) else { return };
        let name = body["Name"].as_str().unwrap_or_default().to_owned();
        self.calls.lock().unwrap().push(format!("{method} {name}").trim_end().to_owned());
        let fixed = self.answers.lock().unwrap().get(&method).cloned();
        let answer = fixed.unwrap_or_else(|| {
            let body = self.answer(&method, &name, &body).to_string();
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
        });
        drop(stream.write_all(&answer));
    }

    fn answer(&self, method: &str, name: &str, body: &Value) -> Value {
        let (data, mnt) = (self.dir.join("data").join(name), self.dir.join("mnt").join(name));
        let known = data.is_dir();
        let id = body["ID"].as_str().unwrap_or_default().to_owned();
        match method {
            "Plugin.Activate" => json!({"Implements": ["VolumeDriver"]}),
            "VolumeDriver.Capabilities" => json!({"Capabilities": {"Scope": "global"}}),
            "VolumeDriver.Create" => {
                std::fs::create_dir_all(&data).unwrap();
                std::fs::write(self.dir.join(format!("{name}.opts")), body["Opts"].to_string()).unwrap();
                json!({"Err": ""})
            }
            "VolumeDriver.List" => {
                let entries = std::fs::read_dir(self.dir.join("data")).unwrap();
                let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
                let volumes: Vec<Value> = names.map(|name| json!({"Name": name, "Mountpoint": ""})).collect();
                json!({"Volumes": volumes, "Err": ""})
            }
            _ if !known => json!({"Err": format!("{name} is unknown here")}),
            "VolumeDriver.Remove" => {
                std::fs::remove_dir_all(&data).unwrap();
                drop(std::fs::remove_dir(&mnt));
                json!({"Err": ""})
            }
            "VolumeDriver.Get" => {
                let status = json!({"kept": "well", "users": self.count(name)});
                json!({"Volume": {"Name": name, "Mountpoint": mnt, "Status": status}})
            }
            "VolumeDriver.Path" => json!({"Mountpoint": mnt}),
            "VolumeDriver.Mount" => {
                let mut users = self.users.lock().unwrap();
                let users = users.entry(name.to_owned()).or_default();
                if users.is_empty() {
                    std::fs::create_dir_all(&mnt).unwrap();
                    assert!(
                        Command::new("mount").arg("--bind").args([&data, &mnt]).status().unwrap().success()
                    );
                }
                users.insert(id);
                json!({"Mountpoint": mnt})
            }
            "VolumeDriver.Unmount" => {
                let mut users = self.users.lock().unwrap();
                let users = users.entry(name.to_owned()).or_default();
                if users.remove(&id) && users.is_empty() {
                    assert!(Command::new("umount").arg(&mnt).status().unwrap().success());
                }
                json!({"Err": ""})
            }
            other => json!({"Err": format!("{other} is not known here")}),
        }
    }

    fn count(&self, name: &str) -> usize {
        self.users.lock().unwrap().get(name).map_or(0, BTreeSet::len)
    }
}

/// Reads one request: method and body.
fn request(stream: &mut UnixStream) -> Option<(String, Value)> {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let n = stream.read(&mut piece).ok().filter(|n| *n > 0)?;
        bytes.extend_from_slice(&piece[..n]);
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
        if bytes.len() < end + 4 + length {
            continue;
        }
        let path = String::from_utf8_lossy(&bytes).split(' ').nth(1)?.trim_start_matches('/').to_owned();
        assert!(head.contains("application/vnd.docker.plugins.v1"), "{head}");
        let body = serde_json::from_slice(&bytes[end + 4..]).unwrap_or(Value::Null);
        return Some((path, body));
    }
}
