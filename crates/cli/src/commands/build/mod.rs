//! `build`: sends the context, shows the engine's steps.
//!
//! To our own engine a list of the files' hashes goes first, and then only what it lacks; to others an
//! archive of everything. The same where an archive or an address is what is built from.
//!
//! | module | what |
//! |---|---|
//! | `upload` | hashes of files, remembered; what is sent |
//! | `offers` | secrets, ssh agents, further contexts |
//! | `output` | `--output` |
//! | `session` | one build by our own engine |
//! | `display` | what is shown of it |

mod display;
mod offers;
mod output;
mod session;
mod upload;

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::auth;
use crate::archive::ignore::Ignore;
use crate::archive::{Archive, Counted, Entry, Walk};
use crate::command::{Args, Command, Invocation};
use crate::failure::{Failure, Outcome, go_io_text};
use crate::flags::{Flag, Kind, Matches, NO};
use crate::format::units::human_size;
use crate::opts::resources::{swap, ulimit};
use crate::opts::{env, validate, volume};
use crate::stream::{Progress, show};
use crate::term;
use output::Output;

const FLAGS: &[Flag] = &[
    Flag::new(NO, "add-host", Kind::List, "Add a custom host-to-IP mapping (\"host:ip\")")
        .check(validate::extra_host),
    Flag::new(NO, "build-arg", Kind::List, "Set build-time variables").check(validate::env),
    Flag::new(
        NO,
        "build-context",
        Kind::List,
        "Additional build contexts (e.g., name=path, name=docker-image://image)",
    ),
    Flag::new(NO, "cache-from", Kind::Strings, "Images to consider as cache sources"),
    Flag::new(
        NO,
        "cgroup-parent",
        Kind::Str,
        "Set the parent cgroup for the \"RUN\" instructions during build",
    ),
    Flag::new(NO, "compress", Kind::Bool, "Compress the build context using gzip"),
    Flag::new(NO, "cpu-period", Kind::Int, "Limit the CPU CFS (Completely Fair Scheduler) period"),
    Flag::new(NO, "cpu-quota", Kind::Int, "Limit the CPU CFS (Completely Fair Scheduler) quota"),
    Flag::new('c', "cpu-shares", Kind::Int, "CPU shares (relative weight)"),
    Flag::new(NO, "cpuset-cpus", Kind::Str, "CPUs in which to allow execution (0-3, 0,1)"),
    Flag::new(NO, "cpuset-mems", Kind::Str, "MEMs in which to allow execution (0-3, 0,1)"),
    Flag::new(NO, "disable-content-trust", Kind::Bool, "Skip image verification (default true)")
        .default("true"),
    Flag::new('f', "file", Kind::Str, "Name of the Dockerfile (Default is \"PATH/Dockerfile\")"),
    Flag::new(NO, "force-rm", Kind::Bool, "Always remove intermediate containers"),
    Flag::new(NO, "iidfile", Kind::Str, "Write the image ID to the file"),
    Flag::new(NO, "isolation", Kind::Str, "Container isolation technology"),
    Flag::new(NO, "label", Kind::List, "Set metadata for an image"),
    Flag::new('m', "memory", Kind::Bytes, "Memory limit"),
    Flag::new(
        NO,
        "memory-swap",
        Kind::SwapBytes,
        "Swap limit equal to memory plus swap: -1 to enable unlimited swap",
    ),
    Flag::new(
        NO,
        "network",
        Kind::Str,
        "Set the networking mode for the RUN instructions during build (default \"default\")",
    )
    .default("default"),
    Flag::new(NO, "no-cache", Kind::Bool, "Do not use cache when building the image"),
    Flag::new('o', "output", Kind::List, "Output destination (format: \"type=local,dest=path\")"),
    Flag::new(NO, "platform", Kind::Str, "Set platform if server is multi-platform capable"),
    Flag::new(
        NO,
        "progress",
        Kind::Str,
        "Set type of progress output (\"auto\", \"plain\", \"tty\", \"quiet\")",
    )
    .default("auto"),
    Flag::new(NO, "pull", Kind::Bool, "Always attempt to pull a newer version of the image"),
    Flag::new('q', "quiet", Kind::Bool, "Suppress the build output and print image ID on success"),
    Flag::new(NO, "rm", Kind::Bool, "Remove intermediate containers after a successful build (default true)")
        .default("true"),
    Flag::new(
        NO,
        "secret",
        Kind::List,
        "Secret to expose to the build (format: \"id=mysecret[,src=/local/secret]\")",
    ),
    Flag::new(NO, "security-opt", Kind::Strings, "Security options"),
    Flag::new(NO, "shm-size", Kind::Bytes, "Size of \"/dev/shm\""),
    Flag::new(
        NO,
        "ssh",
        Kind::List,
        "SSH agent socket to expose to the build (format: \"default|<id>[=<socket>]\")",
    ),
    Flag::new(NO, "squash", Kind::Bool, "Squash newly built layers into a single new layer"),
    Flag::new('t', "tag", Kind::List, "Name and optionally a tag in the \"name:tag\" format"),
    Flag::new(NO, "target", Kind::Str, "Set the target build stage to build."),
    Flag::new(NO, "ulimit", Kind::Named("ulimit"), "Ulimit options (default [])").check(validate::ulimit),
];

