//! Forks of real programs, confined by Docker's default profile and not as root. What they hold is checked in
//! the source and in every clone, and that neither sees what the others change.
//!
//! `SEACOW_PROGRAMS` names a directory with Debian's Redis, and Node where the machine has none;
//! `cargo xtask test` gives one. The stress test takes minutes and is run by its name:
//! `cargo xtask test -- --run-ignored=only -E 'test(five_hundred)'`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use seacow_tests::{Engine, eventually, patience};

const USER: [&str; 2] = ["-u", "1000:1000"];

fn engine() -> Option<Engine> {
    let engine = Engine::forking();
    (!engine.skip_on_docker()).then_some(engine)
}

/// Builds an image from these files.
fn build(engine: &Engine, name: &str, dockerfile: &str, context: &Path) {
    std::fs::write(context.join("Dockerfile"), dockerfile).unwrap();
    engine.docker(&["build", "-q", "-t", name, &context.to_string_lossy()]).ok();
}

fn run(engine: &Engine, name: &str, options: &[&str], command: &[&str]) {
    engine.docker(&[&["run", "-d", "--name", name], &USER[..], options, command].concat()).ok();
}

fn await_line(engine: &Engine, name: &str, line: &str) {
    eventually(line, || engine.docker(&["logs", name]).ok().lines().any(|said| said.contains(line)));
}

fn address(engine: &Engine, name: &str) -> String {
    engine.inspect(name, "{{.NetworkSettings.IPAddress}}")
}

/// Forks it when its last connection has gone; gives the names.
fn fork(engine: &Engine, name: &str, count: u32, prefix: &str) -> Vec<String> {
    eventually("it can be forked", || engine.seacow(&["fork", "--dry-run", name]).code == 0);
    engine.seacow(&["fork", "-q", "-n", &count.to_string(), "--name", prefix, name]).ok();
    if count == 1 {
        return vec![prefix.to_owned()];
    }
    (1..=count).map(|number| format!("{prefix}-{number}")).collect()
}

/// What a web server answers to a path.
fn get(address: &str, path: &str) -> String {
    let ask = || {
        let mut stream = TcpStream::connect((address, 8080)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text.rsplit_once("\r\n\r\n")?.1.to_owned())
    };
    let began = Instant::now();
    loop {
        match ask() {
            Some(answer) => return answer,
            None => assert!(began.elapsed() < patience(20), "{address} does not answer"),
        }
    }
}

/// A checksum over all that it holds is compared at every question, for which its pool of threads and its timers
/// have to work, too.
const NODE: &str = "
const http = require('http'), fs = require('fs'), crypto = require('crypto');
const data = new Map();
for (let i = 0; i < 50000; i++) data.set('k' + i, { n: i, text: 'value ' + i, list: [i, 2 * i] });
const sum = () => {
  const hash = crypto.createHash('sha256');
  for (const [key, value] of data) hash.update(key + JSON.stringify(value));
  return hash.digest('hex');
};
const first = sum();
let hits = 0;
http.createServer((question, answer) => {
  if (question.url === '/change') data.get('k7').text = 'changed';
  answer.setHeader('Connection', 'close');
  fs.readFile('/etc/hostname', () => setTimeout(() => answer.end(`${++hits} ${sum() === first}`), 5));
}).listen(8080, '0.0.0.0', () => console.log('up'));
";

/// Forks a web server that counts questions and says whether its data are as ever.
fn web_server(engine: &Engine, name: &str) {
    let at = |name: &str| address(engine, name);
    assert_eq!(get(&at(name), "/"), "1 true");
    let clones = fork(engine, name, 3, &format!("{name}-c"));
    for clone in &clones {
        assert_eq!(get(&at(clone), "/"), "2 true", "{clone}");
    }
    assert_eq!(get(&at(&clones[0]), "/change"), "3 false");
    assert_eq!(get(&at(&clones[1]), "/"), "3 true");
    assert_eq!(get(&at(name), "/"), "2 true");
    assert_eq!(get(&at(name), "/change"), "3 false");
    assert_eq!(get(&at(&clones[2]), "/"), "3 true");
    // A clone of a clone has what that has changed.
    let grandchild = fork(engine, &clones[0], 1, &format!("{name}-g"));
    assert_eq!(get(&at(&grandchild[0]), "/"), "4 false");
    assert_eq!(get(&at(&clones[0]), "/"), "4 false");
}

#[test]
fn node() {
    let Some(engine) = engine() else { return };
    let Some(image) = programs(&engine) else { return };
    if engine.docker(&["run", "--rm", image, "node", "--version"]).code != 0 {
        println!("SKIPPED: there is no Node");
        return;
    }
    for (name, options) in [("snapshot", &[][..]), ("shadow", &["--label", "seacow.forkable=true"][..])] {
        run(&engine, name, options, &[image, "node", "-e", NODE]);
        await_line(&engine, name, "up");
        web_server(&engine, name);
    }
}

const PYTHON: &str = "
import asyncio, hashlib, threading, time
data = {i: [i, str(i), {'n': i}] for i in range(50000)}
lock, beats = threading.Lock(), [0, 0, 0]
def total():
    return hashlib.sha256(repr(sorted(data.items())).encode()).hexdigest()
first = total()
def beat(n):
    while True:
        with lock: beats[n] += 1
        time.sleep(0.002)
for n in range(3): threading.Thread(target=beat, args=(n,), daemon=True).start()
hits = 0
async def answer(reader, writer):
    global hits
    question = await reader.readline()
    if b'/change' in question: data[7][1] = 'changed'
    hits += 1
    before = list(beats)
    while any(now == old for now, old in zip(beats, before)): await asyncio.sleep(0.002)
    same = await asyncio.to_thread(total) == first
    writer.write(b'HTTP/1.0 200 OK\\r\\n\\r\\n%d %s' % (hits, b'true' if same else b'false'))
    await writer.drain()
    writer.close()
async def main():
    server = await asyncio.start_server(answer, '0.0.0.0', 8080)
    print('up', flush=True)
    await server.serve_forever()
asyncio.run(main())
";

/// Three threads with a lock, a pool of threads, and a server.
#[test]
fn python_with_threads_and_a_server() {
    let Some(engine) = engine() else { return };
    if !Path::new("/usr/bin/python3").exists() {
        println!("SKIPPED: needs python3");
        return;
    }
    for (name, options) in [("snapshot", &[][..]), ("shadow", &["--label", "seacow.forkable=true"][..])] {
        run(&engine, name, options, &["host", "/usr/bin/python3", "-c", PYTHON]);
        await_line(&engine, name, "up");
        web_server(&engine, name);
    }
}

/// One connection to a Redis.
struct Redis(BufReader<TcpStream>);

impl Redis {
    fn of(engine: &Engine, name: &str) -> Self {
        let began = Instant::now();
        loop {
            match TcpStream::connect((address(engine, name).as_str(), 6379)) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                    return Self(BufReader::new(stream));
                }
                Err(error) => assert!(began.elapsed() < patience(20), "{name}: {error}"),
            }
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The answer to a command of words without spaces.
    fn ask(&mut self, command: &str) -> String {
        self.0.get_mut().write_all(format!("{command}\r\n").as_bytes()).unwrap();
        let line = self.line();
        if line.starts_with('$') && line != "$-1" { self.line() } else { line }
    }

    /// Every value, by itself.
    fn check(&mut self, keys: u32) {
        assert_eq!(self.ask("dbsize"), format!(":{keys}"));
        for key in 0..keys {
            assert_eq!(self.ask(&format!("get key:{key}")), value(key));
        }
    }
}

fn value(key: u32) -> String {
    format!("{key}-").repeat(40)
}

const KEYS: u32 = 3000;

fn redis_source(engine: &Engine, name: &str, image: &str, options: &[&str]) {
    let server = ["redis-server", "--port", "6379", "--bind", "0.0.0.0", "--protected-mode", "no"];
    let nothing_saved = ["--save", "", "--dir", "/tmp"];
    run(engine, name, options, &[&[image], &server[..], &nothing_saved].concat());
    await_line(engine, name, "Ready to accept connections");
    let mut redis = Redis::of(engine, name);
    for key in 0..KEYS {
        assert_eq!(redis.ask(&format!("set key:{key} {}", value(key))), "+OK");
    }
}