/// `build`
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] PATH | URL | -",
    about: "Build an image from a Dockerfile",
    aliases: &["image build", "build", "builder build"],
    flags: &[FLAGS],
    args: Args::Exactly(1),
    run,
    ..Command::EMPTY
};

/// The name of a Dockerfile that is none.
const DEFAULT_DOCKERFILE: &str = "Dockerfile";

/// The context is sent before the first step is shown; an engine that takes longer to take it in
/// is shown at work instead.
const UPLOAD: std::time::Duration = std::time::Duration::from_secs(30);

/// What is sent: an archive, or the address of one.
struct Context {
    reader: Option<Box<dyn Read + Send>>,
    remote: String,
    /// The Dockerfile's name in the archive; empty to let the engine look.
    dockerfile: String,
}

fn run(invocation: &Invocation<'_>) -> Outcome {
    let matches = invocation.matches;
    if matches.bool("squash") {
        return Err(Failure::refused("NotImplemented: build --squash is not supported by seacow"));
    }
    let outputs = Output::parse(&matches.list("output"))?;
    let quiet = matches.bool("quiet") || matches.str("progress") == "quiet";
    let client = invocation.client()?;
    if let Some(image) = session::build(invocation, quiet)? {
        outputs.iter().try_for_each(|output| output.write(client, &image))?;
        return write_id(matches.str("iidfile"), &image);
    }
    offers::refuse_elsewhere(matches)?;
    let context = context(invocation.arg(0), matches.str("file"))?;
    let mut call = client.post("/build").query_some("dockerfile", &context.dockerfile);
    call = parameters(call, matches)?.query("version", "1").query_some("remote", &context.remote);
    call = call.flag("q", quiet);
    call = call.field("X-Registry-Config", auth::all(invocation.globals));
    let mut response = match context.reader {
        Some(reader) => {
            let (reader, count) = Counted::new(reader);
            let response = call.stream("application/x-tar", Box::new(reader)).send()?;
            if !quiet {
                let size = human_size(count.total(UPLOAD) as f64);
                crate::outln(&format!("Sending build context to the seacow daemon  {size}"))?;
            }
            response
        }
        None => call.send()?,
    };
    let mut buffer = Vec::new();
    let mut stdout = std::io::stdout();
    let out: &mut dyn std::io::Write = if quiet { &mut buffer } else { &mut stdout };
    let terminal = !quiet && term::is_terminal(rustix::stdio::stdout());
    let mut image = String::new();
    let shown = show(&mut response.body, Some(Progress::new(out, terminal)), |aux: &Value| {
        if let Some(id) = aux.get("ID").and_then(Value::as_str) {
            id.clone_into(&mut image);
        }
    });
    if let Err(failure) = shown {
        if quiet {
            // What would have been shown is the only explanation there is.
            eprint!("{}", String::from_utf8_lossy(&buffer));
        }
        return Err(failure);
    }
    let quiet_id = String::from_utf8_lossy(&buffer).trim().to_owned();
    let image = if quiet && image.is_empty() { quiet_id.clone() } else { image };
    if quiet {
        crate::outln(if quiet_id.is_empty() { &image } else { &quiet_id })?;
    }
    outputs.iter().try_for_each(|output| output.write(client, &image))?;
    write_id(matches.str("iidfile"), &image)
}