#[test]
fn redis() {
    let Some(engine) = engine() else { return };
    let Some(image) = programs(&engine) else { return };
    for (name, options) in [("snapshot", &[][..]), ("shadow", &["--label", "seacow.forkable=true"][..])] {
        redis_source(&engine, name, image, options);
        let clones = fork(&engine, name, 3, &format!("{name}-c"));
        for clone in &clones {
            Redis::of(&engine, clone).check(KEYS);
        }
        let mut first = Redis::of(&engine, &clones[0]);
        assert_eq!(first.ask("set key:1 other"), "+OK");
        assert_eq!(first.ask("del key:2"), ":1");
        assert_eq!(Redis::of(&engine, name).ask("set key:3 source"), "+OK");
        Redis::of(&engine, &clones[1]).check(KEYS);
        drop(first);
        assert_eq!(Redis::of(&engine, name).ask("get key:1"), value(1));
        let grandchild = fork(&engine, &clones[0], 1, &format!("{name}-g"));
        let mut grandchild = Redis::of(&engine, &grandchild[0]);
        assert_eq!(grandchild.ask("get key:1"), "other");
        assert_eq!(grandchild.ask("get key:2"), "$-1");
        assert_eq!(grandchild.ask("get key:3"), value(3));
    }
}

/// An image with Redis, and Node.
fn programs(engine: &Engine) -> Option<&'static str> {
    let Some(unpacked) = std::env::var_os("SEACOW_PROGRAMS").map(PathBuf::from) else {
        println!("SKIPPED: SEACOW_PROGRAMS names no directory with redis-server");
        return None;
    };
    let context = engine.exec_root().join("programs");
    std::fs::create_dir_all(&context).unwrap();
    let copied = Command::new("cp").arg("-a").arg(unpacked.join("usr")).arg(&context).status().unwrap();
    assert!(copied.success());
    build(engine, "programs", "FROM host\nCOPY usr /usr\n", &context);
    Some("programs")
}

/// An image with a static program that has one of everything (signals, timers, pipes, epoll sets, threads), and
/// patterns in its vector registers, AVX-512's where the processor has them. Each line says that all was right.
fn state(engine: &Engine) -> &'static str {
    let context = engine.exec_root().join("state");
    std::fs::create_dir_all(&context).unwrap();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/fork/tests/programs/state.c");
    let mut cc = Command::new("cc");
    cc.args(["-O1", "-static", "-pthread", "-o"]).arg(context.join("program")).arg(source);
    assert!(cc.status().unwrap().success());
    let wide = std::fs::read_to_string("/proc/cpuinfo").unwrap().contains(" avx512f ");
    println!("vector registers: {}", if wide { "AVX-512" } else { "no AVX-512 here, up to AVX2" });
    build(engine, "state", "FROM bb\nCOPY program /program\nRUN mkdir -m 777 /data\n", &context);
    "state"
}

/// Without a network; and two dozen of it at once shall leave the machine some time.
const SLOWLY: [&str; 4] = ["--network", "none", "--cpus", "0.03"];

/// The last rounds that it has done; all must have been right, and none left out.
fn rounds(engine: &Engine, name: &str) -> Vec<u64> {
    let log = engine.docker(&["logs", "--tail", "100", name]).ok();
    let round = |line: &str| {
        assert!(line.ends_with(" ok"), "{name}: {line}");
        line.split(' ').next().unwrap().parse().unwrap()
    };
    let all: Vec<u64> = log.lines().map(round).collect();
    assert!(all.windows(2).all(|pair| pair[1] == pair[0] + 1), "{name}: {all:?}");
    all
}

/// Waits until it has done more; gives the round that it is in.
fn works_on(engine: &Engine, name: &str) -> u64 {
    let last = || rounds(engine, name).last().copied().unwrap_or_default();
    let had = last();
    eventually("it works on", || last() > had.max(1) + 10);
    last()
}