fn write_id(path: &str, image: &str) -> Outcome {
    if path.is_empty() {
        return Ok(());
    }
    if image.is_empty() {
        return Err(Failure::Refused(format!("server did not provide an image ID. Cannot write {path}")));
    }
    std::fs::write(path, image).map_err(|e| Failure::Refused(format!("open {path}: {}", go_io_text(&e))))
}

fn parameters<'a>(
    mut call: crate::client::Call<'a>,
    matches: &Matches,
) -> Result<crate::client::Call<'a>, Failure> {
    for tag in matches.list("tag") {
        tag.parse::<seacow_spec::reference::Reference>()
            .map_err(|e| Failure::Refused(format!("invalid argument {tag:?} for \"-t, --tag\" flag: {e}")))?;
        call = call.query("t", tag);
    }
    let json = |value: &Value| value.to_string();
    let arguments = build_arguments(&matches.list("build-arg"), std::env::var(EPOCH).ok());
    if !arguments.is_empty() {
        call = call.query("buildargs", json(&Value::Object(arguments)));
    }
    let labels = env::map(&matches.list("label"));
    if !labels.is_empty() {
        call = call.query("labels", serde_json::to_string(&labels).unwrap_or_default());
    }
    let cache_from = matches.strings("cache-from");
    if !cache_from.is_empty() {
        call = call.query("cachefrom", serde_json::to_string(&cache_from).unwrap_or_default());
    }
    let ulimits: Vec<_> = matches.list("ulimit").iter().filter_map(|u| ulimit(u).ok()).collect();
    if !ulimits.is_empty() {
        call = call.query("ulimits", serde_json::to_string(&ulimits).unwrap_or_default());
    }
    let hosts: Vec<String> =
        matches.list("add-host").iter().map(|h| validate::canonical_extra_host(h)).collect();
    if !hosts.is_empty() {
        call = call.query("extrahosts", hosts.join(","));
    }
    let security = matches.strings("security-opt");
    if !security.is_empty() {
        call = call.query("securityopt", serde_json::to_string(&security).unwrap_or_default());
    }
    for (flag, name) in [("cpu-period", "cpuperiod"), ("cpu-quota", "cpuquota"), ("cpu-shares", "cpushares")]
    {
        if matches.int(flag) != 0 {
            call = call.query(name, matches.int(flag).to_string());
        }
    }
    for (flag, name) in [("memory", "memory"), ("shm-size", "shmsize")] {
        if matches.bytes(flag) != 0 {
            call = call.query(name, matches.bytes(flag).to_string());
        }
    }
    if swap(matches) != 0 {
        call = call.query("memswap", swap(matches).to_string());
    }
    if !matches.bool("rm") {
        call = call.query("rm", "0");
    }
    let network = matches.str("network");
    Ok(call
        .query_some("cgroupparent", matches.str("cgroup-parent"))
        .query_some("cpusetcpus", matches.str("cpuset-cpus"))
        .query_some("cpusetmems", matches.str("cpuset-mems"))
        .flag("forcerm", matches.bool("force-rm"))
        .query_some("isolation", matches.str("isolation"))
        .query_some("networkmode", if network == "default" { "" } else { network })
        .flag("nocache", matches.bool("no-cache"))
        .query_some("platform", matches.str("platform"))
        .flag("pull", matches.bool("pull"))
        .query_some("target", matches.str("target")))
}

/// When everything is said to have been made: other builders pass it on from the environment, too.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// `NAME` alone is taken from our environment; null if it is not set there, which keeps the
/// Dockerfile's default.
fn build_arguments(values: &[String], epoch: Option<String>) -> serde_json::Map<String, Value> {
    let mut map = serde_json::Map::new();
    for value in values {
        let (name, value) = match value.split_once('=') {
            Some((name, value)) => (name, Value::from(value)),
            None => (value.as_str(), std::env::var(value).map_or(Value::Null, Value::from)),
        };
        map.insert(name.to_owned(), value);
    }
    if let (Some(epoch), false) = (epoch, map.contains_key(EPOCH)) {
        map.insert(EPOCH.to_owned(), epoch.into());
    }
    map
}