#[test]
fn a_static_program_with_vector_registers() {
    let Some(engine) = engine() else { return };
    let image = state(&engine);
    let forkable = ["--label", "seacow.forkable=true"];
    for (name, options, threads) in
        [("snapshot", &[][..], "0"), ("threads", &[][..], "4"), ("shadow", &forkable[..], "2")]
    {
        let options = [&SLOWLY[..], options].concat();
        run(&engine, name, &options, &[image, "/program", "/data/file", threads]);
        let before = works_on(&engine, name);
        for clone in fork(&engine, name, 3, &format!("{name}-c")) {
            let first = engine.docker(&["logs", &clone]).ok().lines().next().map(str::to_owned);
            let first = first.unwrap_or_else(|| format!("{} ok", works_on(&engine, &clone)));
            let (first, _) = first.split_once(' ').unwrap();
            assert!(first.parse::<u64>().unwrap() > before, "{clone}: {first}");
            works_on(&engine, &clone);
            let grandchild = fork(&engine, &clone, 1, &format!("{clone}-g"));
            assert!(works_on(&engine, &grandchild[0]) > before, "{clone}");
        }
        works_on(&engine, name);
        let all = engine.docker(&["ps", "-aq"]).ok();
        engine.docker(&[&["rm", "-f"], &all.lines().collect::<Vec<_>>()[..]].concat()).ok();
    }
}

/// What the engine has of containers, and the machine of the engine.
fn left(engine: &Engine, ids: &[String]) -> Vec<String> {
    let list = |dir: PathBuf| -> Vec<String> {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
    };
    let parent = engine.cgroup_parent();
    let parent = parent.trim_start_matches('/');
    let hierarchies = list("/sys/fs/cgroup".into());
    let cgroups = hierarchies.iter().map(|name| Path::new("/sys/fs/cgroup").join(name).join(parent));
    let dirs = [
        engine.exec_root().join("c"),
        engine.data_root().join("snapshots"),
        engine.data_root().join("containers"),
    ];
    let known = |name: &String| ids.iter().any(|id| name.contains(id.as_str()));
    let mut found: Vec<String> = dirs.into_iter().chain(cgroups).flat_map(list).filter(known).collect();
    let mounts = std::fs::read_to_string(format!("/proc/{}/mountinfo", engine.daemon_pid())).unwrap();
    found.extend(mounts.lines().filter(|line| ids.iter().any(|id| line.contains(id))).map(str::to_owned));
    found
}

/// Five hundred clones of everything: none is corrupt, the sources go on, nothing is left of them.
#[test]
#[ignore = "minutes: 500 clones of Python, Node, Redis and a program with vector registers, each checked"]
fn five_hundred_clones() {
    const CALLS: u32 = 5;
    const CLONES: u32 = 25;
    let Some(engine) = engine() else { return };
    let image = programs(&engine).expect("SEACOW_PROGRAMS");
    let state = state(&engine);
    run(&engine, "python", &[], &["host", "/usr/bin/python3", "-c", PYTHON]);
    run(&engine, "node", &[], &[image, "node", "-e", NODE]);
    run(&engine, "wide", &SLOWLY, &[state, "/program", "/data/file", "2"]);
    redis_source(&engine, "redis", image, &[]);
    await_line(&engine, "python", "up");
    await_line(&engine, "node", "up");
    assert_eq!(get(&address(&engine, "python"), "/"), "1 true");
    assert_eq!(get(&address(&engine, "node"), "/"), "1 true");
    let mut checked = 0;
    for call in 0..CALLS {
        for source in ["python", "node", "wide", "redis"] {
            let clones = fork(&engine, source, CLONES, &format!("{source}-{call}"));
            for clone in &clones {
                match source {
                    "redis" => Redis::of(&engine, clone).check(KEYS),
                    "wide" => drop(works_on(&engine, clone)),
                    _ => assert_eq!(get(&address(&engine, clone), "/change"), "2 false", "{clone}"),
                }
                checked += 1;
            }
            let ids =
                engine.docker(&["ps", "-aq", "--no-trunc", "--filter", "label=seacow.fork.source"]).ok();
            let ids: Vec<String> = ids.lines().map(str::to_owned).collect();
            assert_eq!(ids.len() as u32, CLONES);
            engine
                .docker(&[&["rm", "-f"], &ids.iter().map(String::as_str).collect::<Vec<_>>()[..]].concat())
                .ok();
            eventually("nothing is left of them", || left(&engine, &ids).is_empty());
        }
    }
    println!("{checked} clones checked");
    assert_eq!(get(&address(&engine, "python"), "/"), "2 true");
    assert_eq!(get(&address(&engine, "node"), "/"), "2 true");
    Redis::of(&engine, "redis").check(KEYS);
    works_on(&engine, "wide");
}