fn context(argument: &str, file: &str) -> Result<Context, Failure> {
    let git = ["git://", "github.com/", "git@"].iter().any(|p| argument.starts_with(p));
    if git || argument.starts_with("http://") || argument.starts_with("https://") {
        return Ok(Context { reader: None, remote: argument.to_owned(), dockerfile: file.to_owned() });
    }
    if argument == "-" {
        return from_stdin(file);
    }
    local(argument, file)
}

/// An archive begins with one of these; everything else on stdin is a Dockerfile.
fn is_archive(head: &[u8]) -> bool {
    const GZIP: &[u8] = &[0x1f, 0x8b, 0x08];
    const BZIP2: &[u8] = b"BZh";
    const XZ: &[u8] = &[0xfd, b'7', b'z', b'X', b'Z', 0];
    const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
    [GZIP, BZIP2, XZ, ZSTD].iter().any(|magic| head.starts_with(magic))
        || head.get(257..262) == Some(b"ustar")
}

fn from_stdin(file: &str) -> Result<Context, Failure> {
    if file == "-" {
        return Err(Failure::refused(
            "invalid argument: can't use stdin for both build context and dockerfile",
        ));
    }
    let mut stdin = std::io::stdin();
    let mut head = Vec::new();
    stdin.by_ref().take(512).read_to_end(&mut head)?;
    if head.is_empty() {
        return Err(Failure::refused(
            "unable to prepare context: failed to peek context header from STDIN: the Dockerfile is empty",
        ));
    }
    if is_archive(&head) {
        let reader: Box<dyn Read + Send> = Box::new(Cursor::new(head).chain(stdin));
        return Ok(Context { reader: Some(reader), remote: String::new(), dockerfile: file.to_owned() });
    }
    if !file.is_empty() {
        return Err(Failure::refused(
            "ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles",
        ));
    }
    let mut text = head;
    stdin.read_to_end(&mut text)?;
    let entries = [Ok(Entry::bytes(DEFAULT_DOCKERFILE, text))];
    Ok(Context {
        reader: Some(Box::new(Archive::new(entries.into_iter()))),
        remote: String::new(),
        dockerfile: DEFAULT_DOCKERFILE.to_owned(),
    })
}

/// The directory to build from, its links resolved.
fn context_root(directory: &str) -> Result<PathBuf, Failure> {
    let unable = |text: String| Failure::Refused(format!("unable to prepare context: {text}"));
    let root = std::fs::canonicalize(directory).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => unable(format!("path {directory:?} not found")),
        _ => unable(format!("unable to evaluate symlinks in context path: {}", go_io_text(&e))),
    })?;
    if !root.is_dir() {
        return Err(unable(format!("context must be a directory: {}", root.display())));
    }
    Ok(root)
}

fn local(directory: &str, file: &str) -> Result<Context, Failure> {
    let root = context_root(directory)?;
    let dockerfile = find_dockerfile(&root, file)?;
    let mut ignore = read_ignore(&root, file)?;
    let mut extra = Vec::new();
    let name = match dockerfile {
        Dockerfile::Inside(name) => name,
        Dockerfile::Outside(text) => {
            // It must not clash with a file of the context.
            let name = format!(".dockerfile.seacow-{}", std::process::id());
            ignore.add(&name);
            extra.push(Ok(Entry::bytes(&name, text)));
            name
        }
    };
    // The engine needs these two, whatever the user's patterns say.
    for needed in [".dockerignore", name.as_str()] {
        if extra.is_empty() && !ignore.is_empty() && ignore.leaves_out(needed) {
            ignore.add(&format!("!{needed}"));
        }
    }
    let walk = Walk::context(&root, ignore)?;
    Ok(Context {
        reader: Some(Box::new(Archive::new(walk.chain(extra)))),
        remote: String::new(),
        dockerfile: name,
    })
}

enum Dockerfile {
    /// At this path below the context.
    Inside(String),
    /// Its text.
    Outside(Vec<u8>),
}

fn find_dockerfile(root: &Path, file: &str) -> Result<Dockerfile, Failure> {
    if file == "-" {
        let mut text = Vec::new();
        std::io::stdin().read_to_end(&mut text)?;
        return Ok(Dockerfile::Outside(text));
    }
    let path = if file.is_empty() {
        let usual = root.join(DEFAULT_DOCKERFILE);
        // docker accepts the lower-case name, too.
        let lower = root.join("dockerfile");
        if !usual.exists() && lower.exists() { lower } else { usual }
    } else {
        PathBuf::from(volume::absolute(file))
    };
    let missing = |e: std::io::Error| {
        Failure::Refused(format!(
            "unable to prepare context: unable to evaluate symlinks in Dockerfile path: lstat {}: {}",
            path.display(),
            go_io_text(&e)
        ))
    };
    let real = std::fs::canonicalize(&path).map_err(missing)?;
    // The name by which it was asked for, if that lies inside: it may be a link.
    for candidate in [&path, &real] {
        if let Ok(inside) = candidate.strip_prefix(root)
            && real.starts_with(root)
        {
            return Ok(Dockerfile::Inside(inside.to_string_lossy().into_owned()));
        }
    }
    let mut text = Vec::new();
    File::open(&real).and_then(|mut f| f.read_to_end(&mut text)).map_err(missing)?;
    Ok(Dockerfile::Outside(text))
}

/// What is not to be sent: `Dockerfile.dockerignore` beside the Dockerfile, else `.dockerignore`.
fn read_ignore(root: &Path, file: &str) -> Result<Ignore, Failure> {
    let own = match file {
        "-" => None,
        "" => Some(root.join(format!("{DEFAULT_DOCKERFILE}.dockerignore"))),
        file => Some(PathBuf::from(format!("{}.dockerignore", volume::absolute(file)))),
    };
    for path in own.into_iter().chain([root.join(".dockerignore")]) {
        match std::fs::read(&path) {
            Ok(bytes) => return Ok(Ignore::parse(&String::from_utf8_lossy(&bytes))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => {
                return Err(Failure::Refused(format!("error reading .dockerignore: {}", go_io_text(&e))));
            }
        }
    }
    Ok(Ignore::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(context: Context) -> Vec<String> {
        let mut archive = tar::Archive::new(context.reader.unwrap());
        archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().display().to_string()).collect()
    }

    #[test]
    fn the_dockerfile_is_sent_whatever_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().display().to_string();
        for (name, text) in
            [("Dockerfile", "FROM bb"), (".dockerignore", "*\n!keep"), ("keep", ""), ("drop", "")]
        {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let context = local(&root, "").unwrap();
        assert_eq!(context.dockerfile, "Dockerfile");
        assert_eq!(names(context), [".dockerignore", "Dockerfile", "keep"]);
    }

    #[test]
    fn a_dockerfile_from_elsewhere_comes_along() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("ctx")).unwrap();
        std::fs::write(dir.path().join("D"), "FROM x").unwrap();
        let context =
            local(&dir.path().join("ctx").display().to_string(), &dir.path().join("D").display().to_string())
                .unwrap();
        assert!(context.dockerfile.starts_with(".dockerfile."));
        assert_eq!(names(context).len(), 1);
    }

    #[test]
    fn what_is_missing_is_said() {
        let text = local("/nope-seacow", "").err().unwrap().to_string();
        assert_eq!(text, "unable to prepare context: path \"/nope-seacow\" not found");
        let dir = tempfile::tempdir().unwrap();
        let text = local(&dir.path().display().to_string(), "").err().unwrap().to_string();
        assert!(text.contains("unable to evaluate symlinks in Dockerfile path: lstat "), "{text}");
    }

    #[test]
    fn archives_are_recognised() {
        let mut tar = vec![0; 512];
        tar[257..262].copy_from_slice(b"ustar");
        assert!(is_archive(&tar) && is_archive(&[0x1f, 0x8b, 8]) && !is_archive(b"FROM bb"));
    }
}
